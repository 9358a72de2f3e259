/** Unordered messages that may overtake each other by; older ones are taken for copies. A multiple of 32. */
const WINDOW = 256;

/** The receiving end of a link. It outlives the sender's leaving the view: who comes back must not be heard twice. */
export class InLink {
  /** Of the sender; 0 before its first message. */
  epoch = 0;
  /** The next sequence number in order. */
  next = 1;
  /** Something is to be acknowledged. */
  isAckDue = false;
  /** Acknowledgements by datagram seem to be lost: until then they go by stream. */
  streamUntilMs = Number.NEGATIVE_INFINITY;
  private highest = 0;
  private seen: Uint32Array | undefined;

  /** False: it belongs to a link that the sender has given up. */
  enter(epoch: number): boolean {
    if (epoch < this.epoch) return false;
    if (epoch === this.epoch) return true;
    this.epoch = epoch;
    this.next = 1;
    this.highest = 0;
    this.seen?.fill(0);
    return true;
  }

  /** Whether the reliable message is the next one. */
  take(sequence: number): boolean {
    if (sequence !== this.next) return false;
    this.next++;
    return true;
  }

  /** Whether the unordered message is heard for the first time: a bitmap that slides with the highest number. */
  takeUnordered(number: number): boolean {
    this.seen ??= new Uint32Array(WINDOW / 32);
    const { seen } = this;
    if (number <= this.highest - WINDOW) return false;
    if (number > this.highest) {
      if (number - this.highest >= WINDOW) seen.fill(0);
      else for (let at = this.highest + 1; at <= number; at++) seen[slot(at)]! &= ~bit(at);
      this.highest = number;
    } else if ((seen[slot(number)]! & bit(number)) !== 0) return false;
    seen[slot(number)]! |= bit(number);
    return true;
  }
}

function slot(number: number): number {
  return Math.floor((number % WINDOW) / 32);
}

function bit(number: number): number {
  return 1 << (number % 32);
}
