/** Plain TCP on Node's own handle, without `net.Socket`; see `tcp.ts` for why and what it costs. */
import { getSystemErrorName } from 'node:util';
import { assert } from '../../base/assert.js';
import {
  type Accept,
  type CloseCause,
  type Listener,
  type ListenerCounters,
  type Peer,
  type PeerHandler,
  PLACE,
  type Place,
} from '../transport.js';
import { listenError, newCounters, plainAddress, resolveHost } from './listening.js';
import { ProxyHeaderParser } from './proxy-protocol.js';
import type { TcpListenOptions } from './tcp.js';
import { loadTcpBinding, type SocketName, type TcpHandle, type WriteRequest } from './tcp-binding.js';

const UV_EOF = -4095;
const READ_BYTES = 64 * 1024;

const OPEN = 0;
/** Our FIN is queued behind what is pending; what comes in is discarded. */
const ENDING = 1;
/** Our FIN is out; waiting for the client's, so that close() does not turn into a reset that eats our last bytes. */
const FINISHED = 2;
const CLOSED = 3;

const binding = loadTcpBinding();
const streamState = binding?.streamBaseState ?? new Int32Array(8);
const READ_RESULT = binding?.kReadBytesOrError ?? 0;
const WRITE_WAS_ASYNC = binding?.kLastWriteWasAsync ?? 0;

/** Every handle of this thread reads into this one: libuv delivers a read before it starts the next. */
const readBuffer = binding === undefined ? Buffer.alloc(0) : Buffer.allocUnsafeSlow(READ_BYTES);

/** A write request stays unused while the kernel takes whole writes, which is nearly always. */
let spareRequest: WriteRequest | undefined;

function newWriteRequest(): WriteRequest {
  const request = new binding!.WriteWrap();
  request.oncomplete = onWritten;
  request.peer = undefined;
  request.bytes = undefined;
  return request;
}

class HandlePeer implements Peer {
  handler: PeerHandler | undefined = undefined;
  proxyHeader: ProxyHeaderParser | undefined;
  /** The listener's list of its peers, so that it can destroy them all. */
  next: HandlePeer | undefined = undefined;
  previous: HandlePeer | undefined = undefined;
  readonly handle: TcpHandle;
  readonly listener: HandleListener;
  readonly place: Place;
  #state = OPEN;
  #paused = false;
  #reading = false;
  /** What followed a PROXY header while the peer was paused from the start. */
  #held: Buffer | undefined = undefined;
  #clientEnded = false;
  /** Writes that the kernel has not taken whole. */
  #writesPending = 0;
  #cause: CloseCause | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  #address: string | undefined = undefined;
  #port = 0;

  constructor(handle: TcpHandle, listener: HandleListener, place: Place) {
    this.handle = handle;
    this.listener = listener;
    this.place = place;
    this.proxyHeader = listener.proxyProtocol ? new ProxyHeaderParser() : undefined;
  }

  get transport(): 'tcp' {
    return 'tcp';
  }

  get certificate(): undefined {
    return undefined;
  }

  get admitted(): boolean {
    return this.place === PLACE.SEAT;
  }

  get remoteAddress(): string {
    if (this.#address === undefined) this.#readPeerName();
    return this.#address!;
  }

  get remotePort(): number {
    if (this.#address === undefined) this.#readPeerName();
    return this.#port;
  }

  get pendingBytes(): number {
    return this.#writesPending === 0 || this.#state === CLOSED ? 0 : this.handle.writeQueueSize;
  }

  write(bytes: Buffer): number {
    if (this.#state !== OPEN || bytes.length === 0) return this.pendingBytes;
    const request = spareRequest ?? newWriteRequest();
    const status = this.handle.writeBuffer(request, bytes);
    if (status !== 0) {
      spareRequest = request;
      this.#fail(status);
      return 0;
    }
    if (streamState[WRITE_WAS_ASYNC] === 0) {
      spareRequest = request;
      return this.#writesPending === 0 ? 0 : this.handle.writeQueueSize;
    }
    spareRequest = undefined;
    request.peer = this;
    request.bytes = bytes;
    this.#writesPending++;
    return this.handle.writeQueueSize;
  }

  pause(): void {
    if (this.#paused || this.#state !== OPEN) return;
    this.#paused = true;
    this.#updateReading();
  }

  resume(): void {
    if (!this.#paused || this.#state !== OPEN) return;
    this.#paused = false;
    if (this.#held === undefined) this.#updateReading();
    else setImmediate(onHeldDue, this);
  }

  end(): void {
    if (this.#state !== OPEN) return;
    this.#state = ENDING;
    this.setTimer(this.listener.endTimeoutMs);
    // Reading goes on, into nothing: the client's FIN tells that it has our last bytes.
    this.#updateReading();
    if (this.#isClosed()) return;
    const request = new binding!.ShutdownWrap();
    request.oncomplete = onShutdown;
    request.peer = this;
    const status = this.handle.shutdown(request);
    if (status !== 0) this.#fail(status);
  }

  destroy(): void {
    if (this.#state === CLOSED) return;
    this.#state = CLOSED;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.handle.close(onHandleClosed);
  }

  /** The real client behind a PROXY header. */
  setRemote(address: string, port: number): void {
    this.#address = plainAddress(address);
    this.#port = port;
  }

  /** Hands the peer to the connection above, and reads unless told not to. */
  start(accept: Accept): void {
    this.handler = accept(this);
    this.#updateReading();
  }

  /** Reads the PROXY header before there is a handler. */
  startHeader(timeoutMs: number): void {
    this.setTimer(timeoutMs);
    this.#updateReading();
  }

  receiveRest(rest: Buffer): void {
    if (this.#state !== OPEN) return;
    if (this.#paused) this.#held = rest;
    else this.handler!.onData(rest, 0, rest.length);
  }

  deliverHeld(): void {
    const held = this.#held;
    if (held === undefined || this.#paused || this.#state !== OPEN) return;
    this.#held = undefined;
    this.handler!.onData(held, 0, held.length);
    this.#updateReading();
  }

  setTimer(timeoutMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onPeerTimeout, timeoutMs, this);
  }

  clearTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  readDone(length: number): void {
    if (this.#state !== OPEN) return;
    if (this.proxyHeader !== undefined) {
      const chunk = Buffer.from(readBuffer.subarray(0, length));
      this.listener.receiveProxyHeader(this, this.proxyHeader, chunk);
      return;
    }
    const handler = this.handler!;
    const { memory } = handler;
    const start = memory.take(readBuffer, length);
    handler.onData(memory.bytes, start, start + length);
  }

  readFailed(status: number): void {
    if (status !== UV_EOF) {
      this.#fail(status);
      return;
    }
    this.#clientEnded = true;
    if (this.#state === FINISHED || (this.#state === OPEN && this.#writesPending === 0)) this.destroy();
    else if (this.#state === OPEN) this.end();
  }

  written(status: number): void {
    if (this.#state === CLOSED) return;
    this.#writesPending--;
    if (status < 0) this.#fail(status);
    else if (this.#writesPending === 0 && this.#state === OPEN) this.handler!.onDrain();
  }

  shutdownDone(status: number): void {
    if (this.#state === CLOSED) return;
    if (status < 0) this.#fail(status);
    else if (this.#clientEnded) this.destroy();
    else this.#state = FINISHED;
  }

  timedOut(): void {
    if (this.#state === OPEN || this.#state === ENDING) {
      this.#cause = {
        kind: 'limit',
        reason: this.#state === OPEN ? 'no PROXY header in time' : 'could not flush in time',
      };
    }
    this.destroy();
  }

  closed(): void {
    this.handler?.onClose(this.#cause);
  }

  breakProtocol(reason: string): void {
    this.#cause ??= { kind: 'protocol', reason };
    this.destroy();
  }

  /** Reading follows from the state; before the acceptor has returned, only a PROXY header is read. */
  #updateReading(): void {
    const ready = this.handler !== undefined || this.proxyHeader !== undefined;
    const wanted = this.#state === OPEN ? ready && !this.#paused : this.#state === ENDING;
    if (wanted === this.#reading || this.#state === CLOSED) return;
    this.#reading = wanted;
    const status = wanted ? this.handle.readStart() : this.handle.readStop();
    if (status !== 0) this.#fail(status);
  }

  #isClosed(): boolean {
    return this.#state === CLOSED;
  }

  #fail(status: number): void {
    if (this.#state === CLOSED) return;
    this.#cause ??= { kind: 'error', code: getSystemErrorName(status) };
    this.destroy();
  }

  #readPeerName(): void {
    const name: SocketName = {};
    const status = this.#state === CLOSED ? -1 : this.handle.getpeername(name);
    this.setRemote(status === 0 ? (name.address ?? '') : '', status === 0 ? (name.port ?? 0) : 0);
  }
}

// One function each for all handles: a closure a connection would cost memory for nothing.
function onRead(this: TcpHandle): void {
  const length = streamState[READ_RESULT]!;
  if (length > 0) (this.owner as HandlePeer).readDone(length);
  else if (length < 0) (this.owner as HandlePeer).readFailed(length);
}

function onWritten(this: WriteRequest, status: number): void {
  const peer = this.peer as HandlePeer;
  this.peer = undefined;
  this.bytes = undefined;
  peer.written(status);
}

function onShutdown(this: WriteRequest, status: number): void {
  (this.peer as HandlePeer).shutdownDone(status);
}

function onHeldDue(peer: HandlePeer): void {
  peer.deliverHeld();
}

function onPeerTimeout(peer: HandlePeer): void {
  peer.timedOut();
}

function onHandleClosed(this: TcpHandle): void {
  const peer = this.owner as HandlePeer;
  peer.listener.forget(peer);
  peer.closed();
  peer.listener.settle();
}

function onConnection(this: TcpHandle, status: number, client: TcpHandle | undefined): void {
  (this.owner as HandleListener).connection(status, client);
}

class HandleListener implements Listener {
  readonly host: string;
  readonly port: number;
  readonly counters: ListenerCounters = newCounters();
  readonly endTimeoutMs: number;
  readonly proxyProtocol: boolean;
  connections = 0;
  readonly #handle: TcpHandle;
  readonly #options: TcpListenOptions;
  readonly #accept: Accept;
  #first: HandlePeer | undefined = undefined;
  #closed: Promise<void> | undefined = undefined;
  #whenEmpty: (() => void) | undefined = undefined;
  #destroyed: Promise<void> | undefined = undefined;

  constructor(handle: TcpHandle, port: number, options: TcpListenOptions, accept: Accept) {
    this.#handle = handle;
    this.#options = options;
    this.#accept = accept;
    this.host = options.host;
    this.port = port;
    this.endTimeoutMs = options.endTimeoutMs;
    this.proxyProtocol = options.proxyProtocol;
    handle.owner = this;
    handle.onconnection = onConnection;
  }

  get transport(): 'tcp' {
    return 'tcp';
  }

  get fd(): number {
    return this.#handle.fd;
  }

  connection(status: number, client: TcpHandle | undefined): void {
    if (status !== 0 || client === undefined) {
      this.counters.acceptErrors++;
      return;
    }
    const place = this.#closed === undefined ? this.#options.places.take() : PLACE.NONE;
    if (place === PLACE.NONE) {
      this.counters.refusedAtLimit++;
      client.close();
      return;
    }
    this.counters.accepted++;
    client.setNoDelay(true);
    if (this.#options.tcpKeepAliveSeconds > 0) client.setKeepAlive(true, this.#options.tcpKeepAliveSeconds);
    client.useUserBuffer(readBuffer);
    client.onread = onRead;
    const peer = new HandlePeer(client, this, place);
    client.owner = peer;
    this.#remember(peer);
    if (!this.proxyProtocol) {
      peer.start(this.#accept);
      return;
    }
    peer.startHeader(this.#options.handshakeTimeoutMs);
  }

  receiveProxyHeader(peer: HandlePeer, parser: ProxyHeaderParser, chunk: Buffer): void {
    const result = parser.push(chunk);
    if (result.kind === 'more') return;
    if (result.kind === 'malformed') {
      peer.breakProtocol(result.reason);
      return;
    }
    peer.proxyHeader = undefined;
    peer.clearTimer();
    if (result.source !== undefined) peer.setRemote(result.source.address, result.source.port);
    peer.start(this.#accept);
    if (result.rest.length > 0) peer.receiveRest(result.rest);
  }

  close(): Promise<void> {
    this.#closed ??= new Promise(resolve => this.#handle.close(() => resolve()));
    return this.#closed;
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroyAll();
    return this.#destroyed;
  }

  forget(peer: HandlePeer): void {
    this.connections--;
    this.#options.places.giveBack(peer.place);
    if (peer.handler === undefined) this.counters.handshakeFailed++;
    if (peer.previous === undefined) this.#first = peer.next;
    else peer.previous.next = peer.next;
    if (peer.next !== undefined) peer.next.previous = peer.previous;
    peer.next = undefined;
    peer.previous = undefined;
  }

  settle(): void {
    if (this.connections === 0) this.#whenEmpty?.();
  }

  async #destroyAll(): Promise<void> {
    const listenerClosed = this.close();
    const empty = new Promise<void>(resolve => {
      this.#whenEmpty = resolve;
    });
    for (let peer = this.#first; peer !== undefined; peer = peer.next) peer.destroy();
    this.settle();
    await Promise.all([listenerClosed, empty]);
  }

  #remember(peer: HandlePeer): void {
    this.connections++;
    peer.next = this.#first;
    if (this.#first !== undefined) this.#first.previous = peer;
    this.#first = peer;
  }
}

/** Listens with Node's own handle. Throws SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED. */
export async function listenTcpHandle(options: TcpListenOptions, accept: Accept): Promise<Listener> {
  assert(binding !== undefined, 'listenTcpHandle without the bindings');
  const address = await resolveHost('tcp', options.host, options.port);
  const handle = new binding.TCP(binding.kindServer);
  let status = bindHandle(handle, address, options);
  const listener =
    status === 0 ? new HandleListener(handle, boundPort(handle, options.port), options, accept) : undefined;
  if (status === 0) status = handle.listen(options.backlog);
  if (listener === undefined || status !== 0) {
    handle.close();
    throw listenError('tcp', options.host, options.port, getSystemErrorName(status));
  }
  return listener;
}

function bindHandle(handle: TcpHandle, address: string, options: TcpListenOptions): number {
  if (options.fd !== undefined) return handle.open(options.fd);
  return address.includes(':') ? handle.bind6(address, options.port, 0) : handle.bind(address, options.port);
}

function boundPort(handle: TcpHandle, asked: number): number {
  const name: SocketName = {};
  return handle.getsockname(name) === 0 ? (name.port ?? asked) : asked;
}
