import { assert } from '../../../src/base/assert.js';
import type { Configuration, ReplicaId } from '../../../src/kv/raft/configuration.js';
import type { Message } from '../../../src/kv/raft/message.js';
import { Raft } from '../../../src/kv/raft/raft.js';
import { ENTRY, type Entry, type Ready, type SnapshotMeta } from '../../../src/kv/raft/ready.js';
import type { RaftLimits, RaftTiming } from '../../../src/kv/raft/settings.js';
import { describeConfiguration, describeEntries, describeRole } from './golden-text.js';
import { MemoryLog } from './stored-log.js';

/** What commands have made: the list of them, each proposal once. */
export interface State {
  readonly meta: SnapshotMeta;
  readonly done: readonly string[];
  readonly seen: ReadonlySet<string>;
}

export interface NodeSettings {
  readonly timing: RaftTiming;
  readonly limits: RaftLimits;
}

export interface NodeHooks {
  send(message: Message): void;
  note(line: string): void;
}

/** A replica with a clock, a disk and a state machine of its own, driven by a script. */
export class GoldenNode {
  readonly id: ReplicaId;
  readonly log: MemoryLog;
  raft: Raft;
  private readonly settings: NodeSettings;
  private readonly hooks: NodeHooks;
  nowMs = 0;
  /** The election timeout that is drawn next. */
  timeoutMs: number;
  isDown = false;
  /** The disk does not come back: what is to be written waits here. */
  isHeld = false;
  private waiting: (() => void)[] = [];
  private staged: State | undefined;
  private done: string[] = [];
  private seen = new Set<string>();
  private shown: string[] = [];

  constructor(id: ReplicaId, configuration: Configuration, settings: NodeSettings, hooks: NodeHooks) {
    this.id = id;
    this.settings = settings;
    this.hooks = hooks;
    this.log = new MemoryLog(configuration);
    this.timeoutMs = settings.timing.electionTimeoutMinMs + 300 * (id - 1);
    this.raft = this.boot();
    this.shown = this.looks();
  }

  private boot(): Raft {
    const { id, log, settings } = this;
    const { electionTimeoutMinMs: min, electionTimeoutMaxMs: max } = settings.timing;
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const random = { u32: () => Math.floor(((this.timeoutMs - min) / (max - min)) * 0x1_0000_0000) };
    const clock = { wallMs: () => 0, monotonicMs: () => this.nowMs };
    return new Raft({ id, log, ...settings, env: { clock, random, log: silent } });
  }

  /** What waits for the disk is lost. */
  crash(): void {
    this.isDown = true;
    this.isHeld = false;
    this.waiting = [];
    this.staged = undefined;
  }

  restart(): void {
    this.crash();
    this.isDown = false;
    this.raft = this.boot();
    this.look();
  }

  release(): void {
    this.isHeld = false;
    for (const write of this.waiting.splice(0)) write();
    this.look();
  }

  tick(ms: number): void {
    this.nowMs += ms;
    if (this.isDown) return;
    this.raft.tick();
    this.look();
  }

  step(message: Message): void {
    if (this.isDown) return;
    this.raft.step(message);
    this.look();
  }

  /** Obeys one ready; false if there was none. */
  obey(): boolean {
    if (this.isDown) return false;
    const ready = this.raft.ready();
    this.look();
    if (ready === undefined) return false;
    for (const message of ready.messages) this.hooks.send(message);
    const { staged } = this;
    const write = () => this.write(ready, staged);
    if (this.isHeld) this.waiting.push(write);
    else write();
    for (const { context, index } of ready.reads) this.note(`may read ${context} at ${index}`);
    for (const { what, session, sequence, reason, leader, isCertain } of ready.refusals) {
      const doubt = isCertain ? '' : ', not certain';
      this.note(`refuses ${what} ${session}.${sequence}: ${reason}, leader ${leader}${doubt}`);
    }
    for (const id of ready.snapshotsWanted) this.note(`wants to send its state to ${id}`);
    return true;
  }

  private write(ready: Ready, staged: State | undefined): void {
    const { log } = this;
    if (ready.snapshot !== undefined) {
      assert(staged?.meta.index === ready.snapshot.index, 'the state was received');
      log.install(ready.snapshot);
      this.done = [...staged.done];
      this.seen = new Set(staged.seen);
      this.note(`has the state of ${ready.snapshot.index}: ${this.done.join(' ')}`);
    }
    log.write(ready.entries);
    if (ready.hardState !== undefined) log.hardState = ready.hardState;
    if (ready.committed.length > 0) this.apply(ready.committed);
    for (const message of ready.afterDurable) this.hooks.send(message);
    this.raft.durable(ready.number);
    if (ready.committed.length > 0) this.raft.applied(log.applied);
  }

  private apply(entries: readonly Entry[]): void {
    this.note(`applies ${describeEntries(entries)}`);
    for (const { index, kind, session, sequence, data } of entries) {
      assert(index === this.log.applied + 1, 'entries are applied in order');
      this.log.applied = index;
      if (kind !== ENTRY.COMMAND) continue;
      const key = `${session}.${sequence}`;
      if (session > 0 && this.seen.has(key)) {
        this.note(`has done ${key} before`);
        continue;
      }
      this.seen.add(key);
      this.done.push(Buffer.from(data).toString());
    }
  }

  /** The state as it is now, to be sent. */
  state(): State {
    const index = this.log.applied;
    const meta = { index, term: this.log.term(index)!, configuration: this.raft.configurationAt(index) };
    return { meta, done: [...this.done], seen: new Set(this.seen) };
  }

  receive(state: State): boolean {
    this.staged = state;
    const isTaken = this.raft.snapshotReceived(state.meta);
    if (!isTaken) this.staged = undefined;
    this.look();
    return isTaken;
  }

  private note(text: string): void {
    this.hooks.note(`${this.id} ${text}`);
  }

  /** Notes what has changed in how it looks from outside. */
  look(): void {
    const looks = this.looks();
    for (const [i, line] of looks.entries()) if (line !== this.shown[i]) this.note(line);
    this.shown = looks;
  }

  private looks(): string[] {
    const { raft } = this;
    return [
      describeRole(raft),
      `has ${describeConfiguration(raft.configuration)}`,
      raft.isQuiescent ? 'is quiet' : 'is awake',
    ];
  }
}
