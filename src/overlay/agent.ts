import type { HostId } from '../underlay/message.js';

/** Who registered under an agent. The same name on several hosts is a multicast group. */
export interface AgentMember {
  readonly host: HostId;
  readonly name: string;
  /** Opaque, at most `METADATA_BYTES_MAX`. */
  readonly metadata: Uint8Array;
  /** Hybrid logical clock of the registration or of the last change of the metadata. */
  readonly hlc: number;
}

/** What an agent tells: exactly one for each change. Replaying them gives `members()`, `hosts()` and the maps. */
export type AgentOutput =
  | {
      readonly kind: 'member-joined' | 'member-updated' | 'member-left';
      readonly agent: string;
      readonly member: AgentMember;
    }
  /** The landscape: which hosts carry the agent. */
  | { readonly kind: 'host-joined' | 'host-left'; readonly agent: string; readonly host: HostId }
  | {
      readonly kind: 'message';
      readonly agent: string;
      readonly from: { readonly host: HostId; readonly member: string };
      /** The member here that it is for. */
      readonly to: string;
      readonly bytes: Uint8Array;
    }
  /** Reliable messages to this host that were not acknowledged when it went: each may have arrived or not. */
  | { readonly kind: 'undelivered'; readonly agent: string; readonly host: HostId; readonly messages: number }
  | {
      readonly kind: 'map-changed';
      readonly agent: string;
      readonly map: string;
      readonly keys: readonly string[];
    };

/** `full`: the reliable link to that host holds its limit of unacknowledged bytes; nothing was taken. */
export type AgentSent = 'sent' | 'full' | 'no-such-member';

/**
 * - `reliable`: in the order of this sender to that host, once, retried until acknowledged or the host is gone.
 * - `best-effort`: at most once, any order; a datagram where it fits.
 */
export type Reliability = 'reliable' | 'best-effort';

/**
 * A named group that this host has joined. `overlay.host(name)` gives it. What breaks a limit of limits.ts asserts;
 * bytes that are given are kept by reference and must not change, those that come are views of a packet.
 */
export interface Agent {
  readonly name: string;
  /**
   * Registers a member of this host, or changes its metadata. It comes back by itself after a healed cut. At most
   * `MEMBERS_PER_HOST_MAX`.
   */
  register(member: string, metadata: Uint8Array): void;
  deregister(member: string): void;
  /** Members of hosts that are in the underlay's view, sorted by name and host. */
  members(): readonly AgentMember[];
  hosts(): readonly HostId[];
  /** From own member `from` to one member, `MESSAGE_BYTES_MAX` at most. To itself works too. */
  unicast(from: string, host: HostId, member: string, bytes: Uint8Array, reliability: Reliability): AgentSent;
  /** To the members of that name on every host, this one included; returns those that were not reached ('full'). */
  multicast(from: string, member: string, bytes: Uint8Array, reliability: Reliability): readonly HostId[];
  /** To all members, the sender included. */
  broadcast(from: string, bytes: Uint8Array, reliability: Reliability): readonly HostId[];
  /** Shared by all hosts that carry the agent; made when first asked for. */
  map(name: string): SharedMap;
}

/**
 * A replicated map: every host of the agent has all of it, writes go at once to the own copy and from there to the
 * others. Concurrent writes of one key: the later by the hybrid logical clock wins (ties by host id).
 */
export interface SharedMap {
  readonly name: string;
  get(key: string): Uint8Array | undefined;
  /**
   * `owned`: the entry is this host's and goes with it; it comes back by itself after a healed cut. False: the agent
   * has `ENTRIES_MAX` entries, nothing was written.
   */
  set(key: string, value: Uint8Array, owned: boolean): boolean;
  /** What is owned by another host stays: it would write it again. */
  delete(key: string): void;
  keys(): IterableIterator<string>;
  /** The host whose entry it is; undefined when it belongs to nobody. */
  ownerOf(key: string): HostId | undefined;
}
