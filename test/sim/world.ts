/**
 * The simulator: whole clusters in one thread, from one seed.
 *
 *   world.ts         virtual time and the queue of what will happen
 *   node.ts          an address where processes live one after another: killed, paused, started again; its clocks
 *   network.ts       datagrams and links: delay, loss, doubling, cuts, partitions, flapping
 *   stream.ts        the ordered path between two nodes: loss becomes delay, a lasting cut becomes a reset
 *   trace.ts         the last things that happened, for people
 *   sim-transport.ts the network as a `Transport` of bytes, which passes the contract suite of the real one
 *   underlay-*.ts    hosts of the underlay in such a world, what must hold for them, and the stories they live through
 *   run.ts           the command `npm run sim`
 *
 * Invariants:
 * - Nothing but the seed decides: no clock, no `Math.random`, no timer, no order of a hash table. Two runs of one seed
 *   give the same trace to the last line.
 * - Each part draws from a stream of its own, so that a change in one does not shuffle all the others.
 * - Events of the same time happen in the order in which they were planned.
 * - What is under way is bounded (events, packets held for a paused process, bytes of a stream): what would grow
 *   without end fails loudly.
 *
 * Limits: processing costs no virtual time, so that overload is not simulated, only delay, loss and bandwidth. A paused
 * process gets its overdue timers before the packets that waited, as an event loop does after SIGSTOP and SIGCONT.
 */
import { assert } from '../../src/base/assert.js';
import { type Actor, EventQueue } from './event-queue.js';
import { SeededRandom } from './random.js';
import { Trace } from './trace.js';

/** As many events without any progress of time mean that something waits for itself. */
const EVENTS_PER_MOMENT_MAX = 5_000_000;

const CALL: Actor = {
  happen: (_, payload) => (payload as () => void)(),
};

export class World {
  readonly seed: number;
  readonly random: SeededRandom;
  readonly trace: Trace;
  readonly #queue = new EventQueue();
  #nowMs = 0;
  #fired = 0;

  constructor(seed: number) {
    this.seed = seed;
    this.random = new SeededRandom(seed);
    this.trace = new Trace(() => this.#nowMs);
  }

  /** Virtual milliseconds since the world began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events so far. */
  get fired(): number {
    return this.#fired;
  }

  plan(atMs: number, actor: Actor, what: number, payload: unknown): void {
    assert(atMs >= this.#nowMs, 'an event in the past');
    this.#queue.add(atMs, actor, what, payload);
  }

  after(delayMs: number, call: () => void): void {
    this.plan(this.#nowMs + delayMs, CALL, 0, call);
  }

  /** Lets this much time pass. */
  run(forMs: number): void {
    const untilMs = this.#nowMs + forMs;
    let inOneMoment = 0;
    while (this.#queue.firstMs <= untilMs) {
      inOneMoment = this.#queue.firstMs > this.#nowMs ? 0 : inOneMoment + 1;
      assert(inOneMoment < EVENTS_PER_MOMENT_MAX, 'time stands still');
      this.#nowMs = this.#queue.firstMs;
      this.#fired += 1;
      this.#queue.fire();
    }
    this.#nowMs = untilMs;
  }

  /** Lets time pass until it holds, looking every `stepMs`; says how long that took, undefined when it never did. */
  runUntil(holds: () => boolean, withinMs: number, stepMs = 100): number | undefined {
    const startMs = this.#nowMs;
    while (!holds()) {
      if (this.#nowMs - startMs >= withinMs) return undefined;
      this.run(Math.min(stepMs, startMs + withinMs - this.#nowMs));
    }
    return this.#nowMs - startMs;
  }
}
