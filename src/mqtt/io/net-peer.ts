/**
 * A peer on a `net.Socket` or, for TLS, a `tls.TLSSocket`: Node's public interface, hence the fallback for plain
 * TCP and the only way for TLS. All sockets share the same listener functions, which find their peer by a symbol.
 */
import type { Socket } from 'node:net';
import type { CloseCause, Peer, PeerCertificate, PeerHandler } from '../transport.js';
import { plainAddress } from './listening.js';
import type { Origin } from './net-listener.js';

const PEER = Symbol('peer');

type PeerSocket = Socket & { [PEER]?: NetPeer };

/** What a peer needs of the listener that accepted it. */
export interface NetPeerOwner {
  readonly endTimeoutMs: number;
}

export class NetPeer implements Peer {
  readonly transport: 'tcp' | 'tls';
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly admitted: boolean;
  readonly certificate: PeerCertificate | undefined;
  readonly #socket: PeerSocket;
  readonly #owner: NetPeerOwner;
  #handler: PeerHandler | undefined = undefined;
  #open = true;
  #paused = false;
  #drainAwaited = false;
  #cause: CloseCause | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  /** The 'drain' event speaks only above the high-water mark, a write's callback always. */
  readonly #onWritten = (): void => {
    if (!this.#drainAwaited || !this.#open || this.#socket.destroyed || this.#socket.writableLength > 0)
      return;
    this.#drainAwaited = false;
    this.#handler!.onDrain();
  };

  constructor(
    socket: Socket,
    owner: NetPeerOwner,
    transport: 'tcp' | 'tls',
    { source, admitted }: Origin,
    certificate: PeerCertificate | undefined,
  ) {
    this.#socket = socket;
    this.#owner = owner;
    this.transport = transport;
    this.remoteAddress = plainAddress(source?.address ?? socket.remoteAddress ?? '');
    this.remotePort = source?.port ?? socket.remotePort ?? 0;
    this.admitted = admitted;
    this.certificate = certificate;
    this.#socket[PEER] = this;
  }

  get pendingBytes(): number {
    return this.#socket.destroyed ? 0 : this.#socket.writableLength;
  }

  /** Listens to the socket; called once, with what the acceptor returned. The socket is paused until then. */
  start(handler: PeerHandler): void {
    this.#handler = handler;
    // Only a socket paused outright does not begin to flow when somebody listens for data.
    this.#socket.pause();
    this.#socket.on('data', onData);
    this.#socket.on('error', onError);
    this.#socket.on('close', onClose);
    if (this.#open && !this.#paused) this.#socket.resume();
  }

  write(bytes: Buffer): number {
    if (!this.#open || bytes.length === 0) return this.pendingBytes;
    this.#socket.write(bytes, this.#onWritten);
    const pending = this.#socket.writableLength;
    if (pending > 0) this.#drainAwaited = true;
    return pending;
  }

  pause(): void {
    if (this.#paused || !this.#open) return;
    this.#paused = true;
    if (this.#handler !== undefined) this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused || !this.#open) return;
    this.#paused = false;
    if (this.#handler !== undefined) this.#socket.resume();
  }

  end(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#timer = setTimeout(onEndTimeout, this.#owner.endTimeoutMs, this);
    this.#socket.end();
    // Only a flowing socket sees the client's FIN.
    this.#socket.resume();
  }

  destroy(): void {
    this.#open = false;
    this.#socket.destroy();
  }

  received(chunk: Buffer): void {
    if (this.#open) this.#handler!.onData(chunk, 0, chunk.length);
  }

  failed(error: NodeJS.ErrnoException): void {
    this.#cause ??= { kind: 'error', code: error.code ?? 'EUNKNOWN' };
  }

  closed(): void {
    this.#open = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#handler!.onClose(this.#cause);
  }

  endTimedOut(): void {
    if (this.#socket.writableLength > 0 || !this.#socket.writableFinished) {
      this.#cause ??= { kind: 'limit', reason: 'could not flush in time' };
    }
    this.#socket.destroy();
  }
}

function onData(this: PeerSocket, chunk: Buffer): void {
  this[PEER]!.received(chunk);
}

function onError(this: PeerSocket, error: Error): void {
  this[PEER]!.failed(error);
}

function onClose(this: PeerSocket): void {
  this[PEER]!.closed();
}

function onEndTimeout(peer: NetPeer): void {
  peer.endTimedOut();
}
