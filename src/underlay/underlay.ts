import type { Env } from '../base/env.js';
import type { CrdtMessage } from '../crdt/message.js';
import type { Address, GoneReason, HostId, HostRecord, Message, Packet, Path } from './message.js';

/** Settings of one host; times in milliseconds. */
export interface UnderlayOptions {
  readonly id: HostId;
  readonly name: string;
  readonly address: Address;
  readonly version: string;
  readonly environment: string;
  readonly timing: UnderlayTiming;
}

export interface UnderlayTiming {
  /** One probe in each; the detection time is bounded by it (default 1,000). */
  readonly probeIntervalMs: number;
  /** Direct answer expected within, before indirect probes go out (500). */
  readonly probeTimeoutMs: number;
  readonly gossipIntervalMs: number;
  readonly healIntervalMs: number;
  /** First pause between two joins to a seed that does not answer; grows to `seedRetryMaxMs`, never given up. */
  readonly seedRetryMs: number;
  readonly seedRetryMaxMs: number;
}

/** One host as this host sees it. */
export interface HostView {
  readonly record: HostRecord;
  readonly state: 'alive' | 'suspect';
  /** Wall clock of the last change of `state` or of joining, milliseconds since 1970. */
  readonly sinceMs: number;
  /** Smoothed round-trip time of direct probes, milliseconds; -1 when none was measured. */
  readonly roundTripMs: number;
  /** Its clock minus ours when last heard from, milliseconds, network delay included; 0 when never heard from. */
  readonly clockSkewMs: number;
  /** True when probes reach it only through others while its own packets arrive here, or the other way round. */
  readonly oneWay: boolean;
}

/** Exactly one for each change of the view. The host itself is in its own view from the start, without an event. */
export type HostEvent =
  | { readonly kind: 'joined'; readonly host: HostRecord }
  | { readonly kind: 'updated'; readonly host: HostRecord }
  | { readonly kind: 'suspected'; readonly host: HostRecord }
  | { readonly kind: 'trusted'; readonly host: HostRecord }
  | { readonly kind: 'gone'; readonly host: HostRecord; readonly reason: GoneReason }
  /** This host was evicted by an operator: it is silent from now on and stays out until its process starts again. */
  | { readonly kind: 'self-evicted'; readonly by: HostId };

/** Messages of one turn for one destination; the driver makes one packet of them (more if they do not fit). */
export interface Send {
  readonly to: Address;
  readonly path: Path;
  readonly messages: readonly Message[];
}

/** What a turn has brought: plain data for the driver to obey. Taking it empties it. */
export interface Ready {
  readonly sends: readonly Send[];
  readonly events: readonly HostEvent[];
  /** Messages for the layers above. */
  readonly payloads: readonly {
    readonly from: HostId;
    readonly channel: string;
    readonly bytes: Uint8Array;
  }[];
  /** Anti-entropy of maps other than the host map. */
  readonly crdt: readonly { readonly from: HostId; readonly map: string; readonly message: CrdtMessage }[];
}

/** The machine: everything that the layers above and the driver use. `Underlay` implements it. */
export interface UnderlayMachine {
  readonly self: HostRecord;
  /** A packet that the driver has opened and decoded. Never throws, whatever is in it. */
  receive(packet: Packet, from: Address, path: Path): void;
  /** A packet could not be opened: other key, forged or replayed. Counted, and told in words once a minute. */
  receiveSealed(from: Address, why: 'key' | 'replay' | 'malformed'): void;
  unreachable(to: Address, path: Path): void;
  /** To be called at or after `nextDeadlineMs()` of the monotonic clock; calls at other times do no harm. */
  tick(): void;
  nextDeadlineMs(): number;
  ready(): Ready;
  /** The seeds as resolved now; may be called again whenever names resolve differently. Own address is ignored. */
  setSeeds(seeds: readonly Address[]): void;
  setAgents(agents: readonly string[]): void;
  /** To a host of the view; false when it is not in the view. */
  send(to: HostId, path: Path, message: Extract<Message, { kind: 'payload' | 'crdt' }>): boolean;
  /** An operator's word: the host is out until its process starts again. False when it is not in the view. */
  evict(id: HostId): boolean;
  /** Says goodbye; `left()` is true once enough hosts have heard it or `leaveTimeout` has passed. */
  leave(): void;
  left(): boolean;
  hosts(): readonly HostView[];
  /** Local health multiplier of Lifeguard: 0 is healthy. */
  healthScore(): number;
  /** What the doctor tells of: bounded lists. */
  seedStates(): readonly SeedState[];
  refusals(): readonly Refusal[];
  lostHosts(): readonly { readonly record: HostRecord; readonly sinceMs: number }[];
  /** Counted since the start, for metrics. */
  readonly counters: UnderlayCounters;
}

export interface SeedState {
  readonly address: Address;
  /** Wall clock of the last join that was answered, milliseconds since 1970; 0 when none ever was. */
  readonly answeredMs: number;
  readonly tries: number;
}

/** Packets that were not taken in, one row for each address and reason. */
export interface Refusal {
  readonly address: Address;
  readonly why: 'environment' | 'key' | 'replay' | 'malformed' | 'evicted';
  /** The other environment's name where it is known. */
  readonly detail: string;
  readonly count: number;
  readonly lastMs: number;
}

export interface UnderlayCounters {
  probes: number;
  probeFailures: number;
  indirectProbes: number;
  suspicions: number;
  refutations: number;
  failures: number;
  heals: number;
  rumoursSent: number;
  rumoursHeard: number;
  joinsSent: number;
  joinsHeard: number;
}

/** Made by `new Underlay(options, env)`. */
export type UnderlayConstructor = new (options: UnderlayOptions, env: Env) => UnderlayMachine;
