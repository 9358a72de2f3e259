/** Packets of one sender that may overtake each other by; older ones are taken for replays. A multiple of 32. */
export const REPLAY_WINDOW_PACKETS = 2_048;

/** Senders remembered; the one unheard for longest is forgotten first. */
export const REPLAY_SENDERS_MAX = 8_192;

/** How often a sender's place in the order of forgetting is renewed. */
const TOUCH_MS = 1_000;

/** One more than the window, which begins and ends within a word (RFC 6479). */
const WORDS = REPLAY_WINDOW_PACKETS / 32 + 1;

interface Sender {
  highest: number;
  usedMs: number;
  readonly seen: Uint32Array;
}

/**
 * Which packets have been taken: a bitmap for each sender that slides with the highest counter seen (RFC 4303,
 * section 3.4.3). At most 2.1 MB of bitmaps (8,192 senders of 260 bytes). Only authentic packets make entries, so
 * that who has no key can neither fill nor move anything.
 */
export class ReplayWindow {
  private readonly senders = new Map<string, Sender>();

  get size(): number {
    return this.senders.size;
  }

  /** Whether the counter was taken before or is older than the window. */
  has(name: string, counter: number): boolean {
    const sender = this.senders.get(name);
    if (sender === undefined || counter > sender.highest) return false;
    if (sender.highest - counter >= REPLAY_WINDOW_PACKETS) return true;
    return (sender.seen[(counter >>> 5) % WORDS]! & (1 << (counter & 31))) !== 0;
  }

  /** Takes a counter for which `has` is false. */
  add(name: string, counter: number, nowMs: number): void {
    const sender = this.touch(name, counter, nowMs);
    // Words between the old and the new highest belong to counters that were never seen.
    const last = counter >>> 5;
    const steps = Math.min(WORDS, last - (sender.highest >>> 5));
    for (let step = 0; step < steps; step++) sender.seen[(last - step) % WORDS] = 0;
    if (counter > sender.highest) sender.highest = counter;
    sender.seen[last % WORDS]! |= 1 << (counter & 31);
  }

  private touch(name: string, counter: number, nowMs: number): Sender {
    let sender = this.senders.get(name);
    if (sender !== undefined && Math.abs(nowMs - sender.usedMs) < TOUCH_MS) return sender;
    if (sender === undefined) {
      sender = { highest: counter, usedMs: nowMs, seen: new Uint32Array(WORDS) };
      if (this.senders.size >= REPLAY_SENDERS_MAX) this.senders.delete(this.senders.keys().next().value!);
    }
    sender.usedMs = nowMs;
    this.senders.delete(name);
    this.senders.set(name, sender);
    return sender;
  }
}
