import { describe, expect, it } from 'vitest';
import { balancersText, listedText, rangesText, rulesText, storesText } from '../../src/node/kv-table.js';
import {
  keyOf,
  keyWords,
  namedRange,
  namedStore,
  rangesReport,
  storesReport,
} from '../../src/node/kv-view.js';
import { landscapeOf, NOW_MS, type RangeSpec, soleReplica } from './kv-stores.js';

const WHOLE: RangeSpec = { id: 40, stores: [1, 2, 3] };
const LOST = { alive: false };

function stateOf(range: RangeSpec, ...lost: number[]): unknown {
  const { ranges } = rangesReport(landscapeOf(4, [range], Object.fromEntries(lost.map(id => [id, LOST]))));
  const [row] = ranges;
  return [row!.state, row!.leader?.name ?? null];
}

describe('ranges', () => {
  it('are as well as their voters are', () => {
    expect(stateOf(WHOLE)).toEqual(['well', 'apply-0@a']);
    expect(stateOf({ ...WHOLE, more: { changing: true } })).toEqual(['changing', 'apply-0@a']);
    expect(stateOf(WHOLE, 2)).toEqual(['degraded', 'apply-0@a']);
    expect(stateOf({ ...WHOLE, leader: 0 })).toEqual(['no-leader', null]);
    // Its leader has not heard yet that it is none.
    expect(stateOf(WHOLE, 2, 3)).toEqual(['no-quorum', 'apply-0@a']);
    expect(stateOf(WHOLE, 1, 2, 3)).toEqual(['no-quorum', null]);
    expect(stateOf({ ...WHOLE, learners: [4] }, 4)).toEqual(['well', 'apply-0@a']);
  });

  it('are told once, as their leader has them, in the order of their keys', () => {
    const ranges = rangesReport(
      landscapeOf(3, [
        { id: 41, from: 'k', stores: [1, 2, 3], leader: 2 },
        { id: 40, to: 'k', stores: [1, 2, 3], leader: 3 },
      ]),
    ).ranges;
    expect(ranges.map(({ id, from, to, leader, service }) => [id, from, to, leader?.name, service])).toEqual([
      ['14', '', 'k', 'apply-0@c', 'map'],
      ['15', 'k', '', 'apply-0@b', 'map'],
    ]);
    expect(ranges[0]!.members.map(({ name, role }) => `${name} ${role}`)).toEqual([
      'apply-0@a voter',
      'apply-0@b voter',
      'apply-0@c voter',
    ]);
  });

  it('are told as the newest replica has them, of the living if there are any, where nobody leads', () => {
    const landscape = landscapeOf(3, [{ ...WHOLE, leader: 0 }], { 3: LOST });
    const epochs = [2, 5, 9];
    const stores = landscape.stores.map((account, at) => ({
      ...account,
      replicas: account.replicas.map(replica => ({ ...replica, epoch: epochs[at]! })),
    }));
    expect(rangesReport({ stores }).ranges.map(({ epoch }) => epoch)).toEqual([5]);
  });

  it('that nodes have for themselves come last, one for each', () => {
    const more = Object.fromEntries([1, 2].map(id => [id, { replicas: [soleReplica(id)], alive: id === 1 }]));
    const { ranges } = rangesReport(landscapeOf(3, [{ id: 1, stores: [3] }], more));
    expect(
      ranges.map(({ id, sole, service, state, leader }) => [id, sole, service, state, leader?.name]),
    ).toEqual([
      ['1', false, 'map', 'well', 'apply-0@c'],
      ['1', true, 'inbox', 'well', 'apply-0@a'],
      ['1', true, 'inbox', 'lost', undefined],
    ]);
  });

  it('stand in a table that lines up', () => {
    const more = { 3: LOST, 1: {} };
    const landscape = landscapeOf(
      4,
      [
        { id: 40, to: 'orders/\u001b[31m', stores: [1, 2, 3], learners: [4] },
        { id: 41, from: 'orders/', stores: [3], more: { load: landscapeLoad } },
      ],
      more,
    );
    const lines = rangesText(rangesReport(landscape)).split('\n');
    expect(lines.slice(3)).toEqual([
      '2 ranges of the cluster.',
      '1 cannot be read or written: "shoalmq cluster doctor" says why.',
    ]);
    const [columns] = lines;
    for (const [word, value] of Object.entries({ SERVICE: 'map', STATE: 'degraded', VOTERS: 'apply-0@a' }))
      expect(lines[1]!.slice(columns!.indexOf(word))).toMatch(new RegExp(`^${value}`));
    expect(lines[1]).toContain('apply-0@a apply-0@b apply-0@c(lost) +apply-0@d');
    expect(lines[2]).toMatch(/no quorum +- +apply-0@c\(lost\) +1 +3\.0 GiB +12\/s +1\.5\/s$/);
    // What a key holds must not steer a terminal.
    expect(lines.join('')).not.toContain('\u001b');
  });
});

const landscapeLoad = {
  ...{ bytes: 3 * 1024 ** 3, writesPerSecond: 12, queriesPerSecond: 1.5, queryMicros: 0, fanOut: 0 },
  ...{ splitKey: new Uint8Array(), epochSinceMs: 0 },
};

describe('keys', () => {
  it('are shown as text where they are one, and read back', () => {
    expect(keyWords(Buffer.from('m'))).toBe('');
    expect(keyWords(Buffer.from('morders/äß'))).toBe('orders/äß');
    expect(keyWords(Buffer.from('iacme\0\u0001ab'))).toBe('acme/0x016162');
    expect(keyWords(Uint8Array.of(0x6d, 0xff, 1))).toBe('0xff01');
    expect(keyWords(Buffer.from('m\u0007'))).toBe('0x07');
    expect(Buffer.from(keyOf(0x6d, 'orders/'))).toEqual(Buffer.from('morders/'));
    expect([...keyOf(0x6d, '0xff01')]).toEqual([0x6d, 0xff, 1]);
    expect(Buffer.from(keyOf(0x6d, '0xf'))).toEqual(Buffer.from('m0xf'));
  });
});

describe('stores', () => {
  const landscape = landscapeOf(3, [WHOLE, { id: 41, stores: [2] }], {
    1: { replicas: [...landscapeOf(3, [WHOLE]).stores[0]!.replicas, soleReplica(1)] },
    2: { draining: true },
    3: { alive: false, sinceMs: NOW_MS - 7_200_000 },
  });

  it('tell what they hold and lead', () => {
    const { stores } = storesReport(landscape, [1], NOW_MS);
    expect(
      stores.map(({ name, state, leads, replicas, sole, isOwn }) => [
        name,
        state,
        leads,
        replicas,
        sole,
        isOwn,
      ]),
    ).toEqual([
      ['apply-0@a', 'alive', 1, 1, 1, true],
      ['apply-0@b', 'draining', 1, 2, 0, false],
      ['apply-0@c', 'lost', 0, 1, 0, false],
    ]);
    const text = storesText({ stores });
    expect(text).toMatch(/^\* {2}apply-0@a +1 +alive +60 s +map +1 +1 +1 +4\.0 KiB +2$/m);
    expect(text).toMatch(/3 stores, 1 lost; \* are those of the asked node\.$/);
  });

  it('and ranges are found by what operators call them', () => {
    expect(namedStore(landscape, 'apply-0@b')).toMatchObject({ kind: 'found', value: { store: 2 } });
    expect(namedStore(landscape, '3')).toMatchObject({ kind: 'found', value: { store: 3 } });
    expect(namedStore(landscape, 'b')).toMatchObject({
      kind: 'unknown',
      why: expect.stringContaining('no store is called b'),
    });
    const twice = landscapeOf(2, [], { 2: { name: 'apply-0@a', alive: false } });
    const ids = expect.stringContaining(
      '2 stores are called apply-0@a: name one by its id, 1 (alive), 2 (lost)',
    );
    expect(namedStore(twice, 'apply-0@a')).toMatchObject({ kind: 'unknown', why: ids });
    expect(namedRange(landscape, '14')).toMatchObject({ kind: 'found', value: { range: 40, leads: true } });
    expect(namedRange(landscape, '1')).toMatchObject({
      kind: 'unknown',
      why: expect.stringContaining("its node's own"),
    });
    expect(namedRange(landscape, 'zz')).toMatchObject({
      kind: 'unknown',
      why: expect.stringContaining('there is no range zz'),
    });
  });

  it('that have said nothing yet are told so', () => {
    expect(storesText({ stores: [] })).toContain('No store has said anything yet');
    expect(rangesText({ ranges: [] })).toContain('No store has said anything');
  });
});

describe('tables', () => {
  it('of balancers say which stand still, and why', () => {
    const row = { commands: 0, failures: 0, last: [], resting: [] };
    const text = balancersText({
      balancers: [
        { ...row, name: 'merge', running: false },
        {
          ...{ name: 'split', running: true, commands: 3, failures: 1, resting: ['apply-0@a'] },
          last: [{ store: 'apply-0@a', command: '14: split', agoMs: 5000 }],
        },
      ],
      silent: ['apply-0@c'],
    });
    expect(text.split('\n').slice(1)).toEqual([
      'merge     stopped                             0       0  -',
      'split     running, rests at apply-0@a         3       1  14: split (apply-0@a, 5 s ago)',
      'Did not answer, and are not counted: apply-0@c.',
    ]);
  });

  it('of rules mark what was changed', () => {
    const text = rulesText({
      rules: [
        { name: 'voters', value: 5, initial: 3 },
        { name: 'learners', value: 0, initial: 0 },
      ],
    });
    expect(text).toMatch(/^\* {2}voters +5 +instead of 3 +voters of a range/m);
    expect(text).toMatch(/^ {3}learners +0 +learners of a range/m);
  });

  it('of keys say how to go on', () => {
    expect(listedText({ outcome: 'listed', entries: [], more: false })).toBe('No keys.');
    const entries = [{ key: 'a'.repeat(100), revision: 7, modifiedAtMs: 0, bytes: 3 }];
    const text = listedText({ outcome: 'listed', entries, more: true });
    expect(text).toContain(`${'a'.repeat(100)}      3         7  1970-01-01T00:00:00.000Z`);
    expect(text).toContain('There are more: --after "aaa');
  });
});
