import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../base/env.js';
import { BOUNDARY_BYTES_MAX } from '../kv/balance/account-codec.js';
import type { Board, Publication } from '../kv/balance/board.js';
import { BALANCERS } from '../kv/balance/governor.js';
import {
  type Landscape,
  leadersOf,
  type StoreAccount,
  serviceOf,
  sharedOf,
} from '../kv/balance/landscape.js';
import { decodeAnswer, encodeOrder, type OrderAnswer, type RangeOrder } from '../kv/balance/order.js';
import { changedRules, DEFAULT_RULES, type Rules } from '../kv/balance/rules.js';
import { encodeSteering, RULES_KEY, rulesOf, type Steering } from '../kv/balance/rules-entry.js';
import type { RpcResult } from '../rpc/failure.js';
import { type Answer, type Route, type Routes, refusal } from './admin-server.js';
import { clean } from './finding.js';
import { type MapAccess, mapRoutes } from './kv-map-routes.js';
import { keyOf, namedRange, namedStore, rangesReport, storeName, storesReport } from './kv-view.js';

/** What the routes need of the storage of this node and its cluster (kv-relay.ts). */
export interface KvSource {
  readonly board: Board;
  /** Stores of this node. */
  readonly ownStores: readonly number[];
  /** Services of which this node has ever seen a range with something in it. */
  readonly begunServices: ReadonlySet<number>;
  /** For calls; undefined without a cluster. */
  readonly access: MapAccess | undefined;
  steer(store: number, order: Uint8Array): Promise<RpcResult<Uint8Array>>;
  publish(changes: readonly Publication[]): void;
}

/** As `GET /kv/balancers` has it. */
export interface BalancersReport {
  readonly balancers: readonly BalancerRow[];
  /** Names of stores that did not say what theirs did. */
  readonly silent: readonly string[];
}

export interface BalancerRow {
  readonly name: string;
  readonly running: boolean;
  /** Of all stores since their start. */
  readonly commands: number;
  readonly failures: number;
  /** The last command of each store that gave any. */
  readonly last: readonly { readonly store: string; readonly command: string; readonly agoMs: number }[];
  /** Stores at which it rests after failures. */
  readonly resting: readonly string[];
}

/** As `GET /kv/rules` has it. */
export interface RulesReport {
  readonly rules: readonly { readonly name: string; readonly value: number; readonly initial: number }[];
}

/** What became of an order. `begun`: it was not seen done within {@link SEEN_MS_MAX}. */
export interface OrderReport {
  readonly state: 'done' | 'begun';
}

/** How long an order is watched, milliseconds. */
const SEEN_MS_MAX = 8_000;
const LOOK_MS = 50;
/** For each store that is asked what its balancers did. */
const ASKED_MS_MAX = 3_000;
const STOOD_BACK_MS_MAX = 500;

interface Asked {
  readonly kv: KvSource;
  readonly clock: Pick<Clock, 'monotonicMs' | 'wallMs'>;
}

/** What the administration port serves of the replicated storage. */
export function kvRoutes(kv: KvSource, clock: Asked['clock']): Routes {
  const asked = { kv, clock };
  const ok = (body: object): Answer => ({ status: 200, body });
  return new Map<string, Route>([
    ['GET /kv/ranges', () => ok(rangesReport(kv.board.landscape()))],
    ['GET /kv/stores', () => ok(storesReport(kv.board.landscape(), kv.ownStores, clock.monotonicMs()))],
    ['GET /kv/balancers', async () => ok(await balancersReport(kv))],
    ['POST /kv/balancers', body => setBalancer(asked, body)],
    ['GET /kv/rules', () => ok(rulesReport(kv.board.steering))],
    ['POST /kv/rules', body => setRules(asked, body)],
    ['POST /kv/transfer', body => order(asked, 'transfer', body)],
    ['POST /kv/split', body => order(asked, 'split', body)],
    ['POST /kv/merge', body => order(asked, 'merge', body)],
    ['POST /kv/move', body => order(asked, 'move', body)],
    ['POST /kv/recover', body => order(asked, 'recover', body)],
    ['POST /kv/forget', body => forget(kv, body)],
    ...mapRoutes(kv, clock),
  ]);
}

// -- Orders --------------------------------------------------------------------------------------------------

/** An order as the words of an operator have it, and the store that is asked first. */
type Wanted =
  | { readonly kind: 'order'; readonly order: RangeOrder; readonly store: number }
  | { readonly kind: 'refused'; readonly answer: Answer };

const WORDS: Readonly<Record<RangeOrder['kind'], string>> = {
  transfer: '{"range": TEXT, "to": STORE}',
  split: '{"range": TEXT}, with "key": TEXT for where',
  merge: '{"range": TEXT}',
  move: '{"range": TEXT, "from": STORE, "to": STORE}',
  recover: '{"range": TEXT, "store": STORE}, with "forced": true',
};

async function order({ kv, clock }: Asked, kind: RangeOrder['kind'], body: unknown): Promise<Answer> {
  const landscape = kv.board.landscape();
  const wanted = wantedOrder(landscape, kind, body);
  if (wanted.kind === 'refused') return wanted.answer;
  const isSeen = watch(landscape, wanted.order, wanted.store);
  await standBack(kv, landscape);
  const answer = await give(kv, wanted.order, wanted.store);
  if (typeof answer === 'string') return refusal(504, answer);
  if (answer.kind === 'refused') return refusal(409, answer.why);
  const endMs = clock.monotonicMs() + SEEN_MS_MAX;
  let seen = isSeen(kv.board.landscape());
  while (!seen && clock.monotonicMs() < endMs) {
    await sleep(LOOK_MS);
    seen = isSeen(kv.board.landscape());
  }
  const report: OrderReport = { state: seen ? 'done' : 'begun' };
  return { status: 200, body: report };
}

/** Asks the balancers of all stores not to undo what comes now; who does not hear it in time may. */
async function standBack(kv: KvSource, { stores }: Landscape): Promise<void> {
  const bytes = encodeOrder({ kind: 'stand-back' });
  const asked = stores.filter(({ alive, services }) => alive && services.length > 0);
  await inTime(Promise.all(asked.map(({ store }) => kv.steer(store, bytes))), STOOD_BACK_MS_MAX);
}

/** Undefined if it takes longer. */
async function inTime<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const patience = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: patience.signal }).catch(() => undefined);
  const first = await Promise.race([promise, late]);
  patience.abort();
  return first;
}

/** Whoever leads is asked, and if it does not any more, once the one that it names. A text: nobody answered. */
async function give(kv: KvSource, wanted: RangeOrder, store: number): Promise<OrderAnswer | string> {
  const bytes = encodeOrder(wanted);
  const first = await ask(kv, store, bytes);
  if (typeof first === 'string' || first.kind !== 'refused') return first;
  const isElsewhere = first.leader !== 0 && first.leader !== store && wanted.kind !== 'recover';
  return isElsewhere ? ask(kv, first.leader, bytes) : first;
}

async function ask(kv: KvSource, store: number, bytes: Uint8Array): Promise<OrderAnswer | string> {
  const { name } = storeName(kv.board.landscape(), store);
  const result = await kv.steer(store, bytes);
  if (result.kind !== 'ok')
    return `${name} did not answer (${result.kind}); look at "kv ranges" before you try again`;
  return (
    decodeAnswer(result.value) ??
    `${name} gave an answer that this node does not know: compare their versions`
  );
}

function wantedOrder(landscape: Landscape, kind: RangeOrder['kind'], body: unknown): Wanted {
  const refused = (answer: Answer): Wanted => ({ kind: 'refused', answer });
  const malformed = () => refused(refusal(400, `the body has to be ${WORDS[kind]}`));
  if (typeof body !== 'object' || body === null) return malformed();
  const { range: rangeText, to, from, key, store: storeText, forced } = body as Record<string, unknown>;
  if (typeof rangeText !== 'string') return malformed();
  const found = namedRange(landscape, shown(rangeText));
  if (found.kind === 'unknown') return refused(refusal(404, found.why));
  const { value: replica } = found;
  const { range } = replica;
  const stores: StoreAccount[] = [];
  const names = { transfer: [to], move: [from, to], recover: [storeText], split: [], merge: [] }[kind];
  for (const words of names) {
    if (typeof words !== 'string') return malformed();
    const named = namedStore(landscape, shown(words));
    if (named.kind === 'unknown') return refused(refusal(404, named.why));
    stores.push(named.value);
  }
  const [one, other] = stores.map(({ store }) => store);
  if (kind === 'recover') {
    if (forced !== undefined && typeof forced !== 'boolean') return malformed();
    if (!stores[0]!.alive)
      return refused(refusal(409, `${stores[0]!.name} is lost: it cannot be told anything`));
    return { kind: 'order', order: { kind, range, forced: forced === true }, store: one! };
  }
  const leader = leadersOf(sharedOf(landscape)).of(range)?.account.store;
  if (leader === undefined) {
    const why = `range ${rangeText} has no leader now, so nobody can do it; "kv ranges" shows which of its stores live`;
    return refused(refusal(409, why));
  }
  const asked = (wanted: RangeOrder): Wanted => ({ kind: 'order', order: wanted, store: leader });
  if (kind === 'transfer') return asked({ kind, range, to: one! });
  if (kind === 'move') return asked({ kind, range, from: one!, to: other! });
  if (kind === 'merge') return asked({ kind, range });
  if (key === undefined) return asked({ kind, range, key: undefined });
  if (typeof key !== 'string' || key === '') return malformed();
  const at = keyOf(serviceOf(replica), key);
  return at.length > BOUNDARY_BYTES_MAX
    ? refused(refusal(400, `a key has ${BOUNDARY_BYTES_MAX} bytes at most`))
    : asked({ kind, range, key: at });
}

/** Says of later landscapes whether the order has come about. */
function watch(before: Landscape, wanted: RangeOrder, store: number): (now: Landscape) => boolean {
  const leadership = (landscape: Landscape, range: number) => leadersOf(sharedOf(landscape)).of(range);
  const epoch = leadership(before, wanted.range)?.replica.epoch ?? 0;
  return now => {
    const found = leadership(now, wanted.range);
    if (found === undefined) return false;
    const { account, replica } = found;
    const holds = (id: number) => replica.members.some(member => member.store === id);
    switch (wanted.kind) {
      case 'transfer':
        return account.store === wanted.to;
      case 'split':
      case 'merge':
        return replica.epoch > epoch && !replica.changing;
      case 'move':
        return holds(wanted.to) && !holds(wanted.from) && !replica.changing;
      case 'recover':
        return account.store === store && replica.members.length === 1 && !replica.changing;
    }
  };
}

/** What an operator typed may come back in an error. */
function shown(words: string): string {
  return clean(words).slice(0, 100);
}

// -- Stores that are gone for good ---------------------------------------------------------------------------

function forget(kv: KvSource, body: unknown): Answer {
  const { store: words } = (body ?? {}) as { store?: unknown };
  if (typeof words !== 'string') return refusal(400, 'the body has to be {"store": STORE}');
  const landscape = kv.board.landscape();
  const named = namedStore(landscape, shown(words));
  if (named.kind === 'unknown') return refusal(404, named.why);
  const { store, alive } = named.value;
  if (alive) return refusal(409, `${shown(words)} lives; only a store that is lost can be forgotten`);
  const changes = kv.board.forgetting(store);
  kv.publish(changes);
  return { status: 200, body: { forgotten: storeName(landscape, store) } };
}

// -- Balancers and rules -------------------------------------------------------------------------------------

async function balancersReport(kv: KvSource): Promise<BalancersReport> {
  const landscape = kv.board.landscape();
  const stores = landscape.stores.filter(({ alive, services }) => alive && services.length > 0);
  const bytes = encodeOrder({ kind: 'balancers' });
  const answers = await Promise.all(
    stores.map(async ({ store }) => {
      const answer = await inTime(ask(kv, store, bytes), ASKED_MS_MAX);
      const { name } = storeName(landscape, store);
      const isTold = typeof answer === 'object' && answer.kind === 'balancers';
      return { name, told: isTold ? answer.balancers : undefined };
    }),
  );
  const { stopped } = kv.board.steering;
  const balancers = BALANCERS.map(({ name }): BalancerRow => {
    const rows = answers.flatMap(({ name: store, told }) =>
      (told ?? []).filter(row => row.name === name).map(row => ({ ...row, store })),
    );
    return {
      name,
      running: !stopped.includes(name),
      commands: rows.reduce((sum, { commands }) => sum + commands, 0),
      failures: rows.reduce((sum, { failures }) => sum + failures, 0),
      last: rows
        .filter(({ last }) => last !== '')
        .map(({ store, last, lastAgoMs }) => ({ store, command: last, agoMs: lastAgoMs }))
        .sort((one, other) => one.agoMs - other.agoMs),
      resting: rows.filter(({ restsMs }) => restsMs > 0).map(({ store }) => store),
    };
  });
  return { balancers, silent: answers.filter(({ told }) => told === undefined).map(({ name }) => name) };
}

/** Takes `{"name": "merge", "running": false}`. */
function setBalancer(asked: Asked, body: unknown): Answer {
  const { kv } = asked;
  const { name, running } = (body ?? {}) as { name?: unknown; running?: unknown };
  if (typeof name !== 'string' || typeof running !== 'boolean')
    return refusal(400, 'the body has to be {"name": TEXT, "running": true or false}');
  const names = BALANCERS.map(balancer => balancer.name);
  if (!names.includes(name))
    return refusal(404, `no balancer is called ${shown(name)}; there are ${names.join(', ')}`);
  const { changes, stopped } = kv.board.steering;
  const others = stopped.filter(other => other !== name);
  return steered(asked, { changes, stopped: running ? others : [...others, name].sort() });
}

function rulesReport(steering: Steering): RulesReport {
  const values = rulesOf(steering);
  const names = Object.keys(DEFAULT_RULES) as (keyof Rules)[];
  return { rules: names.map(name => ({ name, value: values[name], initial: DEFAULT_RULES[name] })) };
}

/** Takes `{"set": {"voters": 5}, "unset": ["settleMs"]}`, or one of the two. */
function setRules(asked: Asked, body: unknown): Answer {
  const { kv } = asked;
  const { set = {}, unset = [] } = (body ?? {}) as { set?: unknown; unset?: unknown };
  if (typeof set !== 'object' || set === null || Array.isArray(set) || !Array.isArray(unset))
    return refusal(400, 'the body has to be {"set": {RULE: NUMBER}, "unset": [RULE]}');
  const { changes, stopped } = kv.board.steering;
  const wanted: Record<string, unknown> = { ...changes, ...set };
  for (const name of unset) {
    if (typeof name !== 'string' || !Object.hasOwn(DEFAULT_RULES, name)) {
      const all = Object.keys(DEFAULT_RULES).join(', ');
      return refusal(404, `no rule is called ${shown(String(name))}; there are ${all}`);
    }
    delete wanted[name];
  }
  const rules = changedRules(DEFAULT_RULES, wanted);
  if (typeof rules === 'string') return refusal(400, clean(rules).slice(0, 1_000));
  const different = Object.entries(rules).filter(
    ([name, value]) => DEFAULT_RULES[name as keyof Rules] !== value,
  );
  return steered(asked, { changes: Object.fromEntries(different), stopped });
}

function steered({ kv, clock }: Asked, changed: Omit<Steering, 'atMs'>): Answer {
  const atMs = Math.max(Math.round(clock.wallMs()), kv.board.steering.atMs + 1);
  const steering = { ...changed, atMs };
  kv.publish([{ key: RULES_KEY, bytes: encodeSteering(steering) }]);
  return { status: 200, body: { ...rulesReport(steering), stopped: steering.stopped } };
}
