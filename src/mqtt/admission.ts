/**
 * What the whole node admits, in memory that all its mqtt threads share: how many connections at once, and how many
 * CONNECT packets a second. A limit that is divided by the threads would not do: the kernel hands connections to
 * whichever thread is free, so one thread may get all of them, and a small limit's share may be less than one.
 *
 * Connections. Each thread counts its own in a word of its own; a newcomer counts itself first, and withdraws when the
 * sum of all words is above the limit then. So the limit is never passed, whatever the threads do at once; of two that
 * ask for the last place in the same instant both may be refused. A thread that dies leaves its word behind: `vacate`
 * clears it.
 *
 * A client above the limit is told why, as MQTT has a way to: it may send its CONNECT, is answered 0x97 (quota
 * exceeded; MQTT 3: return code 3, server unavailable), and closed [MQTT-3.1.4-2], 3.2.2.2. Since such a connection
 * costs as much as any other for a moment, only `refusalsMax` of them exist in a thread; more are closed unheard.
 *
 * CONNECTs. One instant holds the rate: when the next CONNECT would be due if they came evenly. It is pushed on by
 * each, and one is let in while it is less than a second ahead; so a second's worth may come at once.
 */
import { PLACE, type Place, type Places } from './transport.js';

/** Clients of a thread that are being told that there is no place for them. */
const REFUSALS_MAX = 64;
/** A word of its own for each thread, on a cache line of its own. */
const LINE_BYTES = 64;
const LINE_WORDS = LINE_BYTES / 4;
const NANOSECONDS = 1_000_000_000;
/** Each failure means that another thread's CONNECT was let in meanwhile. */
const RATE_ATTEMPTS_MAX = 1000;

export interface AdmissionLimits {
  readonly connectionsMax: number;
  readonly connectRatePerSecondMax: number;
}

/** Zeroed memory for so many mqtt threads. */
export function admissionMemory(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer((1 + threads) * LINE_BYTES);
}

/** Gives back the places of a thread that has ended. */
export function vacate(memory: SharedArrayBuffer, thread: number): void {
  Atomics.store(new Int32Array(memory), (1 + thread) * LINE_WORDS, 0);
}

/** One thread's view of the shared memory. */
export class Admission implements Places {
  /** Connections of this thread that got no place. */
  refused = 0;
  private readonly limits: AdmissionLimits;
  private readonly nowNs: () => bigint;
  private readonly refusalsMax: number;
  private readonly words: Int32Array;
  private readonly own: number;
  private readonly due: BigInt64Array;
  private readonly intervalNs: bigint;
  private refusals = 0;

  /** `nowNs`: a clock that all threads share and nobody sets, in nanoseconds. */
  constructor(
    memory: SharedArrayBuffer,
    thread: number,
    limits: AdmissionLimits,
    nowNs: () => bigint,
    refusalsMax = REFUSALS_MAX,
  ) {
    this.limits = limits;
    this.nowNs = nowNs;
    this.refusalsMax = refusalsMax;
    this.words = new Int32Array(memory);
    this.own = (1 + thread) * LINE_WORDS;
    this.due = new BigInt64Array(memory, 0, 1);
    this.intervalNs = BigInt(Math.floor(NANOSECONDS / limits.connectRatePerSecondMax));
  }

  take(): Place {
    Atomics.add(this.words, this.own, 1);
    if (this.taken <= this.limits.connectionsMax) return PLACE.SEAT;
    Atomics.sub(this.words, this.own, 1);
    this.refused++;
    if (this.refusals >= this.refusalsMax) return PLACE.NONE;
    this.refusals++;
    return PLACE.REFUSAL;
  }

  giveBack(place: Place): void {
    if (place === PLACE.SEAT) Atomics.sub(this.words, this.own, 1);
    else if (place === PLACE.REFUSAL) this.refusals--;
  }

  /** Places taken in the whole node. */
  get taken(): number {
    let sum = 0;
    for (let at = LINE_WORDS; at < this.words.length; at += LINE_WORDS) sum += Atomics.load(this.words, at);
    return sum;
  }

  /** One CONNECT of this second's; false when they are used up. */
  readonly takeConnect = (): boolean => {
    const { due, intervalNs } = this;
    const nowNs = this.nowNs();
    for (let attempt = 0; attempt < RATE_ATTEMPTS_MAX; attempt++) {
      const seenNs = Atomics.load(due, 0);
      const fromNs = seenNs > nowNs ? seenNs : nowNs;
      if (fromNs - nowNs + intervalNs > NANOSECONDS) return false;
      if (Atomics.compareExchange(due, 0, seenNs, fromNs + intervalNs) === seenNs) return true;
    }
    return false;
  };
}
