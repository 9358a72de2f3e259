import type { Env } from '../../base/env.js';
import type { Boundary } from '../range.js';
import { OUTCOME, type Place } from '../replicated/commands.js';
import { type Descriptor, ROLE } from '../replicated/descriptor.js';
import { randomU53 } from '../replicated/identity.js';
import type { RaftStore } from '../replicated/raft-store.js';
import type { PublishedStore } from './account-codec.js';
import { membersOf, OwnAccounts } from './accounts.js';
import type { Command } from './balancer.js';
import { Board, type Publication } from './board.js';
import { Governor } from './governor.js';
import { accountOf, leadersOf, MEMBER, type RangeLoad, sharedOf } from './landscape.js';
import { commandWords, obey } from './obedience.js';
import { type BalancerReport, decodeOrder, encodeAnswer, type OrderAnswer, STAND_BACK_MS } from './order.js';
import { DEFAULT_RULES, type Rules } from './rules.js';
import { NO_STEERING, rulesOf, type Steering } from './rules-entry.js';

export interface StewardOptions {
  readonly store: RaftStore;
  readonly env: Env;
  readonly account: PublishedStore;
  /** The key space to be covered. */
  readonly services: readonly Boundary[];
  /** What is known of a range's load here; `epochSinceMs` is filled in. */
  loadOf(range: number): Omit<RangeLoad, 'epochSinceMs'>;
  /** Whether a range is the store's own; none is if this is not given. */
  isSole?(range: number): boolean;
  /** The shared map is to be changed so. */
  publish(changes: readonly Publication[]): void;
}

/** A command that has no effect after this long has failed. */
const COMMAND_MS_MAX = 30_000;
/** Whether a replica still counts is answered at once, or by nobody. */
const RETIRE_MS_MAX = 3000;

interface Errand {
  readonly command: Command;
  readonly untilMs: number;
  readonly sequence: number;
}

/**
 * Keeps one store's house: publishes its account, sees the others', asks the balancers, and carries out what they say.
 * A command is done when the landscape shows it, not when it was accepted, so that the next one is decided on what is.
 *
 * Pure: `tick` drives it, about every second and whenever something has changed. A look that finds no news costs what
 * comparing the own accounts does: the board publishes nothing, the landscape is the same object, and the governor waits
 * for the time that it named.
 */
export class Steward {
  readonly board: Board;
  readonly governor = new Governor();
  /** Where operators have said nothing else. */
  rules: Rules = DEFAULT_RULES;
  private steering = NO_STEERING;
  private readonly options: StewardOptions;
  private readonly session: number;
  private readonly spread: number;
  private account: PublishedStore;
  private lastSequence = 0;
  private errand: Errand | undefined;
  private readonly accounts: OwnAccounts;
  /** The rules in effect, and what they were made of. */
  private inEffect: { readonly steering: Steering; readonly base: Rules; readonly rules: Rules } | undefined;
  /** The cluster was found, or there is none to be found: only then may key spaces begin. */
  isSettled = false;

  constructor(options: StewardOptions) {
    const { store, env, account } = options;
    this.options = options;
    this.account = account;
    this.session = randomU53(env.random) + 1;
    this.spread = env.random.u32() / 2 ** 32;
    const { loadOf } = options;
    const isSole = (range: number) => options.isSole?.(range) ?? false;
    this.accounts = new OwnAccounts({ loadOf, isSole });
    this.board = new Board(env.clock, { id: store.id, account });
  }

  setDraining(draining: boolean): void {
    this.account = { ...this.account, draining };
  }

  /** The host is another one now, or its name. */
  accountIs({ host, name, cores }: Pick<PublishedStore, 'host' | 'name' | 'cores'>): void {
    const { account } = this;
    if (host === account.host && name === account.name && cores === account.cores) return;
    this.account = { ...account, host, name, cores };
  }

  tick(): void {
    const { store, env, publish } = this.options;
    const nowMs = env.clock.monotonicMs();
    this.board.ownIs(this.account, this.accounts.of(store.replicas, nowMs));
    const changes = this.board.publications();
    if (changes.length > 0) publish(changes);
    const landscape = this.board.landscape();
    this.settleErrand(nowMs);
    this.steer();
    if (!this.isSettled) return;
    const { spread } = this;
    const rules = this.rulesInEffect();
    const { services } = this.options;
    const command = this.governor.decide({ self: store.id, landscape, rules, nowMs, services, spread });
    if (command !== undefined) this.begin(command, nowMs);
  }

  private rulesInEffect(): Rules {
    const { steering, rules: base } = this;
    if (this.inEffect?.steering !== steering || this.inEffect.base !== base)
      this.inEffect = { steering, base, rules: rulesOf(steering, base) };
    return this.inEffect.rules;
  }

  /** Does what operators have said since. */
  private steer(): void {
    const { steering } = this.board;
    if (steering === this.steering) return;
    this.steering = steering;
    for (const { name, running } of this.governor.states()) {
      const wanted = !steering.stopped.includes(name);
      if (running !== wanted) this.governor.setRunning(name, wanted);
    }
  }

  // -- Commands ------------------------------------------------------------------------------------------------

  /** Carries out an order (order.ts), or refuses it in words. Never throws. Look again soon: it may have changed much. */
  order(bytes: Uint8Array): Uint8Array {
    const order = decodeOrder(bytes);
    if (order === undefined) {
      const why = 'the store does not know that order: its node may run another version';
      return encodeAnswer({ kind: 'refused', why, leader: 0 });
    }
    if (order.kind === 'drain') return encodeAnswer(this.handOver());
    if (order.kind === 'balancers')
      return encodeAnswer({ kind: 'balancers', balancers: this.balancerReports() });
    const { store, env, isSole, loadOf } = this.options;
    if (order.kind === 'stand-back') {
      this.governor.standBack(env.clock.monotonicMs() + STAND_BACK_MS);
      return encodeAnswer({ kind: 'done' });
    }
    const answer = obey(order, {
      ...{ store, membersOf, landscape: sharedOf(this.board.landscape()) },
      isSole: range => isSole?.(range) ?? false,
      splitKeyOf: range => loadOf(range).splitKey,
      give: command => this.give(command, ++this.lastSequence),
    });
    return encodeAnswer(answer);
  }

  /** All at once to who has the most of the log, and nothing comes back: it takes ranges of no service any more. */
  private handOver(): OrderAnswer {
    this.account = { ...this.account, services: [] };
    const landscape = sharedOf(this.board.landscape());
    let left = 0;
    for (const replica of this.options.store.replicas) {
      const { descriptor, rangeId } = replica;
      if (!replica.isLeader || descriptor === undefined || this.options.isSole?.(rangeId) === true) continue;
      const matched = (id: number) => replica.raft.progress.get(id)?.match ?? 0;
      const [heir] = membersOf(descriptor)
        .filter(({ role, store }) => role === MEMBER.VOTER && accountOf(landscape, store)?.alive === true)
        .filter(({ store }) => store !== this.options.store.id)
        .sort((one, other) => matched(other.replica) - matched(one.replica));
      if (heir === undefined) continue;
      this.options.store.transfer(rangeId, heir.store);
      left++;
    }
    return { kind: left === 0 ? 'done' : 'begun' };
  }

  private balancerReports(): readonly BalancerReport[] {
    const nowMs = this.options.env.clock.monotonicMs();
    const landscape = this.board.landscape();
    return this.governor.states().map(({ last, lastMs, restsUntilMs, ...state }) => ({
      ...state,
      last: last === undefined ? '' : commandWords(last, landscape).slice(0, LAST_LENGTH_MAX),
      lastAgoMs: last === undefined ? 0 : nowMs - lastMs,
      restsMs: Math.max(0, restsUntilMs - nowMs),
    }));
  }

  private begin(command: Command, nowMs: number): void {
    const sequence = ++this.lastSequence;
    const untilMs = nowMs + (command.kind === 'retire' ? RETIRE_MS_MAX : COMMAND_MS_MAX);
    if (this.give(command, sequence)) this.errand = { command, untilMs, sequence };
    else this.governor.finished(false, nowMs, this.spread);
  }

  private give(command: Command, sequence: number): boolean {
    const { store } = this.options;
    const { session } = this;
    switch (command.kind) {
      case 'bootstrap':
        store.found(this.firstRange(command.boundary));
        return true;
      case 'change': {
        if (store.replica(command.range)?.descriptor?.membersAt !== command.membersAt) return false;
        const places = [
          ...command.voters.map((at): Place => ({ store: at, role: ROLE.VOTER })),
          ...command.learners.map((at): Place => ({ store: at, role: ROLE.LEARNER })),
        ];
        store.configure(command.range, session, sequence, places);
        return true;
      }
      case 'transfer':
        return (
          store.replica(command.range)?.raft.term === command.term &&
          store.transfer(command.range, command.to)
        );
      case 'split':
        return store.split(command.range, command.epoch, session, sequence, command.key) !== 0;
      case 'merge':
        if (store.replica(command.range)?.descriptor?.epoch !== command.epoch) return false;
        if (store.replica(command.upper)?.descriptor?.epoch !== command.upperEpoch) return false;
        store.merge(command.upper, command.range, session, sequence);
        return true;
      case 'retire':
        store.inquire(
          command.range,
          leadersOf(sharedOf(this.board.landscape())).of(command.range)?.account.store,
        );
        return true;
      case 'discard':
        return store.discard(command.range);
    }
  }

  private firstRange(boundary: Boundary): Descriptor {
    const { store, env } = this.options;
    const id = () => 1 + (randomU53(env.random) % (Number.MAX_SAFE_INTEGER - 2));
    return {
      ...{ id: id(), genesis: id(), service: boundary.start[0]!, epoch: 1, boundary },
      members: [{ replica: FIRST_REPLICA, store: store.id, role: ROLE.VOTER }],
      ...{ membersAt: 1, changing: false, nextReplica: FIRST_REPLICA + 1 },
      ...{ merging: undefined, absorbed: [], pristine: true },
    };
  }

  /** The store refused what it was given under this number: no need to wait. */
  outcome(session: number, sequence: number, outcome: number): void {
    if (session !== this.session || this.errand?.sequence !== sequence) return;
    if (outcome === OUTCOME.DONE || outcome === OUTCOME.DONE_BEFORE || outcome === OUTCOME.UNKNOWN) return;
    this.end(false, this.options.env.clock.monotonicMs());
  }

  private settleErrand(nowMs: number): void {
    if (this.errand === undefined) return;
    if (isSeen(this.errand.command, this.options.store)) this.end(true, nowMs);
    else if (nowMs >= this.errand.untilMs) this.end(false, nowMs);
  }

  private end(isDone: boolean, nowMs: number): void {
    this.errand = undefined;
    this.governor.finished(isDone, nowMs, this.spread);
  }
}

const LAST_LENGTH_MAX = 200;
const FIRST_REPLICA = 1;

/** Whether what was ordered has come about. */
function isSeen(command: Command, store: RaftStore): boolean {
  if (command.kind === 'bootstrap') {
    const { start } = command.boundary;
    return [...store.replicas].some(
      ({ descriptor }) => descriptor !== undefined && Buffer.compare(descriptor.boundary.start, start) === 0,
    );
  }
  const replica = store.replica(command.range);
  const descriptor = replica?.descriptor;
  switch (command.kind) {
    case 'retire':
    case 'discard':
      return replica === undefined;
    case 'transfer':
      return replica?.isLeader !== true;
    case 'change':
      return descriptor === undefined || (descriptor.membersAt > command.membersAt && !descriptor.changing);
    case 'split':
      return descriptor !== undefined && descriptor.epoch > command.epoch;
    case 'merge':
      return store.replica(command.upper) === undefined;
  }
}
