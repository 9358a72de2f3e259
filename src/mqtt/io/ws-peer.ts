/** One WebSocket as a peer; `ws.ts` says how and within which limits. */
import type { WebSocket } from 'uWebSockets.js';
import type { ReceiveMemory } from '../receive-memory.js';
import {
  type Accept,
  type CloseCause,
  type Gatherer,
  type Peer,
  type PeerHandler,
  PLACE,
  type Place,
} from '../transport.js';
import { plainAddress } from './listening.js';
import { ipv6Text } from './proxy-protocol.js';

const CLOSE_NORMAL = 1000;
const CLOSE_NOT_ACCEPTABLE = 1003;
const CLOSE_TRY_AGAIN_LATER = 1013;
/** What uWS reports when no close frame came; its message then says why, if it was uWS that closed. */
const CLOSED_WITHOUT_FRAME = 1006;
const SEND_DONE = 1;

/** What a peer needs of the listener that accepted it. */
export interface WsPeerOwner {
  readonly transport: 'ws' | 'wss';
  readonly endTimeoutMs: number;
  readonly destroying: boolean;
  /** Bytes held for all paused peers; each peer keeps its share in here. */
  heldBytes: number;
  /** Peers whose client has closed while what it sent is held. */
  readonly closeHeld: Set<WsPeer>;
  mayHold(peerBytes: number, bytes: number): boolean;
  gather(peer: WsPeer, message: ArrayBuffer): void;
  takeGathered(peer: WsPeer): Buffer | undefined;
  endGathering(): void;
  forget(peer: WsPeer): void;
  settle(): void;
}

/** uWS copies this onto its own object of the socket, which is what `getUserData` returns. */
export interface UserData {
  readonly peer: WsPeer;
}

export class WsPeer implements Peer {
  ws: WebSocket<UserData> | undefined = undefined;
  readonly place: Place;
  readonly #listener: WsPeerOwner;
  #handler: PeerHandler | undefined = undefined;
  #address: string | undefined;
  #paused = false;
  #ending = false;
  /** We called close() or end(): uWS runs the close handler from within that call. */
  #closingHere = false;
  #deliveryDue = false;
  #drainAwaited = false;
  /** The client has closed, but what it sent before waits for `resume`; then comes `onClose`. */
  #closeHeld = false;
  #held: Buffer[] | undefined = undefined;
  #heldBytes = 0;
  #cause: CloseCause | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;

  constructor(listener: WsPeerOwner, place: Place, address: string | undefined) {
    this.#listener = listener;
    this.place = place;
    this.#address = address;
  }

  get transport(): 'ws' | 'wss' {
    return this.#listener.transport;
  }

  get remoteAddress(): string {
    if (this.#address === undefined) {
      this.#address = this.ws === undefined ? '' : addressText(new Uint8Array(this.ws.getRemoteAddress()));
    }
    return this.#address;
  }

  get remotePort(): number {
    return 0;
  }

  get admitted(): boolean {
    return this.place === PLACE.SEAT;
  }

  get certificate(): undefined {
    return undefined;
  }

  get pendingBytes(): number {
    return this.ws === undefined ? 0 : this.ws.getBufferedAmount();
  }

  start(ws: WebSocket<UserData>, accept: Accept): void {
    this.ws = ws;
    this.#handler = accept(this);
  }

  write(bytes: Buffer): number {
    const ws = this.ws;
    if (ws === undefined || this.#ending || bytes.length === 0) return this.pendingBytes;
    if (ws.send(bytes, true, false) === SEND_DONE) return 0;
    const pending = ws.getBufferedAmount();
    if (pending > 0) this.#drainAwaited = true;
    return pending;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#held === undefined || this.#deliveryDue) return;
    this.#deliveryDue = true;
    setImmediate(onDeliveryDue, this);
  }

  end(): void {
    const ws = this.ws;
    if (this.#closeHeld) this.destroy();
    if (ws === undefined || this.#ending) return;
    this.#ending = true;
    this.#releaseHeld();
    // uWS would flush by itself after end(), but with no time limit once the client takes a few bytes.
    if (ws.getBufferedAmount() === 0) this.#closeFrame(ws, CLOSE_NORMAL, '');
    else this.#timer = setTimeout(onEndTimeout, this.#listener.endTimeoutMs, this);
  }

  destroy(): void {
    const ws = this.ws;
    if (this.#closeHeld && !this.#ending) this.#dropClose();
    if (ws === undefined) return;
    this.#ending = true;
    this.#closingHere = true;
    ws.close();
  }

  received(message: ArrayBuffer, isBinary: boolean): void {
    const ws = this.ws;
    if (ws === undefined || this.#ending) return;
    if (!isBinary) {
      this.#listener.endGathering();
      if (this.ws === undefined || this.#ending) return;
      this.#refuse(ws, CLOSE_NOT_ACCEPTABLE, { kind: 'protocol', reason: 'a WebSocket text frame' });
      return;
    }
    if (message.byteLength > 0) this.#listener.gather(this, message);
  }

  /** Where messages for the connection above are put. */
  get memory(): ReceiveMemory {
    return this.#handler!.memory;
  }

  announce(gatherer: Gatherer): void {
    this.#handler!.onGathering(gatherer);
  }

  deliver(bytes: Buffer, start: number, end: number): void {
    const ws = this.ws;
    if (ws === undefined || this.#ending) return;
    if (!this.#paused && this.#held === undefined) this.#handler!.onData(bytes, start, end);
    else if (this.#listener.mayHold(this.#heldBytes, end - start)) this.#hold(bytes.subarray(start, end));
    else {
      this.#refuse(ws, CLOSE_TRY_AGAIN_LATER, { kind: 'limit', reason: 'sent too much while paused' });
    }
  }

  drained(): void {
    const ws = this.ws;
    if (ws === undefined || ws.getBufferedAmount() > 0) return;
    if (this.#ending) {
      this.#closeFrame(ws, CLOSE_NORMAL, '');
      return;
    }
    if (!this.#drainAwaited) return;
    this.#drainAwaited = false;
    this.#handler!.onDrain();
  }

  /** uWS's close handler; `ws` is dead from here on, and what the handler calls on us does nothing. */
  closed(code: number, message: string): void {
    this.ws = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const last = this.#listener.takeGathered(this);
    if (code === CLOSED_WITHOUT_FRAME && !this.#closingHere) this.#cause ??= causeOf(message);
    const byClient = !this.#ending && !this.#listener.destroying;
    if (byClient && last !== undefined) {
      if (!this.#paused && this.#held === undefined) this.#handler!.onData(last, 0, last.length);
      else if (this.#listener.mayHold(this.#heldBytes, last.length)) this.#hold(last);
    }
    if (byClient && this.#held !== undefined) {
      this.#closeHeld = true;
      this.#listener.closeHeld.add(this);
      this.#timer = setTimeout(onHeldTimeout, this.#listener.endTimeoutMs, this);
      return;
    }
    this.#ending = true;
    this.#releaseHeld();
    if (this.#closingHere || this.#listener.destroying) setImmediate(onClosedDue, this);
    else this.notifyClosed();
  }

  notifyClosed(): void {
    this.#listener.forget(this);
    this.#handler?.onClose(this.#cause);
    this.#listener.settle();
  }

  deliverHeld(): void {
    this.#deliveryDue = false;
    const held = this.#held;
    if (held === undefined) return;
    let next = 0;
    while (next < held.length && !this.#paused && !this.#ending) {
      const chunk = held[next++]!;
      this.#heldBytes -= chunk.length;
      this.#listener.heldBytes -= chunk.length;
      this.#handler!.onData(chunk, 0, chunk.length);
    }
    if (this.#ending) return;
    this.#held = next < held.length ? held.slice(next) : undefined;
    if (this.#held === undefined && this.#closeHeld) this.#dropClose();
  }

  /** Ends the wait for `resume` after the client has closed. */
  #dropClose(): void {
    this.#ending = true;
    this.#listener.closeHeld.delete(this);
    this.#releaseHeld();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    setImmediate(onClosedDue, this);
  }

  endTimedOut(): void {
    this.#cause ??= { kind: 'limit', reason: 'could not flush in time' };
    this.destroy();
  }

  #hold(chunk: Buffer): void {
    this.memory.keep();
    this.#held ??= [];
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    this.#listener.heldBytes += chunk.length;
  }

  #releaseHeld(): void {
    this.#listener.heldBytes -= this.#heldBytes;
    this.#heldBytes = 0;
    this.#held = undefined;
  }

  #refuse(ws: WebSocket<UserData>, code: number, cause: CloseCause & { readonly reason: string }): void {
    this.#cause ??= cause;
    this.#ending = true;
    this.#closeFrame(ws, code, cause.reason);
  }

  #closeFrame(ws: WebSocket<UserData>, code: number, reason: string): void {
    this.#closingHere = true;
    ws.end(code, reason);
  }
}

function onDeliveryDue(peer: WsPeer): void {
  peer.deliverHeld();
}

function onHeldTimeout(peer: WsPeer): void {
  peer.destroy();
}

function onEndTimeout(peer: WsPeer): void {
  peer.endTimedOut();
}

function onClosedDue(peer: WsPeer): void {
  peer.notifyClosed();
}

/** uWS names some of what it closes for; a FIN, a reset and a malformed frame it does not tell apart. */
function causeOf(message: string): CloseCause {
  if (message === '') return { kind: 'error', code: 'WS_CLOSED_ABNORMALLY' };
  return { kind: 'protocol', reason: message };
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  return bytes.length === 16 ? plainAddress(ipv6Text(bytes, 0)) : '';
}
