import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { storeKey } from '../../../src/kv/balance/account-codec.js';
import { Board } from '../../../src/kv/balance/board.js';
import { DEFAULT_RULES } from '../../../src/kv/balance/rules.js';
import {
  decodeSteering,
  encodeSteering,
  NO_STEERING,
  RULES_KEY,
  rulesOf,
} from '../../../src/kv/balance/rules-entry.js';
import { Stewards } from './stewards.js';

const STEERING = { changes: { voters: 5 }, stopped: ['merge'], atMs: 7 };

function entry(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

describe('the entry of rules', () => {
  it('is read as it was written', () => {
    expect(decodeSteering(encodeSteering(STEERING))).toEqual(STEERING);
    expect(decodeSteering(encodeSteering(NO_STEERING))).toEqual(NO_STEERING);
  });

  it.each([
    ['of a newer release', { version: 2, rules: {}, stopped: [], atMs: 1 }],
    ['with a rule that nobody knows', { version: 1, rules: { speed: 9 }, stopped: [], atMs: 1 }],
    ['with a value out of bounds', { version: 1, rules: { voters: 4 }, stopped: [], atMs: 1 }],
    ['that contradicts itself', { version: 1, rules: { mergeBytes: 2 ** 40 }, stopped: [], atMs: 1 }],
    ['without balancers', { version: 1, rules: {}, atMs: 1 }],
    ['with balancers that are no names', { version: 1, rules: {}, stopped: [7], atMs: 1 }],
    ['with too many of them', { version: 1, rules: {}, stopped: Array(33).fill('merge'), atMs: 1 }],
    ['of no time', { version: 1, rules: {}, stopped: [], atMs: -1 }],
    ['that is a list', []],
    ['that is nothing', null],
  ])('%s is none', (_, value) => {
    expect(decodeSteering(entry(value))).toBeUndefined();
  });

  it('never throws', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map(text => Buffer.from(text)),
        ),
        bytes => {
          decodeSteering(bytes);
        },
      ),
    );
    expect(decodeSteering(new Uint8Array(5000).fill(0x20))).toBeUndefined();
  });

  it('gives the rules in effect, and none where it contradicts what was there before', () => {
    expect(rulesOf(STEERING)).toEqual({ ...DEFAULT_RULES, voters: 5 });
    const small = { ...DEFAULT_RULES, splitBytes: 2 ** 20, mergeBytes: 0 };
    expect(rulesOf({ changes: { mergeBytes: 2 ** 20 }, stopped: [], atMs: 1 }, small)).toBe(small);
  });

  it('is heard by a board, which keeps to the last that it could read', () => {
    const board = new Board({ wallMs: () => 1, monotonicMs: () => 1 });
    expect(board.steering).toBe(NO_STEERING);
    expect(board.hear(RULES_KEY, encodeSteering(STEERING))).toBe(true);
    expect(board.steering).toEqual(STEERING);
    expect(board.hear(RULES_KEY, entry({ version: 2 }))).toBe(false);
    expect(board.steering).toEqual(STEERING);
    expect(board.isSteeringLost).toBe(false);
    // All nodes were stopped, or one that slept has told what it knew.
    for (const older of [undefined, encodeSteering({ ...STEERING, atMs: 6, stopped: [] })]) {
      expect(board.hear(RULES_KEY, older)).toBe(false);
      expect([board.steering, board.isSteeringLost]).toEqual([STEERING, true]);
    }
    expect(board.hear(RULES_KEY, encodeSteering({ ...NO_STEERING, atMs: 8 }))).toBe(true);
    expect([board.steering.stopped, board.isSteeringLost]).toEqual([[], false]);
    expect(board.landscape().stores).toEqual([]);
  });

  it('is in effect at every steward from its next look on', () => {
    const world = new Stewards();
    const running = () =>
      world.stewards.map(({ governor }) =>
        governor.states().flatMap(({ name, running: is }) => (is ? [] : [name])),
      );
    expect(running()).toEqual([[], [], []]);
    world.put(RULES_KEY, encodeSteering({ changes: {}, stopped: ['merge', 'a-later-one'], atMs: 1 }));
    world.look();
    expect(running()).toEqual([['merge'], ['merge'], ['merge']]);
    world.put(RULES_KEY, encodeSteering({ changes: { bootstrapAfterMs: 0 }, stopped: [], atMs: 2 }));
    for (const steward of world.stewards) steward.isSettled = true;
    world.look();
    expect(running()).toEqual([[], [], []]);
    // The changed rule: a first range without any wait.
    world.cluster.settle();
    expect(world.cluster.hosts.flatMap(({ store }) => [...store.replicas]).length).toBe(1);
  });
});

describe('a store that is forgotten', () => {
  it('is gone from the landscape with its replicas; one that lives says it all again', () => {
    const world = new Stewards();
    world.cluster.found(40);
    world.look();
    const [first, second] = world.stewards;
    const id = world.idOf(1);
    const stores = () => first!.board.landscape().stores.map(({ store }) => store);
    const changes = first!.board.forgetting(id);
    expect(changes.map(({ key }) => key)).toEqual([storeKey(id), `r/${id.toString(36)}/14`]);
    for (const { key, bytes } of changes) first!.board.hear(key, bytes);
    expect(stores()).not.toContain(id);
    for (const { key, bytes } of changes) second!.board.hear(key, bytes);
    world.look();
    expect(stores()).toContain(id);
    const account = first!.board.landscape().stores.find(({ store }) => store === id);
    expect(account?.replicas.map(({ range }) => range)).toEqual([40]);
  });
});
