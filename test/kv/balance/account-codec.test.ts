import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ACCOUNT_BYTES_MAX,
  accountKey,
  decodeReplica,
  decodeStore,
  encodeReplica,
  encodeStore,
  MEMBERS_MAX,
  type PublishedReplica,
  type PublishedStore,
  replicaKey,
  storeKey,
} from '../../../src/kv/balance/account-codec.js';
import { StoreRecord } from '../../../src/schema/gen/store-record.js';
import { MessageBuilder } from '../../../src/schema/schema.js';

const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const figure = fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }).map(value => value + 0);

const replica: fc.Arbitrary<PublishedReplica> = fc.record({
  epoch: id,
  boundary: fc
    .tuple(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ minLength: 1, maxLength: 20 }))
    .map(([start, more]) => ({ start, end: new Uint8Array([...start, ...more]) })),
  replica: id,
  leads: fc.boolean(),
  term: count,
  members: fc.array(fc.record({ replica: id, store: id, role: fc.constantFrom(0, 1) }), {
    minLength: 1,
    maxLength: MEMBERS_MAX,
  }),
  membersAt: count,
  genesis: id,
  pristine: fc.boolean(),
  changing: fc.boolean(),
  sole: fc.boolean(),
  load: fc.record({
    bytes: figure,
    writesPerSecond: figure,
    queriesPerSecond: figure,
    queryMicros: figure,
    fanOut: figure,
    splitKey: fc.uint8Array({ maxLength: 40 }),
    epochSinceMs: count,
  }),
});

const store: fc.Arbitrary<PublishedStore> = fc.record({
  host: id,
  name: fc.string({ maxLength: 40, unit: 'binary' }),
  cores: fc.integer({ min: 1, max: 1024 }),
  draining: fc.boolean(),
  services: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 32 }),
});

function damaged<T>(values: fc.Arbitrary<T>, encode: (value: T) => Uint8Array): fc.Arbitrary<Uint8Array> {
  const changes = fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { maxLength: 4 });
  return fc.tuple(values, changes, fc.nat(4000)).map(([value, bytesAt, length]) => {
    const bytes = encode(value);
    for (const [at, byte] of bytesAt) bytes[at % bytes.length] = byte;
    return length < bytes.length ? bytes.subarray(0, length) : bytes;
  });
}

describe('accounts', () => {
  it('are read as they were written, and fit an entry of the shared map', () => {
    fc.assert(
      fc.property(replica, store, (one, other) => {
        const bytes = encodeReplica(one);
        expect(bytes.length).toBeLessThanOrEqual(ACCOUNT_BYTES_MAX);
        expect(decodeReplica(bytes)).toEqual(one);
        expect(decodeStore(encodeStore(other))).toEqual(other);
      }),
    );
  });

  it('keep none of the bytes that they were read from', () => {
    const [one] = fc.sample(replica, 1);
    const bytes = encodeReplica(one!);
    const read = decodeReplica(bytes);
    bytes.fill(0xff);
    expect(read).toEqual(one);
  });

  it('that are damaged are refused or read as something well-formed, and never throw', () => {
    fc.assert(
      fc.property(damaged(replica, encodeReplica), damaged(store, encodeStore), (one, other) => {
        const read = decodeReplica(one);
        if (read !== undefined) expect(decodeReplica(encodeReplica(read))).toEqual(read);
        const account = decodeStore(other);
        if (account !== undefined) expect(decodeStore(encodeStore(account))).toEqual(account);
      }),
      { numRuns: 500 },
    );
    expect(decodeReplica(new Uint8Array(ACCOUNT_BYTES_MAX + 1))).toBeUndefined();
  });

  it('of the next release are read without their new fields', () => {
    const builder = new MessageBuilder(64);
    const [name, zone] = [builder.createString('n1'), builder.createString('north')];
    builder.startObject(6);
    StoreRecord.addHost(builder, 5);
    StoreRecord.addName(builder, name);
    StoreRecord.addCores(builder, 4);
    builder.addFieldOffset(5, zone, 0);
    builder.finish(builder.endObject());
    const read = { host: 5, name: 'n1', cores: 4, draining: false, services: [] };
    expect(decodeStore(builder.asUint8Array())).toEqual(read);
  });

  it('have keys that name store and range', () => {
    fc.assert(
      fc.property(id, id, (one, range) => {
        expect(accountKey(storeKey(one))).toEqual({ store: one, range: 0 });
        expect(accountKey(replicaKey(one, range))).toEqual({ store: one, range });
      }),
    );
    for (const key of ['', 's/', 's/0', 'r/1', 'r/1/0', 's/01', 'x/1', 's/zzzzzzzzzzz', 'r/1/2/3', 's/1 '])
      expect(accountKey(key)).toBeUndefined();
  });
});
