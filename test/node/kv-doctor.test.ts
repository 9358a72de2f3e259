import { describe, expect, it } from 'vitest';
import type { Landscape } from '../../src/kv/balance/landscape.js';
import { DEFAULT_RULES } from '../../src/kv/balance/rules.js';
import type { Finding } from '../../src/node/finding.js';
import { type KvPatient, kvFindings } from '../../src/node/kv-doctor.js';
import { landscapeOf, NOW_MS, type RangeSpec, soleReplica } from './kv-stores.js';

const WHOLE: RangeSpec = { id: 40, stores: [1, 2, 3] };
const LOST = { alive: false, sinceMs: NOW_MS - 120_000 };

function examine(landscape: Landscape, more: Partial<KvPatient> = {}): readonly Finding[] {
  return kvFindings({
    ...{ landscape, rules: DEFAULT_RULES, stopped: [], begun: new Set<number>(), nowMs: NOW_MS, probes: [] },
    ...more,
  });
}

/** The only one. */
function finding(landscape: Landscape, more?: Partial<KvPatient>): Finding {
  const found = examine(landscape, more);
  expect(found).toHaveLength(1);
  return found[0]!;
}

describe('the doctor, of the replicated storage', () => {
  it('says nothing when all is well', () => {
    expect(examine(landscapeOf(3, [WHOLE]))).toEqual([]);
    const sole = landscapeOf(3, [WHOLE]).stores.map((account, at) => ({
      ...account,
      replicas: [...account.replicas, soleReplica(at + 1)],
    }));
    expect(examine({ stores: sole })).toEqual([]);
  });

  it('names who has to come back where a majority is gone, and what recovery costs', () => {
    const landscape = landscapeOf(3, [WHOLE], { 2: LOST, 3: LOST });
    const { severity, what, remedy } = finding(landscape);
    expect(severity).toBe('wrong');
    expect(what).toBe(
      'Range 14 (all of map) can be neither read nor written: of its 3 voters only apply-0@a lives; lost: apply-0@b, apply-0@c.',
    );
    expect(remedy).toMatch(/^Start the nodes of apply-0@b, apply-0@c again.* nothing is lost\./);
    expect(remedy).toContain('"shoalmq kv recover 14 apply-0@a", which LOSES what apply-0@a had not heard');
  });

  it('offers nobody for recovery who does not live', () => {
    const { what, remedy } = finding(landscapeOf(3, [WHOLE], { 1: LOST, 2: LOST, 3: LOST }));
    expect(what).toContain('none of its 3 voters lives');
    expect(remedy).not.toContain('recover');
  });

  it('tells ranges of the same stores once', () => {
    const ranges = [
      { ...WHOLE, to: 'k' },
      { ...WHOLE, id: 41, from: 'k' },
    ];
    expect(finding(landscapeOf(3, ranges, { 2: LOST, 3: LOST })).what).toMatch(
      /^2 ranges of map \(14, 15\) can be/,
    );
    const one = { ...ranges[1]!, stores: [1] };
    const some = examine(landscapeOf(3, [ranges[0]!, one], { 2: LOST, 3: LOST }), {
      rules: { ...DEFAULT_RULES, voters: 1 },
    });
    expect(some.map(({ what }) => what.split(' can')[0])).toEqual([
      'Range 14 (map, from the first key to k)',
    ]);
  });

  it('knows a range that has no leader though it could', () => {
    const { severity, what } = finding(landscapeOf(3, [{ ...WHOLE, leader: 0 }]));
    expect([severity, what]).toEqual([
      'wrong',
      expect.stringMatching(/has no leader now, though apply-0@a, apply-0@b, apply-0@c live/),
    ]);
  });

  it('tells of two beginnings that both hold data, and keeps quiet while one is empty', () => {
    const twin = { id: 41, stores: [3], more: { genesis: 9 } };
    const first = { ...WHOLE, stores: [1, 2] };
    const rules = { ...DEFAULT_RULES, voters: 1 };
    const { severity, what, remedy } = finding(landscapeOf(3, [first, twin]), { rules });
    expect(severity).toBe('wrong');
    expect(what).toMatch(
      /^map exists twice, and both hold data: one on apply-0@a, apply-0@b \(genesis 7\), one on apply-0@c \(genesis 9\)/,
    );
    expect(remedy).toMatch(/^Nothing is deleted by itself/);
    const empty = { ...twin, more: { genesis: 9, pristine: true } };
    expect(examine(landscapeOf(3, [first, empty]), { rules })).toEqual([]);
    // Of parts that do not lie across each other.
    const parts = [
      { ...first, to: 'k' },
      { ...twin, from: 'k' },
    ];
    expect(examine(landscapeOf(3, parts), { rules })).toEqual([]);
  });

  it('says what becomes of a lost store that ranges count on', () => {
    const alone = finding(landscapeOf(3, [WHOLE], { 3: LOST }));
    expect(alone.what).toMatch(/^The store apply-0@c is lost for 2 min, and one range counts it as a member/);
    expect(alone.remedy).toMatch(/No other store is there to take its place: start another node/);
    const { remedy } = finding(landscapeOf(4, [WHOLE], { 3: LOST }));
    expect(remedy).toMatch(
      /Another store takes its place 5 min after .* "shoalmq kv forget apply-0@c" does so now/,
    );
  });

  it('offers to forget a lost store that nobody counts on, and one of a node that is just away', () => {
    const { severity, remedy } = finding(landscapeOf(4, [WHOLE], { 4: LOST }));
    expect([severity, remedy]).toEqual(['note', expect.stringContaining('"shoalmq kv forget apply-0@d"')]);
    // Stores that take no ranges come and go with their node.
    expect(examine(landscapeOf(4, [WHOLE], { 4: { ...LOST, services: [] } }))).toEqual([]);
  });

  it('tells of members whose stores were forgotten', () => {
    const landscape = landscapeOf(3, [WHOLE]);
    const { what } = finding({ stores: landscape.stores.slice(0, 2) });
    expect(what).toBe('One range counts stores as members that nobody knows (any more): 3.');
  });

  it('says what too few stores mean', () => {
    const two = finding(landscapeOf(2, [{ id: 40, stores: [1] }]));
    expect(two.severity).toBe('note');
    expect(two.what).toMatch(
      /^Ranges of map have one voter instead of 3, as only 2 stores take them\. What one disk holds is lost with it/,
    );
    expect(two.remedy).toMatch(/^Start one more node: .* "shoalmq kv rules set voters=1"/);
    const rules = { ...DEFAULT_RULES, voters: 5 };
    expect(finding(landscapeOf(3, [WHOLE]), { rules }).what).toContain('They outlive the loss of 1 of them');
    // On their way.
    expect(examine(landscapeOf(3, [{ id: 40, stores: [1] }]))).toEqual([]);
  });

  it('knows when there is nothing yet, and what stands still', () => {
    expect(finding(landscapeOf(3, [])).what).toContain('No store has any range of map yet');
    const gone = finding(landscapeOf(3, []), { begun: new Set([0x6d]) });
    expect(gone).toMatchObject({ severity: 'wrong', what: expect.stringContaining('are all away') });
    expect(gone.remedy).toContain('the file begun-6d');
    const { what, remedy } = finding(landscapeOf(3, [WHOLE]), { stopped: ['merge'] });
    expect([what, remedy]).toEqual([
      'The balancer merge was stopped by an operator.',
      expect.stringContaining('kv balancers start merge'),
    ]);
  });

  it('has tried to write, and tells where it could not, once', () => {
    const failed = { range: '14', why: 'no answer to one within 4 s', tookMs: 4000 };
    const { what, remedy } = finding(landscapeOf(3, [WHOLE]), { probes: [failed] });
    expect(what).toBe('Range 14 (all of map) takes no write: no answer to one within 4 s.');
    expect(remedy).toContain('apply-0@a, which leads it');
    expect(finding(landscapeOf(3, [{ ...WHOLE, leader: 0 }]), { probes: [failed] }).what).toContain(
      'no leader',
    );
    const slow = { range: '14', why: undefined, tookMs: 1500 };
    expect(finding(landscapeOf(3, [WHOLE]), { probes: [slow] })).toMatchObject({
      severity: 'note',
      what: expect.stringContaining('took 1500 ms'),
    });
    expect(examine(landscapeOf(3, [WHOLE]), { probes: [{ ...slow, tookMs: 20 }] })).toEqual([]);
  });
});
