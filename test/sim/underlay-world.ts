import type { Address, HostId } from '../../src/underlay/message.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import type { HostEvent, UnderlayTiming } from '../../src/underlay/underlay.js';
import { Network } from './network.js';
import { NodeClock, type SimNode } from './node.js';
import type { SeededRandom } from './random.js';
import { CheckFailure, fail, idHash } from './underlay-checkers.js';
import { type HostSink, SimHost, type Upper } from './underlay-host.js';
import { underlayFormat } from './underlay-trace.js';
import { World } from './world.js';

export interface ClusterSettings {
  readonly hosts: number;
  readonly seed: number;
  /** Each packet goes through the real codec; slower. By default up to `ENCODED_HOSTS_MAX` hosts. */
  readonly isEncoded?: boolean;
  readonly timing?: Partial<UnderlayTiming>;
  /** Every packet is noted in the trace. By default up to `ENCODED_HOSTS_MAX` hosts. */
  readonly isTraced?: boolean;
  /** As many repetitions as a figure needs that is printed; few by default. */
  readonly isThorough?: boolean;
  /** What stands on the underlay of each host. */
  readonly upper?: Upper;
}

const ENCODED_HOSTS_MAX = 20;
const MAX_FALSE_EVICTIONS_KEPT = 1_000;
/** A host counts as responsive this long after a pause, and as reachable after a cut: suspicions were under way. */
const RECOVERY_MS = 30_000;

/** A place for hosts: an address, its node, and who lives there now. */
export interface Seat {
  readonly node: SimNode;
  name: string;
  host: SimHost | undefined;
  /** Hosts of one part see each other; the number is the cluster's, for convergence. */
  part: number;
  seeds: readonly Address[];
  environment: string;
  /** Said goodbye, or put out by an operator: not expected in any view. */
  isOut: boolean;
  skewMs: number;
  driftPpm: number;
}

export interface FalseEviction {
  readonly atMs: number;
  readonly observer: string;
  readonly subject: string;
}

/** Hosts of the underlay in one world, what people do to them, and what is checked all along. */
export class Cluster implements HostSink {
  readonly world: World;
  readonly network: Network;
  readonly random: SeededRandom;
  readonly seats: Seat[] = [];
  /** Live, reachable, responsive hosts that somebody declared failed. */
  readonly falseEvictions: FalseEviction[] = [];
  falseEvictionCount = 0;
  /** Counted over all hosts. */
  readonly tally: Record<HostEvent['kind'], number> = {
    joined: 0,
    updated: 0,
    suspected: 0,
    trusted: 0,
    gone: 0,
    'self-evicted': 0,
  };
  /** Given every event of every host, when set. */
  watch: ((host: SimHost, event: HostEvent) => void) | undefined;
  readonly #settings: ClusterSettings;
  readonly #byId = new Map<HostId, SimHost>();
  readonly #names = new Map<HostId, string>();
  readonly #isSmall: boolean;
  #healedMs = Number.NEGATIVE_INFINITY;
  /** Links are cut in ways that parts do not describe: nobody can say what is a false eviction. */
  isMurky = false;
  /** Hosts that were ever started. */
  lives = 0;

  constructor(settings: ClusterSettings) {
    this.#settings = settings;
    this.#isSmall = settings.hosts <= ENCODED_HOSTS_MAX;
    this.world = new World(settings.seed);
    this.world.trace.format = underlayFormat(id => this.#names.get(id) ?? String(id));
    this.network = new Network(this.world);
    this.network.isTraced = settings.isTraced ?? this.#isSmall;
    this.random = this.world.random.fork('scenario');
    for (let at = 0; at < settings.hosts; at += 1) this.addSeat();
  }

  get hostCount(): number {
    return this.#settings.hosts;
  }

  get isThorough(): boolean {
    return this.#settings.isThorough ?? false;
  }

  addSeat(name?: string): Seat {
    const at = this.seats.length;
    const address = `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}:4800`;
    const label = `h${at}`;
    const seat: Seat = {
      node: this.network.addNode(label, address),
      name: name ?? label,
      host: undefined,
      part: 0,
      seeds: this.seats.length === 0 ? [] : [this.seats[0]!.node.address],
      environment: 'simulated',
      isOut: false,
      skewMs: 0,
      driftPpm: 0,
    };
    this.seats.push(seat);
    return seat;
  }

  // -- What people do ---------------------------------------------------------------------------------------

  start(seat: Seat): SimHost {
    if (seat.host !== undefined) this.kill(seat);
    const { node } = seat;
    node.clock = new NodeClock(this.world, this.random.between(1_000, 1e7), seat.skewMs, seat.driftPpm);
    const id = this.random.u32() * 2 ** 20 + this.random.below(2 ** 20) + 1;
    const options = {
      id,
      name: seat.name,
      address: node.address,
      version: '0.1.0',
      environment: seat.environment,
      timing: { ...DEFAULT_TIMING, ...this.#settings.timing },
    };
    const isEncoded = this.#settings.isEncoded ?? this.#isSmall;
    const { upper } = this.#settings;
    const host = new SimHost(this.network, node, options, this, {
      isStrict: this.#isSmall,
      isEncoded,
      upper,
    });
    this.lives += 1;
    this.#byId.set(id, host);
    this.#names.set(id, node.life === 0 ? node.label : `${node.label}.${node.life + 1}`);
    this.world.trace.note('event', node.label, `starts as ${this.#names.get(id)}, id ${id}`);
    seat.host = host;
    seat.isOut = false;
    node.start(host);
    host.machine.setSeeds(seat.seeds);
    this.drive(seat);
    upper?.started(host);
    return host;
  }

  startAll(): void {
    for (const seat of this.seats) this.start(seat);
  }

  /** kill -9: the machine below goes on and refuses connections. */
  kill(seat: Seat): void {
    if (seat.host === undefined) return;
    this.world.trace.note('event', seat.node.label, 'is killed');
    seat.node.kill();
    seat.host = undefined;
  }

  /** The power fails: nothing answers at that address until the returned call is made. */
  vanish(seat: Seat): () => void {
    const self = new Set([seat.node.index]);
    const plugs = [
      this.network.addRule({ from: self, to: 'all', isCut: true }, `${seat.node.label} sends nothing`),
      this.network.addRule({ from: 'all', to: self, isCut: true }, `${seat.node.label} hears nothing`),
    ];
    this.kill(seat);
    return () => {
      for (const plug of plugs) plug();
    };
  }

  pause(seat: Seat): void {
    this.world.trace.note('event', seat.node.label, 'is paused');
    seat.node.pause();
  }

  resume(seat: Seat): void {
    if (!seat.node.isPaused) return;
    this.world.trace.note('event', seat.node.label, 'goes on');
    if (seat.host !== undefined) seat.host.resumedMs = this.world.nowMs;
    seat.node.resume();
  }

  /** In half of the worlds nobody has seeds any more: parts must then find each other by what they remember. */
  forgetSeedsAtTimes(): void {
    if (this.random.chance(0.5)) return;
    for (const seat of this.seats) {
      seat.host?.machine.setSeeds([]);
      this.drive(seat);
    }
    this.world.trace.note('event', 'scenario', 'nobody has seeds any more');
  }

  leave(seat: Seat): void {
    this.world.trace.note('event', seat.node.label, 'leaves');
    seat.isOut = true;
    seat.host?.machine.leave();
    this.drive(seat);
  }

  /** False when the operator's node does not know the host. */
  evict(by: Seat, victim: Seat): boolean {
    this.world.trace.note('event', by.node.label, `its operator evicts ${victim.node.label}`);
    const isKnown = by.host!.machine.evict(victim.host!.options.id);
    if (isKnown) victim.isOut = true;
    this.drive(by);
    return isKnown;
  }

  setAgents(seat: Seat, agents: readonly string[]): void {
    seat.host?.machine.setAgents(agents);
    this.drive(seat);
  }

  /** Cuts the network into these parts and expects each to find itself; who is in none forms one more. */
  partition(parts: readonly (readonly Seat[])[]): void {
    for (const seat of this.seats) seat.part = 0;
    parts.forEach((part, at) => {
      for (const seat of part) seat.part = at + 1;
    });
    this.network.partition(parts.map(part => part.map(({ node }) => node)));
  }

  heal(): void {
    for (const seat of this.seats) seat.part = 0;
    this.#healedMs = this.world.nowMs;
    this.network.heal();
  }

  /** Carries out what a call into a machine from outside has brought. */
  drive(seat: Seat): void {
    seat.host?.obey();
    seat.node.settle();
  }

  // -- What must hold ---------------------------------------------------------------------------------------

  /** Up, not paused, and expected to be seen by its part. */
  isExpected(seat: Seat): boolean {
    return seat.host !== undefined && seat.node.isResponsive && !seat.isOut;
  }

  /** Every expected host sees exactly the expected hosts of its part and environment, and suspects none. */
  isConverged(): boolean {
    const expected = new Map<string, { digest: number; size: number }>();
    const groupOf = (seat: Seat) => `${seat.part} ${seat.environment}`;
    for (const seat of this.seats) {
      if (!this.isExpected(seat)) continue;
      const group = expected.get(groupOf(seat)) ?? { digest: 0, size: 0 };
      group.digest ^= idHash(seat.host!.options.id);
      group.size += 1;
      expected.set(groupOf(seat), group);
    }
    return this.seats.every(seat => {
      if (!this.isExpected(seat)) return true;
      const { replay } = seat.host!;
      const { digest, size } = expected.get(groupOf(seat))!;
      return replay.digest === digest && replay.size === size && replay.suspects === 0;
    });
  }

  /** How long it took, or a failure that says who sees whom wrongly. */
  mustConverge(withinMs: number, what: string, stepMs = 100): number {
    const tookMs = this.world.runUntil(() => this.isConverged(), withinMs, stepMs);
    if (tookMs === undefined)
      fail(`${what}: not converged within ${withinMs / 1000} s: ${this.#differences()}`);
    this.world.trace.note('event', 'checker', `${what}: converged after ${(tookMs / 1000).toFixed(1)} s`);
    return tookMs;
  }

  /** Nobody's view changes for so long, suspicions included. */
  mustStayConverged(forMs: number, what: string): void {
    const before = this.tally.joined + this.tally.gone;
    this.world.run(forMs);
    const changes = this.tally.joined + this.tally.gone - before;
    if (changes > 0 || !this.isConverged()) {
      fail(`${what}: ${changes} hosts came or went in ${forMs / 1000} s: ${this.#differences()}`);
    }
  }

  mustHaveNoFalseEvictions(what: string): void {
    if (this.falseEvictionCount === 0) return;
    const { atMs, observer, subject } = this.falseEvictions[0]!;
    fail(
      `${what}: ${this.falseEvictionCount} false evictions; the first at ${(atMs / 1000).toFixed(3)} s: ${observer} evicted ${subject}`,
    );
  }

  /** Views equal the events, at this moment, for all. */
  compareAll(): void {
    for (const { host } of this.seats) host?.replay.compare(host.machine.hosts());
  }

  /** The whole cluster's bytes a second and host, headers included, over the next `forMs`. */
  measureBytesPerSecond(forMs: number): number {
    const sum = () => this.seats.reduce((total, { node }) => total + node.bytesSent, 0);
    const before = sum();
    this.world.run(forMs);
    const up = this.seats.filter(({ host }) => host !== undefined).length;
    return ((sum() - before) / up / forMs) * 1000;
  }

  // -- HostSink ---------------------------------------------------------------------------------------------

  event(host: SimHost, event: HostEvent): void {
    this.tally[event.kind] += 1;
    if (event.kind === 'gone' && event.reason === 'failed') this.#judge(host, event.host.id);
    this.watch?.(host, event);
  }

  fault(host: SimHost, words: string): void {
    throw new CheckFailure(`${host.node.label}: ${words}`);
  }

  hostOf(id: HostId): SimHost | undefined {
    return this.#byId.get(id);
  }

  #seatOf(host: SimHost): Seat {
    return this.seats[host.node.index]!;
  }

  /** Whether an eviction was false: the evicted one is there, could be reached, and has not been paused lately. */
  #judge(observer: SimHost, subjectId: HostId): void {
    const subject = this.#byId.get(subjectId);
    if (this.isMurky || subject === undefined) return;
    const seat = this.#seatOf(subject);
    const isThere = seat.host === subject && this.isExpected(seat);
    const isReachable = seat.part === this.#seatOf(observer).part;
    const calmSinceMs = Math.max(subject.resumedMs, this.#healedMs);
    if (!isThere || !isReachable || this.world.nowMs - calmSinceMs < RECOVERY_MS) return;
    this.falseEvictionCount += 1;
    if (this.falseEvictions.length < MAX_FALSE_EVICTIONS_KEPT) {
      this.falseEvictions.push({
        atMs: this.world.nowMs,
        observer: observer.node.label,
        subject: subject.node.label,
      });
    }
  }

  /** For people: the first few hosts that see something else than they should. */
  #differences(): string {
    const lines: string[] = [];
    for (const seat of this.seats) {
      if (!this.isExpected(seat)) continue;
      const { replay } = seat.host!;
      const isPeer = (other: Seat) =>
        this.isExpected(other) && other.part === seat.part && other.environment === seat.environment;
      const missing = this.seats.filter(other => isPeer(other) && !replay.has(other.host!.options.id));
      const known = seat.host!.machine.hosts().map(({ record }) => this.#byId.get(record.id));
      const surplus = known.filter(host => host !== undefined && !isPeer(this.#seatOf(host)));
      const ghosts = known.filter(host => host !== undefined && this.#seatOf(host).host !== host);
      const wrong = new Set([...surplus, ...ghosts]);
      if (missing.length + wrong.size + replay.suspects === 0) continue;
      const list = (names: readonly string[]) =>
        names.length > 5 ? `${names.slice(0, 5).join(' ')} and ${names.length - 5} more` : names.join(' ');
      const parts = [`${seat.node.label} sees ${replay.size}`];
      if (missing.length > 0) parts.push(`misses ${list(missing.map(({ node }) => node.label))}`);
      if (wrong.size > 0)
        parts.push(`still has ${list([...wrong].map(host => this.#names.get(host!.options.id)!))}`);
      if (replay.suspects > 0) parts.push(`suspects ${replay.suspects}`);
      lines.push(parts.join(', '));
    }
    return lines.length > 4
      ? `${lines.slice(0, 4).join('; ')}; and ${lines.length - 4} more hosts`
      : lines.join('; ');
  }
}
