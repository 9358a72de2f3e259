import {
  eligible,
  type Landscape,
  leadersOf,
  MEMBER,
  type ReplicaAccount,
  type StoreAccount,
  serviceOf,
  sharedOf,
} from '../kv/balance/landscape.js';
import type { Rules } from '../kv/balance/rules.js';
import { overlap } from '../kv/range.js';
import { duration, type Finding, list, NAMES_MAX, note, wrong } from './finding.js';
import { type RangeRow, rangesReport, serviceWords, storeName } from './kv-view.js';

/** What the doctor says of the replicated storage: what cannot be read or written, what is in danger, what to do. */
export interface KvPatient {
  readonly landscape: Landscape;
  readonly rules: Rules;
  readonly stopped: readonly string[];
  /** Services of which the asked node has ever seen a range with something in it (kv-begun.ts). */
  readonly begun: ReadonlySet<number>;
  /** By the clock of the landscape. */
  readonly nowMs: number;
  /** Ranges of the map that were asked to take a write just now, and what came of it. */
  readonly probes: readonly Probe[];
}

export interface Probe {
  /** As commands name it. */
  readonly range: string;
  /** Why it took none, in words; undefined if it did. */
  readonly why: string | undefined;
  readonly tookMs: number;
}

/** A write that takes longer is told of. */
const SLOW_MS = 1_000;

export function kvFindings(patient: KvPatient): Finding[] {
  const { ranges } = rangesReport(patient.landscape);
  const shared = ranges.filter(({ sole }) => !sole);
  return [
    ...unavailable(shared),
    ...probed(patient, shared),
    ...twins(patient),
    ...lostStores(patient, shared),
    ...forgotten(patient, shared),
    ...fewVoters(patient),
    ...missing(patient),
    ...stopped(patient),
  ];
}

// -- What cannot be read or written --------------------------------------------------------------------------

/** Ranges of the same voters fare alike. */
function unavailable(ranges: readonly RangeRow[]): Finding[] {
  const groups = new Map<string, RangeRow[]>();
  for (const row of ranges) {
    if (isServed(row)) continue;
    const key = [row.state, row.service, ...row.members.map(({ id, role }) => role + id)].join();
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  const ill = [...groups.values()];
  const found = ill
    .slice(0, NAMES_MAX)
    .map(rows => (rows[0]!.state === 'no-quorum' ? noQuorum(rows) : noLeader(rows)));
  if (ill.length > NAMES_MAX)
    found.push(wrong('More ranges have no leader or no majority.', 'See "shoalmq kv ranges".'));
  return found;
}

function noQuorum(rows: readonly RangeRow[]): Finding {
  const [row] = rows;
  const voters = row!.members.filter(({ role }) => role === 'voter');
  const named = (isAlive: boolean) => voters.filter(({ alive }) => alive === isAlive).map(({ name }) => name);
  const [alive, lost] = [named(true), named(false)];
  const [survivor] = alive;
  const living =
    survivor === undefined
      ? `none of ${their(rows)} ${voters.length} voters lives`
      : `of ${their(rows)} ${voters.length} voters only ${list(alive)} ${alive.length === 1 ? 'lives' : 'live'}`;
  const recover =
    survivor === undefined
      ? ''
      : ` Only if their disks are gone for good: "shoalmq kv recover ${row!.id} ${survivor}", which LOSES what ${survivor} had not heard.`;
  return wrong(
    `${words(rows)} can be neither read nor written: ${living}; lost: ${list(lost)}.`,
    `Start the nodes of ${list(lost)} again, or let them reach the others: it goes on by itself then, and nothing is lost.${recover}`,
  );
}

function noLeader(rows: readonly RangeRow[]): Finding {
  const voters = rows[0]!.members.filter(({ role, alive }) => role === 'voter' && alive);
  const living = list(voters.map(({ name }) => name));
  return wrong(
    `${words(rows)} ${rows.length === 1 ? 'has' : 'have'} no leader now, though ${living} live, which are a majority.`,
    'They elect one within some seconds. If this stays: their nodes have to reach each other by RPC (rpc.port), and their disks have to take writes; look at their logs.',
  );
}

function their(rows: readonly RangeRow[]): string {
  return rows.length === 1 ? 'its' : 'their';
}

function isServed({ state }: RangeRow): boolean {
  return state !== 'no-quorum' && state !== 'no-leader';
}

/** With its keys, where it is one and does not have all of its service. */
function words(rows: readonly RangeRow[]): string {
  const { id, service, from, to } = rows[0]!;
  if (rows.length > 1) return `${rows.length} ranges of ${service} (${list(rows.map(row => row.id))})`;
  if (from === '' && to === '') return `Range ${id} (all of ${service})`;
  const begins = from === '' ? 'from the first key' : `from ${from}`;
  return `Range ${id} (${service}, ${begins} ${to === '' ? 'to the last' : `to ${to}`})`;
}

function probed({ probes }: KvPatient, shared: readonly RangeRow[]): Finding[] {
  const byId = new Map(shared.map(row => [row.id, row]));
  return probes.flatMap(({ range, why, tookMs }) => {
    const row = byId.get(range);
    // Of those without a leader is told already.
    if (row === undefined || !isServed(row)) return [];
    const name = words([row]);
    if (why !== undefined)
      return [
        wrong(
          `${name} takes no write: ${why}.`,
          `Look at the log and the disk of ${row.leader?.name ?? 'its stores'}, which leads it, and whether the others answer it: a write has to be on the disks of a majority.`,
        ),
      ];
    if (tookMs < SLOW_MS) return [];
    return [
      note(
        `A write to ${name} took ${Math.round(tookMs)} ms.`,
        'It has to be on the disks of a majority: look for slow disks, busy machines, and a slow network between them.',
      ),
    ];
  });
}

// -- What is in danger ---------------------------------------------------------------------------------------

/** Two beginnings of one key space that both hold data: neither is ever removed by itself. */
function twins({ landscape }: KvPatient): Finding[] {
  const holders = new Map<number, { readonly replica: ReplicaAccount; readonly stores: Set<number> }>();
  const shared = sharedOf(landscape);
  for (const { store, replicas } of shared.stores)
    for (const replica of replicas) {
      if (replica.pristine) continue;
      const known = holders.get(replica.genesis);
      if (known === undefined) holders.set(replica.genesis, { replica, stores: new Set([store]) });
      else known.stores.add(store);
    }
  const spaces = [...holders].sort(([one], [other]) => one - other);
  const found = new Map<number, Finding>();
  for (const [genesis, { replica, stores }] of spaces) {
    const service = serviceOf(replica);
    const twin = spaces.find(
      ([other, space]) =>
        other > genesis && serviceOf(space.replica) === service && doOverlap(shared, genesis, other),
    );
    if (twin === undefined || found.has(service)) continue;
    const names = (of: Set<number>) => list([...of].map(store => storeName(landscape, store).name).sort());
    const what = serviceWords(service);
    found.set(
      service,
      wrong(
        `${what} exists twice, and both hold data: one on ${names(stores)} (genesis ${genesis.toString(36)}), one on ${names(twin[1].stores)} (genesis ${twin[0].toString(36)}). Nodes that did not find each other when they first started have each begun one. The first is in use wherever it can be reached.`,
        `Nothing is deleted by itself. Decide which is to stay; save what you need of the other while only its nodes run ("shoalmq kv list", "kv get"), stop them, move the apply-0 of their data directories away (sessions and retained messages of these nodes are in it as well), and start them again.`,
      ),
    );
  }
  return [...found.values()];
}

function doOverlap({ stores }: Landscape, one: number, other: number): boolean {
  const replicas = stores.flatMap(store => store.replicas);
  const of = (genesis: number) => replicas.filter(replica => replica.genesis === genesis);
  return of(one).some(left => of(other).some(right => overlap(left.boundary, right.boundary)));
}

function lostStores({ landscape, rules, nowMs }: KvPatient, ranges: readonly RangeRow[]): Finding[] {
  const shared = sharedOf(landscape);
  const lost = shared.stores.filter(
    ({ alive, services, replicas }) => !alive && services.length + replicas.length > 0,
  );
  const found = lost
    .slice(0, NAMES_MAX)
    .flatMap(account => lostStore({ shared, account, rules, nowMs }, ranges));
  if (lost.length > NAMES_MAX)
    found.push(wrong(`${lost.length - NAMES_MAX} more stores are lost.`, 'See "shoalmq kv stores".'));
  return found;
}

interface Lost {
  readonly shared: Landscape;
  readonly account: StoreAccount;
  readonly rules: Rules;
  readonly nowMs: number;
}

function lostStore({ shared, account, rules, nowMs }: Lost, ranges: readonly RangeRow[]): Finding[] {
  const { id, name } = storeName(shared, account.store);
  const naming = ranges.filter(({ members }) => members.some(member => member.id === id));
  const since = duration(nowMs - account.sinceMs);
  if (naming.length === 0)
    return [
      note(
        `The store ${name} is lost for ${since}; no range counts on it.`,
        `It comes back with its node. If it is gone for good, "shoalmq kv forget ${name}" has it forgotten.`,
      ),
    ];
  // Of those that cannot do without it is told above.
  const counting = naming.filter(isServed);
  if (counting.length === 0) return [];
  const canBeReplaced = counting.some(({ members, start }) =>
    eligible(shared, Number.parseInt(start.slice(0, 2), 16)).some(
      ({ store }) => !members.some(member => member.id === store.toString(36)),
    ),
  );
  const replaced = canBeReplaced
    ? `Another store takes its place ${duration(rules.replaceAfterMs)} after it was lost (the rule replaceAfterMs); "shoalmq kv forget ${name}" does so now, if it is gone for good.`
    : 'No other store is there to take its place: start another node, or this one again.';
  const counted = counting.length === 1 ? 'one range counts' : `${counting.length} ranges count`;
  return [
    wrong(
      `The store ${name} is lost for ${since}, and ${counted} it as a member. What they hold can be read and written as before, but one more loss may end that.`,
      `If its node comes back, nothing has to be done. ${replaced}`,
    ),
  ];
}

/** Members whose stores an operator has had forgotten, and that nobody could replace. */
function forgotten({ landscape }: KvPatient, ranges: readonly RangeRow[]): Finding[] {
  const known = new Set(landscape.stores.map(({ store }) => store.toString(36)));
  const rows = ranges.filter(isServed);
  const naming = rows.filter(({ members }) => members.some(({ id }) => !known.has(id)));
  if (naming.length === 0) return [];
  const ids = new Set(
    naming.flatMap(({ members }) => members.map(({ id }) => id)).filter(id => !known.has(id)),
  );
  const counted = naming.length === 1 ? 'One range counts' : `${naming.length} ranges count`;
  return [
    wrong(
      `${counted} stores as members that nobody knows (any more): ${list([...ids])}.`,
      'They are replaced as soon as there is another store to take their place: start another node.',
    ),
  ];
}

/** Once for a service: what it is for has to be said. */
function fewVoters({ landscape, rules }: KvPatient): Finding[] {
  const shared = sharedOf(landscape);
  const leaders = leadersOf(shared);
  const byService = new Map<number, number>();
  for (const { replicas } of shared.stores)
    for (const replica of replicas) {
      if (!replica.leads || leaders.of(replica.range)?.replica !== replica || replica.changing) continue;
      const voters = replica.members.filter(({ role }) => role === MEMBER.VOTER).length;
      const service = serviceOf(replica);
      if (voters < rules.voters) byService.set(service, Math.min(voters, byService.get(service) ?? voters));
    }
  return [...byService].flatMap(([service, voters]) => {
    const stores = eligible(shared, service).length;
    // Otherwise they are on their way.
    if (stores >= rules.voters) return [];
    const have = `Ranges of ${serviceWords(service)} have ${voters === 1 ? 'one voter' : `${voters} voters`} instead of ${rules.voters}`;
    const there = stores === 1 ? 'one store takes' : `${stores} stores take`;
    const means =
      voters === 1
        ? 'What one disk holds is lost with it, and while its node is away nobody can read or write it. Two voters would be no better: both would have to live.'
        : `They outlive the loss of ${Math.floor((voters - 1) / 2)} of them.`;
    const nodes = rules.voters - stores === 1 ? 'one more node' : `${rules.voters - stores} more nodes`;
    return [
      note(
        `${have}, as only ${there} them. ${means}`,
        `Start ${nodes}: they are taken up by themselves. Or say that it is meant: "shoalmq kv rules set voters=${voters}".`,
      ),
    ];
  });
}

// -- What is not there, or stands still ----------------------------------------------------------------------

function missing({ landscape, rules, begun }: KvPatient): Finding[] {
  const shared = sharedOf(landscape);
  const services = new Set(shared.stores.flatMap(store => (store.alive ? store.services : [])));
  return [...services]
    .filter(
      service => !shared.stores.some(({ replicas }) => replicas.some(one => serviceOf(one) === service)),
    )
    .map(service =>
      begun.has(service)
        ? wrong(
            `No store that is known here has any range of ${serviceWords(service)}, though there were some: those that have them are all away.`,
            `Start their nodes. Nothing begins anew before, so that nothing is taken for gone. If their disks are gone for good, what they had is lost: remove the file begun-${hex(service)} from the data directory of one node while it is stopped, and start that again.`,
          )
        : note(
            `No store has any range of ${serviceWords(service)} yet, so it cannot be used.`,
            `It begins by itself, at most ${duration(2 * rules.bootstrapAfterMs)} after the nodes have found each other. If it does not, a node of its seeds may never have answered: none begins anything before.`,
          ),
    );
}

function hex(service: number): string {
  return service.toString(16).padStart(2, '0');
}

function stopped({ stopped: names }: KvPatient): Finding[] {
  if (names.length === 0) return [];
  const what = names.length === 1 ? `The balancer ${names[0]} was` : `The balancers ${list(names)} were`;
  return [
    note(`${what} stopped by an operator.`, `"shoalmq kv balancers start ${names[0]}" starts it again.`),
  ];
}
