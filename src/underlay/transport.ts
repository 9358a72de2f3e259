import type { Address, Path } from './message.js';

/**
 * Carries packets as bytes. Implementations: UDP and TCP sockets (`io/`) and the simulator's network; one contract
 * suite runs on both.
 *
 * - `send` never throws and never blocks. A datagram may be lost, doubled and overtaken; it is refused (counted, told
 *   by `unreachable`) above `DATAGRAM_BYTES_MAX`. A stream packet arrives once and in order among the stream packets
 *   to that address, or its loss is told by `unreachable`. What waits for one address is bounded; above that, the
 *   packet is dropped and told.
 * - `packet` gives bytes that belong to the receiver, with the address that they came from as seen from here: good
 *   enough to answer a datagram, of no use for answering a stream (its port is ephemeral).
 */
export interface Transport {
  send(to: Address, path: Path, bytes: Uint8Array): void;
  close(): void | Promise<void>;
}

export interface TransportSink {
  packet(bytes: Uint8Array, from: Address, path: Path): void;
  /** Something sent to the address did not arrive; a hint, not a verdict. */
  unreachable(to: Address, path: Path): void;
}

/** Largest datagram, headers of IP and UDP excluded: fits the IPv6 minimum MTU of 1,280 bytes (RFC 8200, section 5). */
export const DATAGRAM_BYTES_MAX = 1_232;

/** Largest stream packet. */
export const STREAM_PACKET_BYTES_MAX = 1_048_576;
