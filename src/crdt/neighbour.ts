import type { DeltaMessage } from './message.js';

/** A delta that was sent and is not acknowledged. */
export interface Outgoing {
  readonly message: DeltaMessage;
  resends: number;
  dueMs: number;
}

/**
 * One neighbour as its replicator sees it. `bit` stands for it in `Dot.knownBy`; neighbours beyond the 31st have
 * none and just get some news twice. A bit may pass to another neighbour: that one starts at the end of the log, so
 * bits that are left over on older dots, which are there already, withhold no news from it.
 */
export class Neighbour {
  readonly id: number;
  readonly bit: number;
  /** Number of the news to send next. */
  cursor: number;
  /** When it gets the root digest; `quietRootDueMs` is the latest time that news may put this off to. */
  rootDueMs: number;
  quietRootDueMs = Number.POSITIVE_INFINITY;
  /** In the order of sending; at most `windowDeltas`. */
  unacked: Outgoing[] = [];
  /** Not later than the first resend that is due; Infinity without any. */
  resendDueMs = Number.POSITIVE_INFINITY;
  /** There was news that did not fit in the window. */
  isBlocked = false;
  /** It was not shown the root since it became a neighbour. */
  isNew = true;
  /** It is pushed news; otherwise it is shown the root some time after. */
  isEager = true;
  /** It did not acknowledge for long; it gets no deltas until it is heard. */
  isSilent = false;
  /** Repairs in a row, and when the last of them began. */
  repairs = 0;
  repairedMs = Number.NEGATIVE_INFINITY;

  constructor(id: number, bit: number, cursor: number, rootDueMs: number) {
    this.id = id;
    this.bit = bit;
    this.cursor = cursor;
    this.rootDueMs = rootDueMs;
  }
}
