import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { diagnose, type Patient } from '../../src/node/cluster-doctor.js';
import type { Reached } from '../../src/node/cluster-reach.js';
import { reach, worthReaching } from '../../src/node/cluster-reach.js';
import { fingerprint } from '../../src/node/cluster-view.js';
import type { Finding } from '../../src/node/finding.js';
import type { Refusal } from '../../src/underlay/underlay.js';
import { member, NOW_MS, report } from './cluster-rows.js';

const B = member('b');
const SEED = '10.0.0.98:4800';

function findings(change: Partial<Patient> = {}): Finding[] {
  return diagnose({
    report: report([B, member('c')]),
    probeIntervalMs: 1_000,
    seeds: [{ seed: SEED, addresses: [SEED], error: '' }],
    seedStates: [{ address: SEED, answeredMs: NOW_MS - 60_000, tries: 1 }],
    refusals: [],
    staleRefused: 0,
    reached: new Map(),
    peers: new Map(),
    ...change,
  });
}

function tcp(reached: Reached, address = B.address): Partial<Patient> {
  return { reached: new Map([[address, reached]]) };
}

/** The only finding. */
function only(change: Partial<Patient>): Finding {
  const all = findings(change);
  expect(all, JSON.stringify(all)).toHaveLength(1);
  expect(all[0]!.remedy).toMatch(/\.$/);
  return all[0]!;
}

const wrong = (what: string) => ({ severity: 'wrong', what: expect.stringContaining(what) });

describe('a cluster that is well', () => {
  it('has no findings', () => {
    expect(findings()).toEqual([]);
    expect(findings(tcp('open'))).toEqual([]);
  });

  it('is not told ill for what has just begun', () => {
    const young = { roundTripMs: null, sinceMs: NOW_MS - 5_000 };
    expect(findings({ report: report([member('b', young)]) })).toEqual([]);
    const seedStates = [{ address: '10.9.9.9:4800', answeredMs: 0, tries: 1 }];
    expect(findings({ seedStates })).toEqual([]);
    expect(findings({ report: report([member('b', { clockSkewMs: 2_000 })]) })).toEqual([]);
  });
});

describe('the asked node', () => {
  it.each([
    ['evicted', 'was evicted by an operator'],
    ['left', 'has left the cluster'],
  ] as const)('that has %s hears of that alone', (standing, words) => {
    const lost = [{ id: 1, name: 'x', address: 'x:1', sinceMs: 0 }];
    expect(only({ report: report([], { standing, lost }) })).toMatchObject(wrong(words));
  });

  it('that is overloaded or cut off hears its score', () => {
    const { members } = report([B]);
    const health = (score: number) => ({ members: [{ ...members[0]!, health: score }, B] });
    expect(only({ report: report([], health(4)) })).toMatchObject(wrong('its health score is 4'));
    expect(findings({ report: report([], health(1)) })).toEqual([]);
  });

  it('that is alone without seeds is told how to change that', () => {
    const alone = { report: report([]), seeds: [], seedStates: [] };
    expect(only(alone)).toMatchObject({ severity: 'note', remedy: expect.stringContaining('cluster.seeds') });
  });
});

describe('seeds', () => {
  const silent = [{ address: '10.9.9.9:4800', answeredMs: 0, tries: 7 }];

  it.each([
    ['refused', 'nobody listens on that port', 'Start the node there'],
    ['silent', 'TCP does not get through to it either', 'firewalls'],
    ['no-way', 'no such name', 'firewalls'],
    ['open', 'TCP gets through', 'another cluster.env or cluster.key'],
  ] as const)('that never answered, TCP %s', (reached, what, remedy) => {
    const found = only({ report: report([]), seedStates: silent, ...tcp(reached, '10.9.9.9:4800') });
    expect(found).toMatchObject({ ...wrong(what), remedy: expect.stringContaining(remedy) });
    expect(found.what).toContain('10.9.9.9:4800 has never answered (7 tries)');
  });

  it('that are in the view need not have answered', () => {
    expect(findings({ seedStates: [{ ...silent[0]!, address: B.address }] })).toEqual([]);
  });

  it('that answer from another address are nothing wrong', () => {
    const found = only({ seedStates: silent, ...tcp('open', '10.9.9.9:4800') });
    expect(found).toMatchObject({ severity: 'note', remedy: expect.stringContaining('load balancer') });
  });

  it('that are names need not answer at all their addresses', () => {
    const addresses = [B.address, '10.9.9.9:4800'];
    const some = only({ seedStates: silent, seeds: [{ seed: 'nodes.example', addresses, error: '' }] });
    expect(some).toMatchObject({
      severity: 'note',
      what: expect.stringContaining('seed nodes.example, 10.9.9.9'),
    });
    const nobody = ['10.9.9.9:4800', '10.9.9.8:4800'];
    const none = only({
      seedStates: silent,
      seeds: [{ seed: 'nodes.example', addresses: nobody, error: '' }],
    });
    expect(none).toMatchObject(wrong('10.9.9.9:4800 has never answered'));
  });

  it('that do not resolve are named with the reason', () => {
    const seeds = [{ seed: 'nodes.example', addresses: [], error: 'ENOTFOUND' }];
    expect(only({ seeds })).toMatchObject(wrong('nodes.example does not resolve (ENOTFOUND)'));
  });
});

describe('links', () => {
  const inView = (change: Parameters<typeof member>[1]) => ({ report: report([member('b', change)]) });

  it('of a suspect', () => {
    const suspect = inView({ state: 'suspect', sinceMs: NOW_MS - 3_000 });
    expect(only({ ...suspect, ...tcp('silent') })).toMatchObject(wrong('is suspected for 3 s. TCP does not'));
  });

  it('in one direction', () => {
    expect(only(inView({ oneWay: true }))).toMatchObject(wrong('works in one direction only'));
  });

  it.each([
    [null, 'open', 'TCP alone reaches it, UDP does not'],
    [null, 'silent', 'neither UDP nor TCP reaches it'],
    [1, 'silent', 'UDP reaches b (10.0.0.98:4800), TCP does not (no answer)'],
    [1, 'refused', 'TCP does not (refused)'],
  ] as const)('with a round trip of %s ms by UDP and TCP %s', (roundTripMs, reached, words) => {
    expect(only({ ...inView({ roundTripMs }), ...tcp(reached) })).toMatchObject(wrong(words));
  });
});

describe('lost hosts', () => {
  const row = (index: number) => ({
    id: index,
    name: `n${index}`,
    address: `10.1.0.${index}:4800`,
    sinceMs: NOW_MS - 600_000,
  });

  it('are told with the time', () => {
    const lost = report([B], { lost: [row(1)] });
    const found = only({ report: lost, ...tcp('refused', row(1).address) });
    expect(found).toMatchObject(wrong('n1 (10.1.0.1:4800) is lost for 10 min. Its machine answers'));
    expect(only({ report: lost, ...tcp('open', row(1).address) }).what).toContain('Something answers by TCP');
  });

  it('are counted when they are many', () => {
    const lost = Array.from({ length: 30 }, (_, index) => row(index));
    const all = findings({ report: report([B], { lost }) });
    expect(all).toHaveLength(9);
    expect(all.at(-1)!.what).toBe('22 more hosts are lost.');
  });
});

describe('refusals', () => {
  const row = (change: Partial<Refusal>): Refusal => ({
    address: '10.7.7.7:4800',
    why: 'environment',
    detail: '',
    count: 3,
    lastMs: NOW_MS - 10_000,
    ...change,
  });

  it.each([
    ['environment', 'Hosts with another cluster.env'],
    ['key', 'sealed with another key, or with none'],
    ['replay', 'they came twice or too late'],
    ['malformed', 'no packets of this cluster'],
  ] as const)('for %s', (why, words) => {
    const found = only({ refusals: [row({ why })] });
    expect(found).toMatchObject(wrong(words));
    expect(found.what).toContain('10.7.7.7:4800; 3 in all, the last 10 s ago.');
  });

  it('of evicted hosts are nothing wrong', () => {
    expect(only({ refusals: [row({ why: 'evicted' })] })).toMatchObject({ severity: 'note' });
  });

  it('that are old are history', () => {
    expect(findings({ refusals: [row({ lastMs: NOW_MS - 200_000 })] })).toEqual([]);
  });

  it('name the other environment, and tell who was refused', () => {
    expect(only({ refusals: [row({ detail: 'staging' })] }).what).toContain('10.7.7.7:4800 (staging)');
    const own = only({ refusals: [row({ detail: 'cluster.env is "x" here, not "default"' })] });
    expect(own).toMatchObject(wrong('This node was refused by hosts of another cluster.env: 10.7.7.7:4800'));
  });

  it('do not name the seed that refused a second time', () => {
    const seedStates = [{ address: '10.7.7.7:4800', answeredMs: 0, tries: 7 }];
    expect(only({ seedStates, refusals: [row({})] })).toMatchObject(wrong('cluster.env'));
  });

  it('for a clock that is too far off say so', () => {
    const found = only({ refusals: [row({ why: 'replay' })], staleRefused: 12 });
    expect(found).toMatchObject(wrong("12 packets had a clock too far from this node's"));
  });

  it('cannot steer a terminal', () => {
    expect(only({ refusals: [row({ detail: '\u001b[2J\u202e' })] }).what).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

describe('what hosts say of themselves', () => {
  it('clocks', () => {
    const ahead = member('b', { clockSkewMs: 4_200 });
    const one = only({ report: report([ahead, member('c')]) });
    expect(one).toMatchObject(wrong('b (10.0.0.98:4800) is 4.2 s ahead'));
    expect(one.what).not.toContain('the likely one');
    const all = report([ahead, member('c', { clockSkewMs: 3_900 })]);
    expect(only({ report: all }).what).toContain("this node's clock is the likely one");
  });

  it('names', () => {
    const same = [B, member('c', { name: 'b' })];
    expect(only({ report: report(same) })).toMatchObject(
      wrong('2 hosts are called b: 10.0.0.98:4800, 10.0.0.99'),
    );
  });

  it('versions', () => {
    const found = only({ report: report([B, member('c', { version: '1.1.0' })]) });
    expect(found).toMatchObject({
      severity: 'note',
      what: expect.stringContaining('1.1.0 on c (10.0.0.99:4800)'),
    });
  });
});

describe('TCP ports', () => {
  it('are tried of those first that look ill, and of a bounded number', () => {
    const others = Array.from({ length: 200 }, (_, index) =>
      member('x', { id: index, address: `x${index}:1` }),
    );
    const suspect = member('s', { state: 'suspect' });
    const seedStates = [{ address: 'seed:1', answeredMs: 0, tries: 3 }];
    const lost = [{ id: 9, name: 'l', address: 'lost:1', sinceMs: 0 }];
    const first = worthReaching({ report: report([...others, suspect], { lost }), seedStates });
    expect(first.slice(0, 3)).toEqual([suspect.address, 'seed:1', 'lost:1']);
    expect(first).toHaveLength(64);
    expect(first).not.toContain(report([]).self.address);
  });

  it('are open, or refused, or there is no way', async () => {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const open = `127.0.0.1:${(server.address() as { port: number }).port}`;
    const found = await reach([open, 'nonsense']);
    await new Promise(resolve => server.close(resolve));
    expect([...found].sort()).toEqual([
      [open, 'open'],
      ['nonsense', 'no-way'],
    ]);
    expect((await reach([open])).get(open)).toBe('refused');
  });
});

describe('the fingerprint', () => {
  it('depends on who is in the view, not on the order', () => {
    const ids = [7, 2 ** 52 + 7, 2 ** 40];
    expect(fingerprint(ids)).toBe(fingerprint(ids.toReversed()));
    expect(new Set([ids, ids.slice(1), [7, 2 ** 52 + 8, 2 ** 40], []].map(fingerprint)).size).toBe(4);
  });
});
