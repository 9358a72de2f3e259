/**
 * What a connection sees of its socket: bytes in, bytes out, and no more. TCP, TLS, WS and WSS are
 * implementations under `io/`; one contract suite (`test/contract/transport.contract.ts`) holds them all to
 * what is said here.
 *
 * Everything on the data path is a plain synchronous call. There are no events, promises or closures per
 * packet: an accepted socket is one `Peer`, what the acceptor returns for it is one `PeerHandler`, and each
 * side calls the other's methods.
 *
 * - **Ownership of bytes.** Bytes given to `onData` belong to the receiver: the transport has copied them into the
 *   receiver's own memory, or will never write into that buffer again. Either may hold other bytes as well. Bytes
 *   given to `write` must not change until they are written; a receiver may share one buffer between any number
 *   of peers.
 * - **Re-entrancy.** `write`, `pause`, `resume`, `end` and `destroy` may be called from within any of the
 *   handler's methods. `onData`, `onDrain` and `onClose` are never called from within `write`, `pause`,
 *   `resume`, `end` or `destroy`, and never from within the acceptor: they come in a later turn (microtask or
 *   event) of the loop.
 * - **The end.** `onClose` comes exactly once for each accepted peer, whoever closed it and for whatever
 *   reason; afterwards nothing more is called, and every method of the peer is a harmless no-op.
 * - **Half-close.** A client that shuts its sending side is treated as gone: what is pending is still
 *   flushed (within the time limit of `end`), then the socket is closed. MQTT has no half-open state.
 * - **Bounds.** A peer never drops bytes and never bounds `pendingBytes` by itself: the caller stops writing
 *   above its own limit. `end` and a half-closed peer are closed after `endTimeoutMs` whatever is pending.
 */

import type { ReceiveMemory } from './receive-memory.js';

/** Which way a connection came in; also the `transport` label of metrics. */
export type TransportName = 'tcp' | 'tls' | 'ws' | 'wss';

/** What a client's own TLS certificate says, verified against the listener's authorities. */
export interface PeerCertificate {
  /** Subject common name; empty when the certificate has none. */
  readonly commonName: string;
  /** SHA-256 over the DER form, as upper-case hex pairs with colons. */
  readonly fingerprint256: string;
  /** Serial number in hex, as issued. */
  readonly serialNumber: string;
}

/** One accepted connection, seen from above. */
export interface Peer {
  readonly transport: TransportName;
  /** The client's address in text, IPv4 inside IPv6 shown as IPv4; the real one behind a PROXY protocol. */
  readonly remoteAddress: string;
  /** The client's port, or 0 where the transport does not tell (WS and WSS). */
  readonly remotePort: number;
  /** Present only on TLS, when the listener asked for a client certificate and a valid one came. */
  readonly certificate: PeerCertificate | undefined;
  /** False for one above the limit ({@link PLACE}.REFUSAL): its CONNECT is to be refused. */
  readonly admitted: boolean;
  /** Bytes accepted by `write` that the kernel has not taken yet. */
  readonly pendingBytes: number;
  /**
   * Hands bytes over, in order. Returns `pendingBytes` afterwards: 0 when the kernel has everything, and the memory
   * may be written to again. TLS completes
   * a write in the loop's next turn, so there it is never 0, and `onDrain` follows.
   */
  write(bytes: Buffer): number;
  /**
   * Stops reading: nothing is delivered until `resume`. TCP and TLS leave the rest to the kernel, so the client is
   * slowed down. WS and WSS cannot: what arrives is held up to a bound, and beyond it the client is cut off
   * (`io/ws.ts`).
   */
  pause(): void;
  resume(): void;
  /** Flushes what is pending, then closes; gives up and destroys after the listener's `endTimeoutMs`. */
  end(): void;
  /** Closes at once; pending bytes are dropped. */
  destroy(): void;
}

/** Why a peer is gone, for logs and counters; `undefined` in `onClose` means an orderly close by either side. */
export type CloseCause =
  /** The socket failed: ECONNRESET, EPIPE, ETIMEDOUT … in `code`. */
  | { readonly kind: 'error'; readonly code: string }
  /** The client broke the framing below MQTT (a WebSocket text frame, an oversized frame); the reason in words. */
  | { readonly kind: 'protocol'; readonly reason: string }
  /** The client kept sending far beyond `pause`, or `end` could not flush in time. */
  | { readonly kind: 'limit'; readonly reason: string };

/** A transport that puts together what comes in a turn, and hands it over when the turn ends. */
export interface Gatherer {
  deliverGathered(): void;
}

/** What the connection implements; returned by the acceptor for each peer. */
export interface PeerHandler {
  /** Where the transport may put what it read, if it cannot give its own buffer away. */
  readonly memory: ReceiveMemory;
  /** Bytes in the order sent, [start, end) of `bytes`, at least one; the receiver's from now on. */
  onData(bytes: Buffer, start: number, end: number): void;
  /** Bytes for this handler lie in its memory: `gatherer` is to be asked for them, once, before the turn ends. */
  onGathering(gatherer: Gatherer): void;
  /** `pendingBytes` fell to 0 after a `write` had returned more than 0. Once per such fall. */
  onDrain(): void;
  /** Exactly once, the last call; the peer is dead. */
  onClose(cause: CloseCause | undefined): void;
}

/** Called for each connection that is ready for MQTT bytes (after TLS and WebSocket handshakes). */
export type Accept = (peer: Peer) => PeerHandler;

/** Something that accepts connections, in the thread that opened it. */
export interface Listener {
  readonly transport: TransportName;
  readonly host: string;
  /** The port really bound, also when 0 was asked for. */
  readonly port: number;
  /**
   * The listening socket's descriptor, for `fd` of further listeners on the same port in other threads of this
   * process; -1 where there is none to share (WS and WSS: just listen on the same port again).
   */
  readonly fd: number;
  /** Connections open now, handshakes in progress included. */
  readonly connections: number;
  readonly counters: ListenerCounters;
  /** Stops accepting; connections already accepted live on. Idempotent. */
  close(): Promise<void>;
  /** `close`, then destroys every connection; resolves when all their `onClose` were called. Idempotent. */
  destroy(): Promise<void>;
}

/** Running totals since the listener opened; read by metrics, never reset. */
export interface ListenerCounters {
  accepted: number;
  /** Closed unheard, as soon as they were accepted, because `places` had none. */
  refusedAtLimit: number;
  /** Failed before they became peers: TLS or WebSocket handshake, PROXY header, time limits. */
  handshakeFailed: number;
  /**
   * Failures of accept() that the library below tells of; accepting goes on, without a pause. Too many open files is
   * not among them: libuv then accepts and closes what waits, silently, and uWebSockets.js spins until a descriptor
   * is free. So `places` has to run out before descriptors do.
   */
  acceptErrors: number;
}

/** What a newcomer gets; see {@link Places}. */
export const PLACE = {
  /** None: it is closed at once. */
  NONE: 0,
  SEAT: 1,
  /** It is above the limit: to be told so, then closed. */
  REFUSAL: 2,
} as const;

export type Place = (typeof PLACE)[keyof typeof PLACE];

/** Room for connections. Asked when a socket is accepted, on every transport, before anything is made for it. */
export interface Places {
  take(): Place;
  /** The socket is closed; called once for each `take` but NONE. */
  giveBack(place: Place): void;
}

/** Settings that every listener has. */
export interface ListenerOptions {
  readonly host: string;
  /** 0 asks the kernel for a free one. */
  readonly port: number;
  readonly places: Places;
  /** Longest queue of connections waiting in the kernel for accept(); the kernel caps it at somaxconn. */
  readonly backlog: number;
  /** How long `end` may take to flush. */
  readonly endTimeoutMs: number;
}
