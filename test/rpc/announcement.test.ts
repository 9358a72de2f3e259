import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ANNOUNCEMENT_BYTES_MAX,
  type Announcement,
  ATTRIBUTES_MAX,
  decodeAnnouncement,
  encodeAnnouncement,
  GROUPS_MAX,
} from '../../src/rpc/announcement.js';
import { DIRECTIVE_GROUPS_MAX, decodeWeights, encodeWeights } from '../../src/rpc/traffic.js';
import { GroupWeight } from '../../src/schema/gen/group-weight.js';
import { ServiceAnnouncement } from '../../src/schema/gen/service-announcement.js';
import { ServiceAttribute } from '../../src/schema/gen/service-attribute.js';
import { TrafficDirective } from '../../src/schema/gen/traffic-directive.js';
import { MessageBuilder } from '../../src/schema/schema.js';

const ANNOUNCED: Announcement = {
  id: 's1',
  address: '10.0.0.1:4900',
  groups: ['red', 'blue'],
  attributes: { zone: 'a', rack: '' },
  version: '1.2.3',
  draining: true,
};

const group = fc.stringMatching(/^[a-z0-9_-]{1,32}$/);
const text = (maxLength: number, minLength = 0) => fc.string({ minLength, maxLength, unit: 'binary' });

const announcement: fc.Arbitrary<Announcement> = fc.record({
  id: text(20, 1),
  address: text(30, 1),
  groups: fc.array(group, { maxLength: 6 }),
  attributes: fc.dictionary(text(8), text(8), { maxKeys: 5, noNullPrototype: true }),
  version: text(20),
  draining: fc.boolean(),
});

const weights = fc.dictionary(fc.oneof(fc.constant(''), group), fc.integer({ min: 0, max: 10 }), {
  minKeys: 1,
  maxKeys: DIRECTIVE_GROUPS_MAX,
  noNullPrototype: true,
});

/** Bytes at random, and those of something real with some of them changed or missing. */
function damaged<T>(values: fc.Arbitrary<T>, encode: (value: T) => Uint8Array): fc.Arbitrary<Uint8Array> {
  const changes = fc.array(fc.tuple(fc.nat(2_000), fc.nat(255)), { maxLength: 4 });
  const nearly = fc.tuple(values, changes, fc.nat(2_000)).map(([value, bytesAt, length]) => {
    const bytes = encode(value);
    for (const [at, byte] of bytesAt) bytes[at % bytes.length] = byte;
    return length < bytes.length ? bytes.subarray(0, length) : bytes;
  });
  return fc.oneof(fc.uint8Array({ maxLength: 200 }), nearly);
}

/** An announcement as some program may write it; `more` are the fields of the next release. */
function announcementBytes(
  some: Partial<Announcement>,
  more?: (builder: MessageBuilder) => void,
): Uint8Array {
  const builder = new MessageBuilder(64);
  const { id, address, groups, attributes, version, draining } = { ...ANNOUNCED, ...some };
  const zone = builder.createString('zone');
  const names = groups.map(name => builder.createString(name));
  const pairs = Object.entries(attributes).map(([name, value]) => {
    builder.startVector(8, 1, 8);
    builder.addFloat64(1);
    const numbers = builder.endVector();
    const [first, second] = [builder.createString(name), builder.createString(value)];
    builder.startObject(3);
    ServiceAttribute.addName(builder, first);
    ServiceAttribute.addValue(builder, second);
    builder.addFieldOffset(2, numbers, 0);
    return builder.endObject();
  });
  const offsets = [id, address, version].map(each => builder.createString(each));
  const groupVector = ServiceAnnouncement.createGroupsVector(builder, names);
  const pairVector = ServiceAnnouncement.createAttributesVector(builder, pairs);
  builder.startObject(8);
  ServiceAnnouncement.addId(builder, offsets[0]!);
  ServiceAnnouncement.addAddress(builder, offsets[1]!);
  ServiceAnnouncement.addGroups(builder, groupVector);
  ServiceAnnouncement.addAttributes(builder, pairVector);
  ServiceAnnouncement.addVersion(builder, offsets[2]!);
  ServiceAnnouncement.addDraining(builder, draining);
  builder.addFieldOffset(6, zone, 0);
  more?.(builder);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

function weightsBytes(all: readonly (readonly [string, number])[]): Uint8Array {
  const builder = new MessageBuilder(64);
  const reason = builder.createString('why');
  const parts = all.map(([name, weight]) => {
    const text = builder.createString(name);
    builder.startObject(3);
    GroupWeight.addGroup(builder, text);
    GroupWeight.addWeight(builder, weight);
    builder.addFieldFloat64(2, 0.5, 0);
    return builder.endObject();
  });
  const vector = TrafficDirective.createWeightsVector(builder, parts);
  builder.startObject(2);
  TrafficDirective.addWeights(builder, vector);
  builder.addFieldOffset(1, reason, 0);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

describe('an announcement', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(announcement, value => {
        expect(decodeAnnouncement(encodeAnnouncement(value))).toEqual(value);
      }),
    );
  });

  it('of the next release is read without its new fields', () => {
    const later = announcementBytes({}, builder => builder.addFieldFloat64(7, 0.5, 0));
    expect(decodeAnnouncement(later)).toEqual(ANNOUNCED);
  });

  it('of an earlier release is read with the default of each field that it lacks', () => {
    const builder = new MessageBuilder(64);
    const [id, address] = [builder.createString('s1'), builder.createString('h:1')];
    builder.startObject(2);
    ServiceAnnouncement.addId(builder, id);
    ServiceAnnouncement.addAddress(builder, address);
    builder.finish(builder.endObject());
    const expected = { id: 's1', address: 'h:1', groups: [], attributes: {}, version: '', draining: false };
    expect(decodeAnnouncement(builder.asUint8Array())).toEqual(expected);
  });

  it.each<[string, Partial<Announcement>]>([
    ['no id', { id: '' }],
    ['a long id', { id: 'x'.repeat(65) }],
    ['no address', { address: '' }],
    ['a group that is no name', { groups: ['Red!'] }],
    ['too many groups', { groups: Array(GROUPS_MAX + 1).fill('red') }],
    [
      'too many attributes',
      { attributes: Object.fromEntries(Array.from({ length: ATTRIBUTES_MAX + 1 }, (_, i) => [`${i}`, ''])) },
    ],
    ['a long version', { version: 'x'.repeat(65) }],
    ['too many bytes', { attributes: { zone: 'x'.repeat(ANNOUNCEMENT_BYTES_MAX) } }],
  ])('with %s is refused, and never written', (_what, wrong) => {
    expect(decodeAnnouncement(announcementBytes(wrong))).toBeUndefined();
    expect(() => encodeAnnouncement({ ...ANNOUNCED, ...wrong })).toThrow();
  });

  it('of hostile bytes is none, or a proper one', () => {
    fc.assert(
      fc.property(damaged(announcement, encodeAnnouncement), bytes => {
        const value = decodeAnnouncement(bytes);
        if (value !== undefined) expect(decodeAnnouncement(encodeAnnouncement(value))).toEqual(value);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('a directive', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(weights, value => {
        expect(decodeWeights(encodeWeights(value))).toEqual(value);
      }),
    );
  });

  it('of the next release is read without its new fields', () => {
    expect(
      decodeWeights(
        weightsBytes([
          ['red', 0],
          ['', 10],
        ]),
      ),
    ).toEqual({ red: 0, '': 10 });
  });

  it.each<[string, readonly (readonly [string, number])[]]>([
    ['no group', []],
    ['a weight above 10', [['red', 11]]],
    ['a group that is no name', [['Red', 1]]],
    ['too many groups', Array.from({ length: DIRECTIVE_GROUPS_MAX + 1 }, (_, i) => [`g${i}`, 1])],
  ])('with %s is refused, and never written', (_what, wrong) => {
    expect(decodeWeights(weightsBytes(wrong))).toBeUndefined();
    expect(() => encodeWeights(Object.fromEntries(wrong))).toThrow();
  });

  it.each([-1, 1.5, Number.NaN])('with a weight of %d is never written', weight => {
    expect(() => encodeWeights({ red: weight })).toThrow();
  });

  it('of hostile bytes is none, or a proper one', () => {
    fc.assert(
      fc.property(damaged(weights, encodeWeights), bytes => {
        const value = decodeWeights(bytes);
        if (value !== undefined) expect(decodeWeights(encodeWeights(value))).toEqual(value);
      }),
      { numRuns: 2_000 },
    );
  });
});
