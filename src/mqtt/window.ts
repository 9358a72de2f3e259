import { assert } from '../base/assert.js';

/** What the broker still waits for from the receiver of a packet id; 0 is free. */
export const AWAITING = { NOTHING: 0, PUBACK: 1, PUBREC: 2, PUBCOMP: 3, STORED_PUBREC: 4 } as const;

const SLOTS_MIN = 8;
/** What all windows share until their first message: never written. */
const NO_IDS = new Uint16Array(SLOTS_MIN);
const NO_STATES = new Uint8Array(SLOTS_MIN);

/**
 * The packet ids in flight to one client: a small table that grows only while ids are far apart, since an idle
 * session must cost next to nothing. Ids are given out in order, so slot = id modulo size is nearly always free.
 */
export class Window {
  private ids = NO_IDS;
  private states = NO_STATES;
  count = 0;

  /** Takes `id`; false when it is in use already. */
  take(id: number, state: number): boolean {
    assert(id > 0 && id <= 65_535 && state !== AWAITING.NOTHING, 'a packet id and what it awaits');
    if (this.ids === NO_IDS) {
      this.ids = new Uint16Array(SLOTS_MIN);
      this.states = new Uint8Array(SLOTS_MIN);
    }
    for (;;) {
      const slot = id & (this.ids.length - 1);
      if (this.states[slot] === AWAITING.NOTHING) {
        this.ids[slot] = id;
        this.states[slot] = state;
        this.count++;
        return true;
      }
      if (this.ids[slot] === id) return false;
      this.grow();
    }
  }

  /**
   * Takes the next free id behind `last`; the caller keeps less than 65,535 in flight. Ids whose slot is taken are
   * passed over while half of the table is free, so that one message that is never answered does not make it grow.
   */
  takeNext(last: number, state: number): number {
    assert(this.count < 65_535, 'a packet id is free');
    for (let id = last; ; ) {
      id = (id % 65_535) + 1;
      const isSparse = this.count * 2 < this.ids.length;
      if (isSparse && this.states[id & (this.ids.length - 1)] !== AWAITING.NOTHING) continue;
      if (this.take(id, state)) return id;
    }
  }

  /** What `id` awaits, NOTHING when it is not in flight. */
  stateOf(id: number): number {
    const slot = id & (this.ids.length - 1);
    return this.ids[slot] === id ? this.states[slot]! : AWAITING.NOTHING;
  }

  /** Moves an id in flight to its next state. */
  advance(id: number, state: number): void {
    assert(this.stateOf(id) !== AWAITING.NOTHING, 'only an id in flight advances');
    this.states[id & (this.ids.length - 1)] = state;
  }

  release(id: number): void {
    assert(this.stateOf(id) !== AWAITING.NOTHING, 'only an id in flight is released');
    this.states[id & (this.ids.length - 1)] = AWAITING.NOTHING;
    this.count--;
  }

  /** Doubles until each id in flight has a slot of its own; ends at 65,536 slots, where it always fits. */
  private grow(): void {
    const { ids, states } = this;
    this.ids = new Uint16Array(ids.length * 2);
    this.states = new Uint8Array(ids.length * 2);
    const mask = this.ids.length - 1;
    for (let i = 0; i < ids.length; i++) {
      if (states[i] === AWAITING.NOTHING) continue;
      const slot = ids[i]! & mask;
      this.ids[slot] = ids[i]!;
      this.states[slot] = states[i]!;
    }
  }
}
