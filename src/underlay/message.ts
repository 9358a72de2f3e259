import type { CrdtMessage } from '../crdt/message.js';

/** A host's identity: a random integer in [1, 2^53) made at process start. A restart is another host. */
export type HostId = number;

/** Where a host is reached, as it advertises itself: `name:port`, `10.0.0.1:4800` or `[fd00::1]:4800`. */
export type Address = string;

/** How a packet travels: one datagram that may be lost, or the ordered stream of bytes between two addresses. */
export type Path = 'datagram' | 'stream';

/** What a host says of itself. Only the host itself writes it; a newer incarnation replaces an older one. */
export interface HostRecord {
  readonly id: HostId;
  /** Starts at 0; one more at each change of the record and at each refutation of a rumour about the host. */
  readonly incarnation: number;
  readonly name: string;
  readonly address: Address;
  /** Release of the software, as `shoalmq version` prints it. */
  readonly version: string;
  /** Wall clock of the process start, milliseconds since 1970. */
  readonly startedMs: number;
  /** Names of the agents that the host carries (the overlay's matter), sorted. */
  readonly agents: readonly string[];
}

/** `left`: said goodbye. `replaced`: another identity lives at its address. `evicted`: by an operator, for good. */
export type GoneReason = 'failed' | 'left' | 'replaced' | 'evicted';

/**
 * What hosts say to each other. Immutable once sent; the simulator hands the same object to several receivers.
 *
 * | kind | meaning, and who answers |
 * | --- | --- |
 * | ping | are you `target`? The host of that id answers `ack` with the same `sequence`; another identity at the address answers `mistaken`. `suspected`: the asker suspects the target at this incarnation (buddy piggyback), -1 when not |
 * | ping-request | ask `target` at `address` for me; the relay answers `ack` when it heard one, else `nack` before the asker's deadline |
 * | ack, nack | to the asker's own advertised address |
 * | mistaken | you asked for `target`, but I am another host at this address: `target` is gone |
 * | join | I am `record`; `expected` (0: whoever lives here) is the identity that is looked for. `reply`: answer with a join of your own. Carries `environment` in words so that a refusal can say why |
 * | alive, suspect, gone | rumours about one host at one incarnation, passed on for a bounded number of times |
 * | notice | to a host that acts alive while the sender holds it as gone at `incarnation`: it renews itself, or keeps out if evicted |
 * | refused | the sender does not take you in, in words (other environment) |
 * | crdt | anti-entropy of one replicated map; the map '' is the host map |
 * | payload | an opaque message of a layer above, for the named channel |
 */
export type Message =
  | { readonly kind: 'ping'; readonly sequence: number; readonly target: HostId; readonly suspected: number }
  | {
      readonly kind: 'ping-request';
      readonly sequence: number;
      readonly target: HostId;
      readonly address: Address;
      /** Milliseconds after which the relay sends `nack` when it has heard nothing. */
      readonly nackAfterMs: number;
    }
  | { readonly kind: 'ack'; readonly sequence: number; readonly target: HostId }
  | { readonly kind: 'nack'; readonly sequence: number; readonly target: HostId }
  | { readonly kind: 'mistaken'; readonly sequence: number; readonly target: HostId }
  | {
      readonly kind: 'join';
      readonly record: HostRecord;
      readonly expected: HostId;
      readonly reply: boolean;
      readonly environment: string;
    }
  | { readonly kind: 'alive'; readonly record: HostRecord }
  | { readonly kind: 'suspect'; readonly id: HostId; readonly incarnation: number; readonly by: HostId }
  | {
      readonly kind: 'gone';
      readonly id: HostId;
      readonly incarnation: number;
      readonly reason: GoneReason;
      readonly by: HostId;
    }
  | {
      readonly kind: 'notice';
      readonly id: HostId;
      readonly incarnation: number;
      readonly reason: GoneReason;
    }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'crdt'; readonly map: string; readonly message: CrdtMessage }
  | { readonly kind: 'payload'; readonly channel: string; readonly bytes: Uint8Array };

/** What one datagram or one frame of a stream carries. */
export interface Packet {
  /** Hash of `cluster.env`; a packet with another one is refused. 32 bits. */
  readonly environment: number;
  readonly from: HostId;
  /** The sender's incarnation at sending. */
  readonly incarnation: number;
  /** The sender's hybrid logical clock (`base/hlc.ts`). */
  readonly hlc: number;
  /** The sender's wall clock, milliseconds since 1970: shows clock skew. */
  readonly wallMs: number;
  readonly messages: readonly Message[];
}
