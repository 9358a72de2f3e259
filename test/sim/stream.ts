import type { Actor } from './event-queue.js';
import type { Network } from './network.js';
import type { SimNode } from './node.js';

/** IPv4 and TCP with timestamps; a pure acknowledgement is this and nothing else. */
const SEGMENT_HEADER_BYTES = 52;
const SEGMENT_BYTES = 1_400;
/** SYN, SYN-ACK and ACK with their options; what the sender sends of it, and what the receiver does. */
const HANDSHAKE_BYTES_SENT = 112;
const HANDSHAKE_BYTES_ANSWERED = 60;
/** The driver's own length prefix. */
const FRAME_HEADER_BYTES = 4;
/** The receiving driver says how many frames it took, and the sender's kernel acknowledges that. */
const TAKEN_BYTES = SEGMENT_HEADER_BYTES + 4;

/** Linux's least retransmission timeout, and the first one of a SYN. */
const RETRANSMIT_MS = 200;
const RETRANSMIT_MS_MAX = 3_200;
const CONNECT_RETRY_MS = 1_000;

/** The driver gives up and tells `unreachable`, as `src/underlay/io/stream-link.ts` does, whose limits these are. */
const CONNECT_TIMEOUT_MS = 5_000;
const ACKNOWLEDGE_TIMEOUT_MS = 10_000;
const WAITING_BYTES_MAX = 4_194_304;
/** A connection on which nothing was sent for so long was closed; the next packet pays for a new one. */
const IDLE_MS = 15_000;

const TRY = 0;
const ARRIVE = 1;
const RESET = 2;
const CHECK = 3;

interface Frame {
  readonly payload: unknown;
  readonly bytes: number;
  /** Life of the receiver and number of the connection that it travels on. */
  readonly toLife: number;
  readonly connection: number;
}

/** The connection that one life of a node keeps to another node: packets in order, or a reset. */
export class Stream implements Actor {
  readonly life: number;
  readonly #network: Network;
  readonly #from: SimNode;
  readonly #to: SimNode;
  #waiting: { readonly payload: unknown; readonly bytes: number }[] = [];
  #waitingBytes = 0;
  /** Life of the receiver that accepted; 0 while there is no connection. */
  #toLife = 0;
  #connection = 0;
  #isTrying = false;
  #troubleSinceMs = -1;
  /** A check is planned whether the other side answers again. */
  #isUnanswered = false;
  #retryMs = 0;
  #lastArrivalMs = 0;
  #lastSentMs = 0;

  constructor(network: Network, from: SimNode, to: SimNode) {
    this.#network = network;
    this.#from = from;
    this.#to = to;
    this.life = from.life;
  }

  send(payload: unknown, bytes: number): void {
    if (this.#waitingBytes + bytes > WAITING_BYTES_MAX) {
      this.#network.world.after(0, () => this.#tell());
      return;
    }
    this.#waiting.push({ payload, bytes });
    this.#waitingBytes += bytes;
    if (!this.#isTrying) this.#try();
  }

  happen(what: number, payload: unknown): void {
    if (what === ARRIVE) this.#arrive(payload as Frame);
    else if (this.life !== this.#from.life || !this.#from.isUp) this.#drop();
    else if (what === TRY) {
      this.#isTrying = false;
      this.#try();
    } else if (payload === this.#connection) {
      if (what === RESET) this.#reset();
      else this.#check();
    }
  }

  get #nowMs(): number {
    return this.#network.world.nowMs;
  }

  #planTry(delayMs: number): void {
    this.#isTrying = true;
    this.#network.world.plan(this.#nowMs + delayMs, this, TRY, undefined);
  }

  /** Goes on while the sending process is paused, too: what it wrote before is with the kernel. */
  #try(): void {
    if (this.#waiting.length === 0) return;
    if (this.#toLife !== 0 && this.#nowMs - this.#lastSentMs > IDLE_MS) this.#toLife = 0;
    if (this.#toLife === 0) this.#connect();
    else this.#pump();
  }

  #connect(): void {
    const network = this.#network;
    const there = network.settingsOf(this.#from, this.#to, 'stream');
    const back = network.settingsOf(this.#to, this.#from, 'stream');
    this.#from.bytesSent += HANDSHAKE_BYTES_SENT;
    this.#from.packetsSent += 2;
    const isThrough =
      !network.isBlocked(this.#from, this.#to, 'stream') &&
      !network.isBlocked(this.#to, this.#from, 'stream') &&
      !network.random.chance(there.loss) &&
      !network.random.chance(back.loss);
    if (!isThrough) return this.#suffer(CONNECT_RETRY_MS, CONNECT_TIMEOUT_MS);
    const roundTripMs = network.transitMs(this.#from, there, 60) + network.transitMs(this.#to, back, 60);
    this.#connection += 1;
    this.#troubleSinceMs = -1;
    this.#isUnanswered = false;
    this.#to.bytesSent += HANDSHAKE_BYTES_ANSWERED;
    this.#to.packetsSent += 1;
    if (!this.#to.isUp) {
      this.#isTrying = true;
      network.world.plan(this.#nowMs + roundTripMs, this, RESET, this.#connection);
      return;
    }
    this.#toLife = this.#to.life;
    this.#lastSentMs = this.#nowMs + roundTripMs;
    this.#planTry(roundTripMs);
  }

  /** Nothing gets through: tries again later, or gives up when that has lasted too long. */
  #suffer(firstRetryMs: number, timeoutMs: number): void {
    if (this.#troubleSinceMs < 0) {
      this.#troubleSinceMs = this.#nowMs;
      this.#retryMs = firstRetryMs;
    }
    const leftMs = this.#troubleSinceMs + timeoutMs - this.#nowMs;
    // Sums of fractions: what is left may be too little to move the time at all.
    if (leftMs < 0.1) return this.#reset();
    this.#planTry(this.#retryMs < leftMs ? this.#retryMs : leftMs);
    this.#retryMs = Math.min(2 * this.#retryMs, Math.max(firstRetryMs, RETRANSMIT_MS_MAX));
  }

  #pump(): void {
    const network = this.#network;
    if (network.isBlocked(this.#from, this.#to, 'stream')) {
      return this.#suffer(RETRANSMIT_MS, ACKNOWLEDGE_TIMEOUT_MS);
    }
    this.#troubleSinceMs = -1;
    if (network.isBlocked(this.#to, this.#from, 'stream')) this.#planCheck();
    const settings = network.settingsOf(this.#from, this.#to, 'stream');
    for (const { payload, bytes } of this.#waiting) {
      const segments = Math.ceil((bytes + FRAME_HEADER_BYTES) / SEGMENT_BYTES);
      const wireBytes = bytes + FRAME_HEADER_BYTES + segments * SEGMENT_HEADER_BYTES;
      const arrivalMs =
        this.#nowMs +
        network.transitMs(this.#from, settings, wireBytes) +
        this.#repeatMs(segments, settings.loss);
      this.#lastArrivalMs = arrivalMs > this.#lastArrivalMs ? arrivalMs : this.#lastArrivalMs;
      this.#from.bytesSent += wireBytes + SEGMENT_HEADER_BYTES;
      this.#from.packetsSent += segments + 1;
      this.#to.bytesSent += Math.floor(segments / 2) * SEGMENT_HEADER_BYTES + TAKEN_BYTES;
      this.#to.packetsSent += Math.floor(segments / 2) + 1;
      const frame: Frame = { payload, bytes, toLife: this.#toLife, connection: this.#connection };
      network.world.plan(this.#lastArrivalMs, this, ARRIVE, frame);
    }
    this.#lastSentMs = this.#nowMs;
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  /** How much later a packet comes because segments of it were lost and sent again. */
  #repeatMs(segments: number, loss: number): number {
    let worst = 0;
    if (loss > 0) {
      for (let segment = 0; segment < segments; segment += 1) {
        let delayMs = 0;
        for (let retryMs = RETRANSMIT_MS; this.#network.random.chance(loss); retryMs *= 2) {
          delayMs += retryMs;
          this.#from.bytesSent += SEGMENT_BYTES;
          if (retryMs >= RETRANSMIT_MS_MAX) break;
        }
        worst = delayMs > worst ? delayMs : worst;
      }
    }
    return worst;
  }

  #arrive({ payload, bytes, toLife, connection }: Frame): void {
    const isTaken = this.#to.life === toLife && this.#to.arrive(payload, bytes, this.#from.address, 'stream');
    if (isTaken && this.#to.isPaused && connection === this.#connection) this.#planCheck();
    if (isTaken) return;
    this.#network.counters.unread += 1;
    if (this.#network.isBlocked(this.#to, this.#from, 'stream')) return;
    const back = this.#network.settingsOf(this.#to, this.#from, 'stream');
    const backMs = this.#network.transitMs(this.#to, back, SEGMENT_HEADER_BYTES);
    this.#network.world.plan(this.#nowMs + backMs, this, RESET, connection);
  }

  /** Packets get there, but nothing says so: the way back is cut, or the process is stopped. */
  #planCheck(): void {
    if (this.#isUnanswered) return;
    this.#isUnanswered = true;
    this.#network.world.plan(this.#nowMs + ACKNOWLEDGE_TIMEOUT_MS, this, CHECK, this.#connection);
  }

  #check(): void {
    this.#isUnanswered = false;
    if (this.#to.isPaused || this.#network.isBlocked(this.#to, this.#from, 'stream')) this.#reset();
  }

  #reset(): void {
    this.#drop();
    this.#isTrying = false;
    this.#tell();
  }

  #drop(): void {
    this.#toLife = 0;
    this.#connection += 1;
    this.#troubleSinceMs = -1;
    this.#isUnanswered = false;
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #tell(): void {
    if (this.life === this.#from.life) this.#from.unreachable(this.#to.address, 'stream');
  }
}
