import type { LoadRow, MemberRow, MembersReport } from '../../src/node/cluster-view.js';

/** When everything in the constructed views is looked at. */
export const NOW_MS = 1_800_000_000_000;

/** A node that has something to do. */
export const LOAD: LoadRow = {
  connections: 1_200,
  utilization: 0.375,
  loopDelayMs: 6.2,
  heapBytes: 40 * 2 ** 20,
  residentBytes: 200 * 2 ** 20,
  uptimeMs: 3_600_000,
};

export function member(name: string, change: Partial<MemberRow> = {}): MemberRow {
  return {
    id: name.charCodeAt(0),
    name,
    address: `10.0.0.${name.charCodeAt(0)}:4800`,
    state: 'alive',
    incarnation: 0,
    version: '1.0.0',
    agents: [],
    health: null,
    load: null,
    roundTripMs: 1.25,
    clockSkewMs: 3,
    oneWay: false,
    startedMs: NOW_MS - 3_600_000,
    sinceMs: NOW_MS - 3_600_000,
    isSelf: false,
    ...change,
  };
}

/** `a` is the asked node. */
export function report(others: readonly MemberRow[], change: Partial<MembersReport> = {}): MembersReport {
  const self = member('a', { isSelf: true, health: 0, roundTripMs: null });
  const { id, name, address } = self;
  return {
    self: { id, name, address },
    env: 'default',
    standing: 'member',
    atMs: NOW_MS,
    fingerprint: 1,
    members: [self, ...others],
    lost: [],
    ...change,
  };
}
