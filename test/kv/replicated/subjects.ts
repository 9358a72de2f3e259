import { expect } from 'vitest';
import { ByteReader, ByteWriter } from '../../../src/base/bytes.js';
import { type Route, writeRoute } from '../../../src/contract/dist.js';
import { Message, writeMessage } from '../../../src/contract/message.js';
import { DIST_COMMAND, DistCoprocessor } from '../../../src/dist/dist.js';
import { INBOX_COMMAND, InboxCoprocessor } from '../../../src/inbox/inbox.js';
import { KIND } from '../../../src/inbox/inbox-keys.js';
import type { KvReader } from '../../../src/kv/engine.js';
import { kindAt, ordered53, rawText, readOrdered53, SERVICE, tenantKey } from '../../../src/kv/keys.js';
import { MapCoprocessor } from '../../../src/kv/map/map.js';
import { encodeDelete, encodePut, mapKey } from '../../../src/kv/map/map-codec.js';
import { type Coprocessor, wholeService } from '../../../src/kv/range.js';
import { RETAIN_COMMAND, RetainCoprocessor } from '../../../src/retain/retain.js';
import { topicKey } from '../../../src/retain/topic-key.js';
import { hashKeys } from '../../../src/topic/hash.js';
import { writeAttach, writeInsert } from '../store-harness.js';

/** A command, and a key of the range that it is for. */
export interface Asked {
  readonly key: Uint8Array;
  readonly body: Uint8Array;
}

/** What a service's ranges are asked in a story in which they are divided and joined, and what must be there then. */
export interface Subject {
  readonly name: string;
  readonly service: number;
  readonly coprocessor: (range: number) => Coprocessor;
  /** In either half. */
  readonly low: Uint8Array;
  readonly high: Uint8Array;
  readonly splitKey: Uint8Array;
  /** In the first, second and third part of the story: before the division, between, and after the union. */
  asked(part: number, reader: KvReader): readonly Asked[];
  /** What an entry says of itself; the same wherever its range was divided. */
  told(key: Uint8Array, value: Uint8Array, reader: KvReader): string;
  /** What the range says of itself is what lies in it. */
  check(coprocessor: Coprocessor, reader: KvReader): void;
}

const TENANTS = ['acme', 'beta', 'yoyo', 'zeta'];
const SPLIT_TENANT = 'm';

function tenantOnly(service: number, tenant: string): Uint8Array {
  return rawText(new ByteWriter(32).u8(service), tenant).u8(0).copy();
}

function entry(key: Uint8Array, value: Uint8Array): string {
  return `${Buffer.from(key).toString('latin1')}=${Buffer.from(value).toString('latin1')}`;
}

/** Count and bytes of the entries that `isCounted`. */
function countOf(service: number, reader: KvReader, isCounted = (_: Uint8Array) => true) {
  const { start, end } = wholeService(service);
  const counted = { entries: 0, bytes: 0 };
  reader.scan(start, end, (key, value) => {
    if (!isCounted(key)) return true;
    counted.entries++;
    counted.bytes += key.length + value.length;
    return true;
  });
  return counted;
}

const map: Subject = {
  name: 'map',
  service: SERVICE.MAP,
  coprocessor: range => new MapCoprocessor(range),
  low: mapKey('acme'),
  high: mapKey('zeta'),
  splitKey: mapKey('m'),
  asked(part) {
    const value = Buffer.from(`of ${part}`);
    const puts = TENANTS.flatMap(name => [`${name}/${part}`, `${name}/always`]).map(key => ({
      key: mapKey(key),
      body: encodePut({ key, value, nowMs: part }),
    }));
    if (part === 0) return puts;
    const gone = TENANTS.slice(1, 3).map(name => `${name}/${part - 1}`);
    return [...puts, ...gone.map(key => ({ key: mapKey(key), body: encodeDelete({ key, nowMs: part }) }))];
  },
  // Revisions are of the range: they follow from how it was divided.
  told: (key, value) => entry(key, value.subarray(3)),
  check(coprocessor, reader) {
    const { entries, bytes, revision } = coprocessor as MapCoprocessor;
    expect({ entries, bytes }).toEqual(countOf(SERVICE.MAP, reader));
    // Before the division; by either half, from there; and behind the greater of both.
    expect(revision).toBe(8 + 4 + 8);
  },
};

function messageOf(topic: string, payload: string, expirySeconds = -1): Message {
  const message = new Message();
  message.topic = Buffer.from(topic);
  message.payload = Buffer.from(payload);
  message.publishedAtMs = 1000;
  message.expirySeconds = expirySeconds;
  return message;
}

function retained(tenant: string, message: Message): Asked {
  const body = new ByteWriter(64).u8(RETAIN_COMMAND.SET).text(tenant).u53(1000);
  writeMessage(body, message);
  return { key: tenantOnly(SERVICE.RETAIN, tenant), body: body.copy() };
}

const retain: Subject = {
  name: 'retain',
  service: SERVICE.RETAIN,
  coprocessor: range =>
    new RetainCoprocessor(range, { messagesMax: 100, bytesMax: 10_000 }, { monotonicMs: () => 0 }),
  low: tenantOnly(SERVICE.RETAIN, TENANTS[0]!),
  high: tenantOnly(SERVICE.RETAIN, TENANTS[3]!),
  splitKey: tenantOnly(SERVICE.RETAIN, SPLIT_TENANT),
  asked(part) {
    const set = TENANTS.flatMap(tenant => [
      retained(tenant, messageOf(`${part}`, 'x'.repeat(part + 1))),
      retained(tenant, messageOf('always', `${part}`, 10 + part)),
      retained(tenant, messageOf('soon', `${part}`, 1)),
    ]);
    if (part === 0) return set;
    const cleared = TENANTS.slice(1, 3).map(tenant => retained(tenant, messageOf(`${part - 1}`, '')));
    return [...set, ...cleared, ...TENANTS.map(expired)];
  },
  told: entry,
  check(coprocessor, reader) {
    const { messages, bytes } = coprocessor as RetainCoprocessor;
    const counted = countOf(SERVICE.RETAIN, reader, key => key[kindAt(key)] === 0x74);
    expect({ entries: messages, bytes }).toEqual(counted);
    // Topics 0, 1 and 2, of which two tenants have cleared two, and `always`; `soon` has expired.
    expect(messages).toBe(TENANTS.length * 4 - 4);
  },
};

/** The message `soon` is due. */
function expired(tenant: string): Asked {
  const dueKey = ordered53(tenantKey(new ByteWriter(64), SERVICE.RETAIN, tenant, 0x78), 2000);
  const body = new ByteWriter(64).u8(RETAIN_COMMAND.EXPIRE).u32(1).text(tenant);
  body.blob(dueKey.raw(Buffer.from('soon')).copy());
  return {
    key: topicKey(dueKey, SERVICE.RETAIN, tenant, 0x74, Buffer.from('soon')).copy(),
    body: body.copy(),
  };
}

const INBOX_LIMITS = { queueMessagesMax: 100, queueBytesMax: 10_000, queueDropPolicy: 'newest' } as const;

/** The session's number, as the range has it. */
function instanceOf(tenant: string, clientId: string, reader: KvReader): number {
  const key = rawText(tenantKey(new ByteWriter(64), SERVICE.INBOX, tenant, KIND.SESSION), clientId).copy();
  const stored = reader.get(key);
  return stored === undefined ? 0 : new ByteReader(stored, 1).u53();
}

const inbox: Subject = {
  name: 'inbox',
  service: SERVICE.INBOX,
  coprocessor: range => new InboxCoprocessor(range, INBOX_LIMITS),
  low: tenantOnly(SERVICE.INBOX, TENANTS[0]!),
  high: tenantOnly(SERVICE.INBOX, TENANTS[3]!),
  splitKey: tenantOnly(SERVICE.INBOX, SPLIT_TENANT),
  asked(part, reader) {
    return TENANTS.flatMap((tenant, at) => {
      const clients = [`always`, `of${part}`];
      const attached = clients.map(clientId => {
        const body = new ByteWriter(64).u8(INBOX_COMMAND.ATTACH);
        writeAttach(body, { tenant, clientId, nowMs: 1000 });
        return body;
      });
      const insert = new ByteWriter(64).u8(INBOX_COMMAND.INSERT);
      writeInsert(
        insert,
        messageOf('a/b', `${tenant}${part}`),
        [{ clientId: 'always' }, { clientId: `of${part}` }],
        0,
        0,
        tenant,
      );
      const bodies = [...attached, insert];
      if (part === 2 && at % 2 === 0) {
        // What was queued first is acknowledged, under the number that the session always had.
        const instance = instanceOf(tenant, 'always', reader);
        expect(instance).toBeGreaterThan(0);
        bodies.push(new ByteWriter(64).u8(INBOX_COMMAND.ACKED).text(tenant).u53(instance).u32(1).u53(1));
      }
      return bodies.map(body => ({ key: tenantOnly(SERVICE.INBOX, tenant), body: body.copy() }));
    });
  },
  // Numbers of sessions follow from how their range was divided: what has one is told by whose it is.
  told(key, value, reader) {
    const at = kindAt(key);
    const tenant = Buffer.from(key.subarray(1, at - 1)).toString();
    const kind = key[at]!;
    if (kind === KIND.SESSION) return entry(key, Buffer.concat([value.subarray(0, 1), value.subarray(9)]));
    expect([KIND.INSTANCE, KIND.DATA]).toContain(kind);
    const owner = rawText(tenantKey(new ByteWriter(64), SERVICE.INBOX, tenant, KIND.INSTANCE), '');
    const clientId = Buffer.from(reader.get(owner.raw(key, at + 1, at + 8).copy())!).toString();
    expect(instanceOf(tenant, clientId, reader)).toBe(readOrdered53(key, at + 1));
    const rest = Buffer.from(key.subarray(at + 8)).toString('latin1');
    return `${tenant}/${clientId} ${kind} ${rest}=${Buffer.from(value).toString('latin1')}`;
  },
  check(coprocessor, reader) {
    const { start, end } = wholeService(SERVICE.INBOX);
    const instances: number[] = [];
    reader.scan(start, end, key => {
      const at = kindAt(key);
      if (key[at] === KIND.INSTANCE) instances.push(readOrdered53(key, at + 1));
      return true;
    });
    expect(instances.length).toBe(TENANTS.length * 4);
    expect(new Set(instances).size).toBe(instances.length);
    // Sessions and their queues.
    const { bytes } = countOf(SERVICE.INBOX, reader, key =>
      [KIND.SESSION, KIND.DATA].some(kind => key[kindAt(key)] === kind),
    );
    expect((coprocessor as InboxCoprocessor).hints(reader).bytes).toBe(bytes);
  },
};

function routes(
  command: number,
  tenant: string,
  ...all: readonly Pick<Route, 'filter' | 'receiver'>[]
): Uint8Array {
  const body = new ByteWriter(64).u8(command).text(tenant).u32(all.length);
  for (const route of all)
    writeRoute(body, { group: '', ordered: false, options: 1, subscriptionId: 0, members: 0, ...route });
  return body.copy();
}

const DIST_TENANT = 'acme';

function filterKey(filter: string): Uint8Array {
  const key = tenantKey(new ByteWriter(64), SERVICE.DIST, DIST_TENANT, 0x72);
  return rawText(key, filter).u8(0).copy();
}

/** Divided within a tenant, between two filters. */
const dist: Subject = {
  name: 'dist',
  service: SERVICE.DIST,
  coprocessor: () => new DistCoprocessor(hashKeys(7), 100),
  low: filterKey('acme'),
  high: filterKey('zeta'),
  splitKey: filterKey('m'),
  asked(part) {
    const asked = TENANTS.flatMap(filter => {
      const add = (name: string) => {
        const inbox = { filter, receiver: { kind: 'inbox', clientId: name } } as const;
        const shard = { filter, receiver: { kind: 'shard', node: name, shard: 1 } } as const;
        return routes(DIST_COMMAND.ADD, DIST_TENANT, inbox, shard);
      };
      const bodies = [add(`of${part}`), add('always')];
      if (part > 0) {
        const gone = { filter, receiver: { kind: 'inbox', clientId: `of${part - 1}` } } as const;
        bodies.push(routes(DIST_COMMAND.REMOVE, DIST_TENANT, gone));
      }
      return bodies.map(body => ({ key: filterKey(filter), body }));
    });
    const purge = new ByteWriter(32).u8(DIST_COMMAND.PURGE_NODE).text('of0').copy();
    if (part === 1) for (const key of [this.low, this.high]) asked.push({ key, body: purge });
    return asked;
  },
  told: entry,
  check(coprocessor, reader) {
    const { size } = coprocessor as DistCoprocessor;
    const { entries, bytes } = countOf(SERVICE.DIST, reader);
    expect(size).toBe(entries);
    const hints = (coprocessor as DistCoprocessor).hints(reader);
    // To each filter: the sessions `always` and `of2`, and the shards of these and of `of1`.
    expect([hints.bytes, hints.fanOut, entries]).toEqual([bytes, 5, 5 * TENANTS.length]);
  },
};

export const SUBJECTS: readonly Subject[] = [map, retain, inbox, dist];
