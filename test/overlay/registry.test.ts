import { beforeEach, describe, expect, it } from 'vitest';
import { HLC_EPOCH_MS, HybridClock } from '../../src/base/hlc.js';
import { FORGET_MS } from '../../src/overlay/absentees.js';
import { encodeEntry } from '../../src/overlay/codec.js';
import type { Context } from '../../src/overlay/context.js';
import { keyOfHost, MEMBERS, memberKey, type Visible, WITHDRAWN } from '../../src/overlay/entry.js';
import { Registry } from '../../src/overlay/registry.js';
import { Withdrawals } from '../../src/overlay/withdrawals.js';
import { seededRandom } from '../underlay/loop.js';
import { text } from './cluster.js';

const OWN = 7;
const OTHER = 36 ** 3;
const THIRD = 36 ** 4;

let nowMs: number;
let landscape: Set<number>;
let told: string[];
let registry: Registry;

beforeEach(() => {
  nowMs = 1_000;
  landscape = new Set([OTHER]);
  told = [];
  const quiet = () => {};
  const context: Context = {
    own: OWN,
    env: {
      clock: { wallMs: () => HLC_EPOCH_MS + nowMs, monotonicMs: () => nowMs },
      random: seededRandom(1),
      log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    },
    clock: new HybridClock(),
    budget: { bytes: 0 },
    nextEpoch: () => 1,
    send: quiet,
    tell: quiet,
  };
  const words = (one: Visible | undefined) => (one === undefined ? '-' : Buffer.from(one.bytes).toString());
  registry = new Registry(context, landscape, {
    onEntry: (before, after) => {
      const { map, key } = (after ?? before)!;
      told.push(`${map}/${key}: ${words(before)} > ${words(after)}`);
    },
  });
});

function joined(host: number): void {
  landscape.add(host);
  registry.onHost(host);
}

function left(host: number): void {
  landscape.delete(host);
  registry.onHost(host);
}

/** A neighbour brings a live write, and what it drops: the writer's own counters. */
function arrives(
  writer: number,
  counter: number,
  name: string,
  value: Uint8Array,
  drops: number[] = [],
): void {
  const entries = [{ key: name, replica: writer, counter, value }];
  const dropped = drops.flatMap(one => [writer, one, one]);
  registry.replicator.receive(OTHER, { kind: 'delta', seq: 2, entries, dropped }, nowMs);
  registry.settle();
}

function goes(writer: number, counter: number): void {
  const dropped = [writer, counter, counter];
  registry.replicator.receive(OTHER, { kind: 'delta', seq: 2, entries: [], dropped }, nowMs);
  registry.settle();
}

function owned(stamp: number, words = String(stamp)): Uint8Array {
  return encodeEntry(stamp, true, text(words));
}

function account(...stamps: number[]): Uint8Array {
  const withdrawals = new Withdrawals();
  for (const stamp of stamps) withdrawals.add(stamp, nowMs);
  return withdrawals.encode();
}

function seenNow(map: string, key: string): string | undefined {
  const found = registry.get(map, key);
  return found && Buffer.from(found.bytes).toString();
}

function pass(ms: number): void {
  nowMs += ms;
  registry.tick(nowMs);
  if (nowMs >= registry.sweepMs)
    registry.sweep(
      nowMs,
      [...landscape, OWN].sort((a, b) => a - b),
    );
}

const PEER = memberKey(OTHER, 'peer');
const NAME = `${MEMBERS}/${PEER}`;
const ACCOUNT = `${WITHDRAWN}/${keyOfHost(OTHER)}`;

describe('what is seen', () => {
  it('is shown while its owner is here, and only then', () => {
    arrives(THIRD, 1, 'm/k', owned(10));
    expect(told).toEqual([]);
    joined(THIRD);
    expect(told).toEqual(['m/k: - > 10']);
    left(THIRD);
    expect(seenNow('m', 'k')).toBeUndefined();
    joined(THIRD);
    expect(told).toEqual(['m/k: - > 10', 'm/k: 10 > -', 'm/k: - > 10']);
  });

  it('is the latest, and the next one when that goes with its host', () => {
    joined(THIRD);
    arrives(OTHER, 1, 'm/k', owned(20));
    arrives(THIRD, 1, 'm/k', owned(30));
    arrives(OTHER, 2, 'm/free', encodeEntry(20, false, text('a')));
    arrives(THIRD, 2, 'm/free', encodeEntry(20, false, text('b')));
    left(THIRD);
    expect(told).toEqual(['m/k: - > 20', 'm/k: 20 > 30', 'm/free: - > a', 'm/free: a > b', 'm/k: 30 > 20']);
    expect(seenNow('m', 'free')).toBe('b');
  });

  it('stays when it goes missing while its owner is here, for a while', () => {
    arrives(OTHER, 1, NAME, owned(10));
    goes(OTHER, 1);
    pass(9_000);
    expect(seenNow(MEMBERS, PEER)).toBe('10');
    pass(1_500);
    expect(seenNow(MEMBERS, PEER)).toBeUndefined();
    expect(told).toHaveLength(2);
    expect(registry.entries()).toMatchObject({ slots: 0, holds: 0, agentKeys: 0 });
  });

  it('stays without a word when its owner writes it again', () => {
    arrives(OTHER, 1, NAME, owned(10));
    goes(OTHER, 1);
    pass(3_000);
    arrives(OTHER, 2, NAME, owned(10));
    pass(60_000);
    expect(told).toEqual([`${NAME}: - > 10`]);
    expect(registry.entries()).toMatchObject({ holds: 0 });
  });

  it('is not given up for time in which this host did not run', () => {
    arrives(OTHER, 1, NAME, owned(10));
    goes(OTHER, 1);
    pass(90_000);
    expect(seenNow(MEMBERS, PEER)).toBe('10');
    arrives(OTHER, 2, NAME, owned(10));
    pass(60_000);
    expect(told).toHaveLength(1);
  });

  it('goes at once when its owner says so, in whatever order that arrives', () => {
    arrives(OTHER, 1, NAME, owned(10));
    arrives(OTHER, 2, ACCOUNT, encodeEntry(11, true, account(10)));
    expect(seenNow(MEMBERS, PEER)).toBe('10');
    goes(OTHER, 1);
    expect(seenNow(MEMBERS, PEER)).toBeUndefined();
    arrives(OTHER, 3, NAME, owned(12));
    goes(OTHER, 3);
    expect(seenNow(MEMBERS, PEER)).toBe('12');
    arrives(OTHER, 4, ACCOUNT, encodeEntry(13, true, account(10, 12)), [2]);
    expect(seenNow(MEMBERS, PEER)).toBeUndefined();
  });

  it('does not fall back to an older write of the same owner that is left over', () => {
    arrives(OTHER, 1, NAME, owned(10));
    // The newer one came without what it drops.
    arrives(OTHER, 2, NAME, owned(20));
    arrives(OTHER, 3, ACCOUNT, encodeEntry(21, true, account(20)));
    goes(OTHER, 2);
    expect(seenNow(MEMBERS, PEER)).toBeUndefined();
    goes(OTHER, 1);
    expect(told).toEqual([`${NAME}: - > 10`, `${NAME}: 10 > 20`, `${NAME}: 20 > -`]);
  });

  it('is nothing that nobody may write, or that makes no sense', () => {
    joined(THIRD);
    arrives(THIRD, 1, NAME, owned(10));
    arrives(OTHER, 1, NAME, encodeEntry(10, false, text('not owned')));
    arrives(OTHER, 2, `${WITHDRAWN}/${keyOfHost(THIRD)}`, owned(10));
    for (const [at, name] of [
      '',
      '/',
      'm',
      'm/',
      'No/k',
      `m/${'k'.repeat(257)}`,
      `/${keyOfHost(OTHER)}/`,
    ].entries())
      arrives(OTHER, at + 3, name, owned(10));
    arrives(OTHER, 20, 'm/k', text('no entry'));
    expect(told).toEqual([]);
  });
});

describe('what this host registers', () => {
  it('is written again when somebody removed it, under its old stamp', () => {
    registry.set('m', 'k', text('mine'), true);
    const { stamp } = registry.get('m', 'k')!;
    goes(OWN, 1);
    expect(registry.get('m', 'k')!.stamp).toBe(stamp);
    expect(registry.replicator.map.entries('m/k')).toMatchObject([{ replica: OWN, counter: 2 }]);
    expect(told).toHaveLength(1);
  });

  it('is given up when a later write has taken its place', () => {
    registry.set('m', 'k', text('mine'), true);
    const { stamp } = registry.get('m', 'k')!;
    const entries = [{ key: 'm/k', replica: OTHER, counter: 1, value: owned(stamp + 1, 'theirs') }];
    registry.replicator.receive(OTHER, { kind: 'delta', seq: 2, entries, dropped: [OWN, 1, 1] }, nowMs);
    registry.settle();
    expect(seenNow('m', 'k')).toBe('theirs');
    left(OTHER);
    expect(seenNow('m', 'k')).toBeUndefined();
    expect(registry.replicator.map.entries('m/k')).toMatchObject([{ replica: OTHER }]);
  });

  it('is shown again when a later write that did not know of it goes', () => {
    registry.set('m', 'k', text('mine'), true);
    const { stamp } = registry.get('m', 'k')!;
    arrives(OTHER, 1, 'm/k', owned(stamp + 1, 'theirs'));
    expect(seenNow('m', 'k')).toBe('theirs');
    left(OTHER);
    expect(seenNow('m', 'k')).toBe('mine');
  });

  it('is later than what it overwrites, whatever the clocks say', () => {
    const future = (nowMs + 86_400_000) * 4_096;
    arrives(OTHER, 1, 'm/k', encodeEntry(future, false, text('from tomorrow')));
    registry.set('m', 'k', text('today'), true);
    expect(seenNow('m', 'k')).toBe('today');
    expect(registry.get('m', 'k')!.stamp).toBe(future + 1);
  });

  it('is gone when the agent is left, and not there when it is carried again', () => {
    registry.set('m', 'k', text('mine'), true);
    registry.close();
    registry.open();
    expect(seenNow('m', 'k')).toBeUndefined();
    expect(registry.replicator.map.has('m/k')).toBe(false);
    registry.set('m', 'k', text('again'), true);
    expect(seenNow('m', 'k')).toBe('again');
  });
});

describe('what absent hosts have left', () => {
  it('is removed after a while by one of those who are here, and later each time where it comes back', () => {
    let byMe = 0;
    for (let host = 100; host < 140; host++) {
      joined(host);
      arrives(host, 1, `m/${host}`, owned(10));
      left(host);
    }
    pass(FORGET_MS / 2);
    expect(registry.entries()).toMatchObject({ agentKeys: 40, absentees: 40 });
    pass(FORGET_MS);
    byMe = 40 - registry.replicator.map.size;
    // The other one of the two does the rest.
    expect(byMe).toBeGreaterThan(8);
    expect(byMe).toBeLessThan(32);
    const removed = Array.from({ length: 40 }, (_, at) => at + 100).find(
      host => !registry.replicator.map.has(`m/${host}`),
    )!;
    const timesMs: number[] = [];
    let writtenMs = nowMs;
    for (let counter = 2; counter < 6; counter++) {
      arrives(removed, counter, `m/${removed}`, owned(10));
      while (registry.replicator.map.has(`m/${removed}`)) pass(1_000);
      timesMs.push(nowMs - writtenMs);
      writtenMs = nowMs;
    }
    for (const [at, ms] of timesMs.entries()) if (at > 0) expect(ms).toBeGreaterThan(1.8 * timesMs[at - 1]!);
  });

  it('goes, and what others have written there at the same time stays', () => {
    const hosts = Array.from({ length: 40 }, (_, at) => at + 100);
    for (const host of hosts) {
      joined(host);
      arrives(host, 1, `m/${host}`, owned(10));
      arrives(OTHER, host, `m/${host}`, owned(20));
      left(host);
    }
    for (let at = 0; at < 100; at++) pass(1_000);
    expect(hosts.map(host => seenNow('m', String(host)))).toEqual(hosts.map(() => '20'));
    const cleared = hosts.filter(host => registry.replicator.map.values(`m/${host}`).length === 1);
    // The other one of the two does the rest.
    expect(cleared.length).toBeGreaterThan(8);
    expect(registry.entries()).toMatchObject({ absentees: 40 - cleared.length });
  });
});
