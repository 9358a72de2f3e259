import {
  BYTES_RECEIVED,
  BYTES_SENT,
  DISCONNECTS,
  PACKETS_RECEIVED,
  PACKETS_SENT,
  READ_PAUSES,
  VIOLATION,
  VIOLATIONS,
} from '../base/metrics.js';
import { Decoder, type PacketSink } from './codec/decoder.js';
import { ACK_BYTES_MAX, encodeAck, encodeDisconnect, PINGRESP_BYTES } from './codec/encoder.js';
import {
  type ControlPacket,
  PINGREQ,
  PINGRESP,
  type ProtocolVersion,
  PUBLISH,
  REASON,
  type Violation,
} from './codec/packet.js';
import type { PublishView } from './codec/publish-view.js';
import { Connect } from './connect.js';
import { type Farewell, onDisconnect } from './departure.js';
import type { Extent } from './outbox.js';
import { reauthenticate } from './reauthentication.js';
import type { ReceiveMemory } from './receive-memory.js';
import type { Receiver } from './sender.js';
import type { Session } from './session.js';
import type { Shard } from './shard.js';
import { subscribe, unsubscribe } from './subscribing.js';
import type { CloseCause, Gatherer, Peer, PeerHandler } from './transport.js';

/** Why a client's bytes are not read for now; reading goes on when none holds. */
const HOLD = { PUBLISHING: 1, RING: 2, CONNECTING: 4, CONTROL: 8, OUTPUT: 16 } as const;
/** SUBSCRIBE and UNSUBSCRIBE packets that may wait for their routes before reading stops. */
const CONTROLS_MAX = 64;
/** Deliveries stop at connectionBufferBytesMax; answers to the client's own packets may add as much again. */
const BUFFERS_MAX = 2;

/**
 * One client's bytes: in through the decoder, out through the outbox. It keeps time and order (first CONNECT, then
 * the session), and knows nothing of what messages mean.
 */
export class Connection implements PeerHandler, PacketSink, Receiver {
  readonly shard: Shard;
  peer: Peer | null;
  readonly remote: Peer;
  /** Unique within the shard; by it other threads name this connection. */
  readonly id: number;
  tail: Extent | null = null;
  version: ProtocolVersion = 4;
  packetBytesMax = 0xffff_ffff;
  aliases: Map<string, number> | null = null;
  aliasMax = 0;
  wantsProblems = true;
  session: Session | null = null;
  connect: Connect | null = null;
  /** Place in the shard's list. */
  place = -1;
  /** Monotonic milliseconds of the last bytes received; of the acceptance at first. */
  heardMs: number;
  /** Silence after which the client is taken for gone; 0 never. */
  silenceMsMax = 0;
  /** The socket has not taken everything; `onDrain` will come. */
  blocked = false;
  /** Something waits for this connection to take more. */
  starved = false;
  stopped = false;
  private readonly decoder: Decoder;
  private holds = 0;
  private controls = 0;

  constructor(shard: Shard, peer: Peer, id: number) {
    this.shard = shard;
    this.peer = this.remote = peer;
    this.id = id;
    this.decoder = new Decoder(shard.limits);
    this.heardMs = shard.monotonicMs();
  }

  // -- bytes in ----------------------------------------------------------------------------------------------

  get memory(): ReceiveMemory {
    return this.shard.outbox.received;
  }

  onData(bytes: Buffer, start: number, end: number): void {
    if (this.peer === null) return;
    const nowMs = this.shard.beginTurn();
    // Before CONNACK the time runs from the acceptance, however busily the client sends.
    if (this.session !== null) this.heardMs = nowMs;
    this.decoder.receive(bytes, this, start, end);
    if (this.decoder.holds) this.memory.keep();
    this.afterInput();
  }

  onGathering(gatherer: Gatherer): void {
    this.shard.awaitGathered(gatherer);
  }

  /** What was read may have filled a ring, or the way back to a client that does not read. */
  private afterInput(): void {
    const { shard } = this;
    if (shard.congested) shard.holdReader(this);
    if (this.waitingBytes >= BUFFERS_MAX * shard.limits.connectionBufferBytesMax) {
      this.starved = true;
      this.hold(HOLD.OUTPUT);
    }
    shard.endTurn();
  }

  onPublish(view: PublishView): void {
    this.countReceived(PUBLISH);
    if (this.session === null)
      return this.fail(REASON.protocolError, 'MQTT-3.1.0-1', 'the session is not open yet');
    this.session.onPublish(view);
  }

  onAck(type: number, packetId: number, reasonCode: number): void {
    this.countReceived(type);
    if (this.session === null)
      return this.fail(REASON.protocolError, 'MQTT-3.1.0-1', 'the session is not open yet');
    this.session.onAck(type, packetId, reasonCode);
  }

  onPingreq(): void {
    this.countReceived(PINGREQ);
    if (this.session === null)
      return this.fail(REASON.protocolError, 'MQTT-3.1.0-1', 'the session is not open yet');
    this.countSent(PINGRESP, PINGRESP_BYTES.length);
    this.shard.outbox.append(this, PINGRESP_BYTES, 0, PINGRESP_BYTES.length);
  }

  onPacket(packet: ControlPacket): void {
    const { session } = this;
    this.countReceived(typeOf(packet));
    if (packet.kind === 'connect' || packet.kind === 'unsupported-version') {
      this.connect = new Connect(this);
      this.hold(HOLD.CONNECTING);
      this.connect.begin(packet);
    } else if (session === null) {
      if (packet.kind === 'auth' && this.connect !== null) this.connect.onAuth(packet);
      else if (packet.kind === 'disconnect') this.close();
      else this.fail(REASON.protocolError, 'MQTT-3.1.0-1', 'the session is not open yet');
    } else if (packet.kind === 'subscribe') subscribe(session, packet);
    else if (packet.kind === 'unsubscribe') unsubscribe(session, packet);
    else if (packet.kind === 'disconnect') onDisconnect(session, packet);
    else reauthenticate(session, packet);
  }

  onViolation(violation: Violation): void {
    this.fail(violation.reasonCode, violation.clause, violation.why);
  }

  private countReceived(type: number): void {
    const { values } = this.shard.counters;
    values[PACKETS_RECEIVED + type]! += 1;
    values[BYTES_RECEIVED + type]! += this.decoder.packetBytes;
  }

  private countSent(type: number, bytes: number): void {
    const { values } = this.shard.counters;
    values[PACKETS_SENT + type]! += 1;
    values[BYTES_SENT + type]! += bytes;
  }

  // -- reading held and released -----------------------------------------------------------------------------

  private hold(reason: number): void {
    if (this.peer === null) return;
    if (this.holds === 0) {
      this.shard.counters.values[READ_PAUSES]! += reason === HOLD.CONNECTING ? 0 : 1;
      this.stopped = true;
      this.peer.pause();
    }
    this.holds |= reason;
  }

  private release(reason: number): void {
    if ((this.holds & reason) === 0) return;
    this.holds &= ~reason;
    if (this.holds !== 0 || this.peer === null) return;
    this.stopped = false;
    this.peer.resume();
    this.decoder.resume(this);
    this.afterInput();
  }

  /** The publisher has too much under way. */
  holdReading(): void {
    this.hold(HOLD.PUBLISHING);
  }

  releaseReading(): void {
    this.release(HOLD.PUBLISHING);
  }

  /** A ring to another thread is full. False when it is held for that already, or closed. */
  holdForRing(): boolean {
    if (this.peer === null || (this.holds & HOLD.RING) !== 0) return false;
    this.hold(HOLD.RING);
    return true;
  }

  /** Reading is stopped, and not because the client itself does not read. */
  get isHeld(): boolean {
    return (this.holds & ~HOLD.OUTPUT) !== 0;
  }

  releaseFromRing(): void {
    this.release(HOLD.RING);
  }

  /** CONNECT is answered, or wants an AUTH from the client. */
  releaseConnecting(): void {
    this.release(HOLD.CONNECTING);
  }

  holdConnecting(): void {
    this.hold(HOLD.CONNECTING);
  }

  /** A SUBSCRIBE or UNSUBSCRIBE is under way until `controlEnded`. */
  controlBegan(): void {
    if (++this.controls >= CONTROLS_MAX) this.hold(HOLD.CONTROL);
  }

  controlEnded(): void {
    if (--this.controls < CONTROLS_MAX) this.release(HOLD.CONTROL);
  }

  // -- bytes out ---------------------------------------------------------------------------------------------

  /** So much waits for this socket that nothing more should be added. */
  get isFull(): boolean {
    return this.peer === null || this.waitingBytes >= this.shard.limits.connectionBufferBytesMax;
  }

  /** Output that the kernel has not taken. */
  private get waitingBytes(): number {
    const pending = this.blocked && this.peer !== null ? this.peer.pendingBytes : 0;
    return pending + (this.tail === null ? 0 : this.tail.total);
  }

  onBlocked(): void {
    this.blocked = true;
  }

  onDrain(): void {
    this.blocked = false;
    this.onRoom();
  }

  /** Everything is written: whoever was refused for want of room can go on. */
  onRoom(): void {
    this.starved = false;
    this.session?.pump();
    this.release(HOLD.OUTPUT);
    this.shard.endTurn();
  }

  sendAck(type: number, packetId: number, reasonCode: number): void {
    if (this.peer === null) return;
    const { acks } = this.shard.sender;
    const { version } = this;
    const at = acks.reserve(ACK_BYTES_MAX);
    const length = encodeAck(type, packetId, version === 5 ? reasonCode : 0, version, acks.buffer, at);
    this.shard.outbox.append(this, acks.buffer, at, at + length);
    acks.giveBack(ACK_BYTES_MAX - length);
    this.countSent(type, length);
  }

  /** A whole packet of any other kind; null (too large for the client) sends nothing. */
  sendPacket(type: number, bytes: Buffer | null): void {
    if (bytes === null || this.peer === null) return;
    this.shard.outbox.append(this, bytes, 0, bytes.length);
    this.countSent(type, bytes.length);
  }

  // -- the end -----------------------------------------------------------------------------------------------

  /** The client broke a rule, or we cannot go on with it: it is told why where its version can be, and closed. */
  fail(reasonCode: number, clause: string, why: string): void {
    if (this.peer === null) return;
    this.shard.counters.values[VIOLATIONS + violationOf(reasonCode)]! += 1;
    this.shard.logClient(this, { reasonCode, clause }, why);
    if (this.session === null && this.connect !== null) this.connect.refuse(reasonCode, why);
    else this.disconnect(reasonCode, why, 'keep-will');
  }

  /** DISCONNECT from us where the version has it, then the end. */
  disconnect(reasonCode: number, why: string, farewell: Farewell, by: number = ENDED_BY.SERVER): void {
    if (this.peer === null) return;
    if (this.version === 5 && this.session !== null) {
      const reasonString = this.wantsProblems ? why : undefined;
      this.sendPacket(14, encodeDisconnect(5, { reasonCode, reasonString }, this.packetBytesMax));
    }
    this.shard.counters.values[DISCONNECTS + by]! += 1;
    this.close(farewell);
  }

  /** Writes out what is queued and closes. */
  close(farewell: Farewell = 'keep-will'): void {
    const { peer } = this;
    if (peer === null) return;
    this.shard.outbox.flushOne(this);
    this.gone(farewell);
    peer.end();
  }

  /** Another connection has claimed the client id [MQTT-3.1.4-3]. */
  takenOver(): void {
    const why = 'another connection has this client identifier';
    this.disconnect(REASON.sessionTakenOver, why, 'keep-will', ENDED_BY.TAKEOVER);
  }

  /** No session within limits.connectTimeoutMs. */
  onConnectTimeout(): void {
    this.shard.counters.values[VIOLATIONS + VIOLATION.CONNECT_TIMEOUT]! += 1;
    this.close();
  }

  /** The shard is broken: whatever the socket still says is not heard. */
  halt(): void {
    this.peer = null;
    this.stopped = true;
  }

  onClose(_cause: CloseCause | undefined): void {
    if (this.peer === null) return;
    this.shard.counters.values[DISCONNECTS + ENDED_BY.NETWORK]! += 1;
    this.gone('keep-will');
    this.shard.endTurn();
  }

  private gone(farewell: Farewell): void {
    this.peer = null;
    this.stopped = true;
    this.decoder.close();
    const { session, connect } = this;
    this.session = null;
    this.connect = null;
    this.shard.forget(this);
    if (session !== null) this.shard.depart(session, farewell);
    else connect?.abandon();
  }
}

/** Order of the `by` label of DISCONNECTS. */
const ENDED_BY = { CLIENT: 0, SERVER: 1, NETWORK: 2, TAKEOVER: 3 } as const;

function typeOf(packet: ControlPacket): number {
  return PACKET_TYPE[packet.kind];
}

const PACKET_TYPE = {
  connect: 1,
  'unsupported-version': 1,
  subscribe: 8,
  unsubscribe: 10,
  disconnect: 14,
  auth: 15,
} as const;

function violationOf(reasonCode: number): number {
  return VIOLATION_BY_REASON.get(reasonCode) ?? VIOLATION.PROTOCOL_ERROR;
}

const VIOLATION_BY_REASON = new Map<number, number>([
  [REASON.malformedPacket, VIOLATION.MALFORMED],
  [REASON.packetTooLarge, VIOLATION.PACKET_TOO_LARGE],
  [REASON.receiveMaximumExceeded, VIOLATION.RECEIVE_MAXIMUM],
  [REASON.topicNameInvalid, VIOLATION.TOPIC_INVALID],
  [REASON.topicAliasInvalid, VIOLATION.TOPIC_ALIAS],
  [REASON.keepAliveTimeout, VIOLATION.KEEP_ALIVE],
  [REASON.unsupportedProtocolVersion, VIOLATION.UNSUPPORTED_VERSION],
  [REASON.qosNotSupported, VIOLATION.QOS_NOT_SUPPORTED],
  [REASON.retainNotSupported, VIOLATION.RETAIN_NOT_SUPPORTED],
]);
