import type { Agenda, Alarm } from './agenda.js';
import type { ServedService } from './served.js';
import type { ServiceView } from './service-view.js';

export interface DrainOptions {
  /** How long new work is still taken, while callers hear that the server goes. */
  readonly graceMs: number;
  /** How long all of it may take, the grace included. */
  readonly timeoutMs: number;
}

/** How a server goes: it announces that, refuses new work, finishes what it has, and is gone. */
export class Drain implements Alarm {
  dueMs = 0;
  heapIndex = -1;
  private readonly served: ServedService;
  private readonly agenda: Agenda;
  private readonly view: ServiceView;
  private endMs = 0;
  private isOver = false;
  private wasFinished = false;
  private isBegun = false;
  /** Who is to be told. */
  private done: ((isFinished: boolean) => void)[] = [];

  constructor(served: ServedService, agenda: Agenda, view: ServiceView) {
    this.served = served;
    this.agenda = agenda;
    this.view = view;
  }

  /** Only the first one's options count; all are told. */
  begin({ graceMs, timeoutMs }: DrainOptions, done: (isFinished: boolean) => void): void {
    if (this.isOver) {
      done(this.wasFinished);
      return;
    }
    this.done.push(done);
    if (this.isBegun) return;
    this.isBegun = true;
    const { nowMs } = this.agenda;
    this.endMs = nowMs + timeoutMs;
    this.served.announcement = { ...this.served.announcement, draining: true };
    this.view.announce(this.served.announcement);
    for (const stream of [...this.served.streams]) stream.draining();
    this.agenda.at(this, nowMs + Math.min(graceMs, timeoutMs));
  }

  due(nowMs: number): void {
    if (!this.served.isClosing) {
      this.served.isClosing = true;
      this.served.onProgress = () => this.look();
      this.agenda.at(this, this.endMs);
      this.look();
    } else if (nowMs >= this.endMs) this.finish(false);
  }

  /** At once, whatever is under way. */
  close(): void {
    this.finish(this.served.isIdle);
  }

  private look(): void {
    if (this.served.isIdle) this.finish(true);
  }

  private finish(isFinished: boolean): void {
    if (this.isOver) return;
    this.isOver = true;
    this.wasFinished = isFinished;
    this.served.onProgress = undefined;
    this.agenda.cancel(this);
    this.view.withdraw(this.served.announcement.id);
    this.served.stop();
    for (const done of this.done) done(isFinished);
  }
}
