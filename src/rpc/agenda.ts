import type { Clock } from '../base/env.js';
import { DeadlineHeap, type Timed } from '../underlay/deadline-heap.js';
import { Fifo } from './fifo.js';

/** Something to be done at the end of this turn. */
export interface Task {
  run(): void;
}

/** Something that happens at a time; stands in an agenda at most once. */
export interface Alarm extends Timed {
  due(nowMs: number): void;
}

export interface AgendaHooks {
  /** Calls `run` once, soon, with an empty stack: `queueMicrotask`, or the simulator's own queue. */
  soon(run: () => void): void;
  /** The same after timers and I/O had their turn: `setImmediate`. Without it they wait as long as tasks are added. */
  later?(run: () => void): void;
  /** The next deadline is now earlier than it was: arm a timer for it. */
  wake(dueMs: number): void;
}

/** Tasks after which timers and I/O get their turn: callers that ask again with each answer would never let them. */
const TASKS_MAX = 10_000;

/**
 * What is to be done later: at the end of the turn, or at a time of the monotonic clock. It owns no timer; whoever
 * drives it calls `tick` at or after `nextDeadlineMs`.
 */
export class Agenda {
  private readonly clock: Clock;
  private readonly hooks: AgendaHooks;
  private readonly alarms = new DeadlineHeap<Alarm>();
  private readonly tasks = new Fifo<Task>();
  private isCalled = false;
  /** Tasks that were run since timers and I/O had their turn for certain. */
  private taken = 0;
  private readonly flush = (): void => {
    // What tasks add is done in the same turn: each call crosses a queue twice, and a turn in between would cost more.
    for (let task = this.tasks.shift(); task !== undefined; task = this.tasks.shift()) {
      task.run();
      if (++this.taken >= TASKS_MAX && this.tasks.length > 0) {
        this.call();
        return;
      }
    }
    this.isCalled = false;
  };

  constructor(clock: Clock, hooks: AgendaHooks) {
    this.clock = clock;
    this.hooks = hooks;
  }

  get nowMs(): number {
    return this.clock.monotonicMs();
  }

  /** Runs the task at the end of the turn, behind those added before it. */
  soon(task: Task): void {
    this.tasks.push(task);
    if (this.isCalled) return;
    this.isCalled = true;
    this.call();
  }

  private call(): void {
    const { hooks } = this;
    const isLater = this.taken >= TASKS_MAX && hooks.later !== undefined;
    if (this.taken >= TASKS_MAX) this.taken = 0;
    if (isLater) hooks.later!(this.flush);
    else hooks.soon(this.flush);
  }

  /** Sets the alarm, or moves it. */
  at(alarm: Alarm, dueMs: number): void {
    const firstMs = this.alarms.firstMs;
    this.alarms.set(alarm, dueMs);
    if (dueMs < firstMs) this.hooks.wake(dueMs);
  }

  cancel(alarm: Alarm): void {
    this.alarms.delete(alarm);
  }

  /** Infinity when nothing is due ever. */
  get nextDeadlineMs(): number {
    return this.alarms.firstMs;
  }

  tick(): void {
    const { nowMs } = this;
    // An alarm that is set again for a time past waits for the next tick.
    for (let left = this.alarms.size; left > 0; left--) {
      const alarm = this.alarms.takeDue(nowMs);
      if (alarm === undefined) return;
      alarm.due(nowMs);
    }
  }

  /** Rings all alarms, at the end of time. */
  expire(): void {
    for (const alarm of [...this.alarms.all()]) {
      this.alarms.delete(alarm);
      alarm.due(Number.POSITIVE_INFINITY);
    }
  }

  /** Alarms and tasks that stand now. */
  get size(): number {
    return this.alarms.size + this.tasks.length;
  }
}
