import { assert } from '../base/assert.js';
import type { Random } from '../base/env.js';
import { ChangeLog } from './change-log.js';
import { REPLICATOR_OPTIONS, type ReplicatorOptions } from './crdt.js';
import { DeltaBuilder } from './delta-builder.js';
import {
  type AckMessage,
  type CrdtMessage,
  crdtMessageBytes,
  type DeltaMessage,
  isCrdtMessage,
  type RepairMessage,
} from './message.js';
import { Neighbour } from './neighbour.js';
import type { Applied, OrMap } from './or-map.js';
import type { Dot } from './origin.js';
import { Reconciliation } from './reconciliation.js';

/** Most neighbours of one replicator; a mesh has some dozen. */
const NEIGHBOURS_MAX = 256;
const BITS = 31;

export interface Send {
  readonly to: number;
  readonly message: CrdtMessage;
}

/**
 * Keeps one map equal to those of its neighbours. A machine: after any call collect `takeSends`, `takeChanges` and
 * `nextDeadlineMs`, and call `tick` when that time has come. Times are monotonic milliseconds. Neighbours are named by
 * the replica id of their map.
 *
 * Fast path: news (a local change, or what was news in a received delta) goes into one log; each eager neighbour is
 * sent what follows its cursor and it is not known to have, in deltas that it acknowledges. A neighbour that falls
 * too far behind, is new, or was silent is not caught up by the log but by reconciliation, and so is everything else
 * that goes wrong: once in `digestMs` neighbours compare one digest.
 *
 * Receiving needs no state about the sender, so messages may be lost, repeated, reordered, come from a host that
 * is no neighbour here, or be nonsense (`malformed`). A single call adds a bounded number of sends.
 */
export class Replicator {
  readonly map: OrMap;
  /** Messages that were none. */
  malformed = 0;
  /** Deltas sent again. */
  resends = 0;
  private readonly options: ReplicatorOptions;
  private readonly neighbours = new Map<number, Neighbour>();
  private readonly log = new ChangeLog();
  private readonly reconciliation: Reconciliation;
  private sends: Send[] = [];
  private changes = new Set<string>();
  private sequence = 0;
  private usedBits = 0;
  private nowMs = 0;
  private flushDueMs = Number.POSITIVE_INFINITY;
  private flushedMs = Number.NEGATIVE_INFINITY;

  constructor(map: OrMap, random: Random, options: Partial<ReplicatorOptions> = {}) {
    this.map = map;
    this.options = { ...REPLICATOR_OPTIONS, ...options };
    this.reconciliation = new Reconciliation(map, random, this.options, (to, message) => {
      this.sends.push({ to, message });
    });
  }

  /** Roots that differed from ours. */
  get repairs(): number {
    return this.reconciliation.repairs;
  }

  /** News held for neighbours, for gauges and tests. */
  get newsHeld(): number {
    return this.log.length;
  }

  /** Writes a value, kept by reference. False: it breaks a limit of the map. */
  set(key: string, value: Uint8Array): boolean {
    const applied = this.map.set(key, value);
    if (applied !== undefined) this.publish(applied, 0);
    return applied !== undefined;
  }

  /** False: there was nothing under this key. */
  remove(key: string): boolean {
    const applied = this.map.remove(key);
    this.publish(applied, 0);
    return applied.isNews;
  }

  /** False: that replica has written nothing that stands under this key. What others have written stays. */
  removeOf(key: string, replica: number): boolean {
    const applied = this.map.removeOf(key, replica);
    this.publish(applied, 0);
    return applied.isNews;
  }

  /** The hosts to talk to, distinct, at most 256. New ones are shown our root, the first of them at once. */
  setNeighbours(ids: readonly number[]): void {
    assert(ids.length <= NEIGHBOURS_MAX, 'a replicator has at most 256 neighbours');
    const wanted = new Set(ids);
    for (const [id, { bit }] of this.neighbours) {
      if (wanted.has(id)) continue;
      this.neighbours.delete(id);
      this.usedBits &= ~bit;
    }
    for (const id of ids) {
      if (id === this.map.replica || this.neighbours.has(id)) continue;
      this.neighbours.set(id, new Neighbour(id, this.takeBit(), this.log.end, this.nowMs));
    }
    this.keepEager();
    this.trimLog();
  }

  /** Takes a message that `from` sent. Never throws. */
  receive(from: number, message: CrdtMessage, nowMs: number): void {
    this.nowMs = nowMs;
    if (!isCrdtMessage(message)) {
      this.malformed++;
      return;
    }
    const neighbour = this.neighbours.get(from);
    if (neighbour?.isSilent) {
      neighbour.isSilent = false;
      neighbour.rootDueMs = nowMs;
    }
    switch (message.kind) {
      case 'delta':
        this.receiveDelta(from, message, neighbour);
        break;
      case 'ack':
        if (neighbour !== undefined) this.receiveAck(neighbour, message);
        break;
      case 'root':
        this.reconciliation.answerRoot(from, message, neighbour, nowMs);
        break;
      case 'buckets':
        this.reconciliation.answerBuckets(from, message, neighbour, nowMs);
        break;
      case 'dots':
        this.reconciliation.answerDots(from, message, neighbour, nowMs);
        break;
      case 'repair':
        this.receiveRepair(from, message, neighbour);
        break;
    }
  }

  /** Does what is due at `nowMs`. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    let newcomers = 0;
    for (const neighbour of this.neighbours.values()) {
      this.resend(neighbour);
      if (neighbour.rootDueMs > nowMs) continue;
      if (neighbour.isNew) {
        neighbour.isNew = false;
        // One after the other: after the first repair the others have little to add.
        neighbour.rootDueMs = nowMs + newcomers++ * (this.options.repairMs / 4);
        if (newcomers > 1) continue;
      }
      neighbour.rootDueMs = this.reconciliation.nextRootMs(nowMs);
      neighbour.quietRootDueMs = neighbour.rootDueMs;
      this.sends.push({ to: neighbour.id, message: this.reconciliation.root() });
    }
    if (this.flushDueMs > nowMs) return;
    this.flushDueMs = Number.POSITIVE_INFINITY;
    this.flushedMs = nowMs;
    for (const neighbour of this.neighbours.values()) {
      if (neighbour.isEager) this.pump(neighbour);
      else this.showRootLater(neighbour);
    }
    this.trimLog();
  }

  /** When `tick` has something to do; Infinity without neighbours; may have passed already. */
  nextDeadlineMs(): number {
    let deadlineMs = this.flushDueMs;
    for (const { rootDueMs, resendDueMs } of this.neighbours.values()) {
      if (rootDueMs < deadlineMs) deadlineMs = rootDueMs;
      if (resendDueMs < deadlineMs) deadlineMs = resendDueMs;
    }
    return deadlineMs;
  }

  /** What to send, in order; each message once. */
  takeSends(): Send[] {
    const { sends } = this;
    if (sends.length > 0) this.sends = [];
    return sends;
  }

  /** Keys whose set of values changed since the last call, by whomever, each once. */
  takeChanges(): string[] {
    if (this.changes.size === 0) return [];
    const keys = [...this.changes];
    this.changes.clear();
    return keys;
  }

  private takeBit(): number {
    for (let i = 0; i < BITS; i++) {
      const bit = 1 << i;
      if ((this.usedBits & bit) !== 0) continue;
      this.usedBits |= bit;
      return bit;
    }
    return 0;
  }

  private receiveDelta(from: number, message: DeltaMessage, neighbour: Neighbour | undefined): void {
    const applied = this.map.apply(message);
    const isRepeated = !applied.isNews || applied.repeated.length > applied.dots.length;
    this.sends.push({ to: from, message: { kind: 'ack', seq: message.seq + (isRepeated ? 1 : 0) } });
    if (isRepeated) this.makeLazy(neighbour);
    this.publish(applied, markKnown(applied, neighbour));
    if (applied.stale.length > 0) this.reconciliation.answerRepair(from, applied.stale, []);
  }

  private receiveRepair(from: number, message: RepairMessage, neighbour: Neighbour | undefined): void {
    const applied = this.map.apply(message);
    const bit = markKnown(applied, neighbour);
    if (crdtMessageBytes(message) <= this.options.pushedBytesMax) this.publish(applied, bit);
    else {
      for (const key of applied.keys) this.changes.add(key);
      this.showRoot(neighbour);
    }
    this.reconciliation.answerRepair(from, applied.stale, message.wanted);
  }

  private receiveAck(neighbour: Neighbour, { seq }: AckMessage): void {
    const { unacked } = neighbour;
    const at = unacked.findIndex(({ message }) => message.seq === seq - (seq % 2));
    if (at < 0) return;
    unacked.splice(at, 1);
    if (unacked.length === 0) neighbour.resendDueMs = Number.POSITIVE_INFINITY;
    if (seq % 2 === 1) this.makeLazy(neighbour);
    if (!neighbour.isBlocked) return;
    this.pump(neighbour);
    this.trimLog();
  }

  /**
   * What stands under the keys where something was dropped, unless it is among the news. It was sent before, but that
   * message may be late or lost, and the key would be gone meanwhile.
   */
  private companions(applied: Applied): Dot[] {
    if (applied.dropped.length === 0) return [];
    const keys = new Set<string>();
    for (const { entry } of applied.ended) keys.add(entry.key);
    if (applied.isBlind) {
      for (const { key } of applied.stale) keys.add(key);
      for (const { entry } of applied.repeated) keys.add(entry.key);
    }
    const dots: Dot[] = [];
    for (const key of keys) {
      for (const dot of this.map.dots(key)) if (!applied.dots.includes(dot)) dots.push(dot);
    }
    return dots;
  }

  private makeLazy(neighbour: Neighbour | undefined): void {
    if (neighbour === undefined || !neighbour.isEager) return;
    let eager = 0;
    for (const { isEager } of this.neighbours.values()) if (isEager) eager++;
    if (eager > this.options.eagerMin) neighbour.isEager = false;
  }

  /** Makes up for eager neighbours that have gone. */
  private keepEager(): void {
    let eager = 0;
    for (const { isEager } of this.neighbours.values()) if (isEager) eager++;
    for (const neighbour of this.neighbours.values()) {
      if (eager >= this.options.eagerMin) break;
      if (neighbour.isEager) continue;
      neighbour.isEager = true;
      eager++;
    }
  }

  /** Puts news where the neighbours will find it. */
  private publish(applied: Applied, sourceBit: number): void {
    if (!applied.isNews) return;
    for (const key of applied.keys) this.changes.add(key);
    if (this.neighbours.size === 0) return;
    this.log.append([...applied.dots, ...this.companions(applied)], applied.dropped, sourceBit);
    if (this.log.length > this.options.newsMax) this.overflow();
    if (this.flushDueMs !== Number.POSITIVE_INFINITY) return;
    const { flushMs } = this.options;
    // A moment's patience lets the same news come in from others, who then need not be told.
    const patienceMs = this.reconciliation.jitter(flushMs / 4);
    this.flushDueMs = Math.max(this.nowMs + patienceMs, this.flushedMs + flushMs);
  }

  /** Gives up on sending the older half of the news; whoever lacks it is repaired. */
  private overflow(): void {
    const position = this.log.end - (this.options.newsMax >>> 1);
    for (const neighbour of this.neighbours.values()) {
      if (neighbour.cursor >= position) continue;
      neighbour.cursor = this.log.end;
      neighbour.isBlocked = false;
      neighbour.rootDueMs = Math.min(neighbour.rootDueMs, this.nowMs + this.options.repairMs);
    }
    this.log.trim(position);
  }

  /** After a large repair: all others are to compare roots, once the pages of this repair are in. */
  private showRoot(source: Neighbour | undefined): void {
    const { repairMs } = this.options;
    for (const neighbour of this.neighbours.values()) {
      if (neighbour === source) continue;
      neighbour.rootDueMs = this.nowMs + repairMs + this.reconciliation.jitter(repairMs);
    }
  }

  /** A lazy neighbour hears of news when it has gone round by the others, at the latest with the regular root. */
  private showRootLater(neighbour: Neighbour): void {
    const { lazyMs } = this.options;
    neighbour.cursor = this.log.end;
    neighbour.isBlocked = false;
    const dueMs = this.nowMs + lazyMs + this.reconciliation.jitter(lazyMs);
    neighbour.rootDueMs = Math.min(dueMs, neighbour.quietRootDueMs);
  }

  private resend(neighbour: Neighbour): void {
    if (neighbour.resendDueMs > this.nowMs) return;
    const { resendMs, resendMaxMs, resendsMax } = this.options;
    neighbour.resendDueMs = Number.POSITIVE_INFINITY;
    for (const outgoing of neighbour.unacked) {
      if (outgoing.dueMs > this.nowMs) {
        neighbour.resendDueMs = Math.min(neighbour.resendDueMs, outgoing.dueMs);
        continue;
      }
      if (outgoing.resends >= resendsMax) {
        neighbour.unacked = [];
        neighbour.resendDueMs = Number.POSITIVE_INFINITY;
        neighbour.isBlocked = false;
        neighbour.isSilent = true;
        neighbour.cursor = this.log.end;
        return;
      }
      outgoing.resends++;
      const delayMs = Math.min(resendMaxMs, resendMs * 2 ** outgoing.resends);
      outgoing.dueMs = this.nowMs + delayMs * 0.75 + this.reconciliation.jitter(delayMs * 0.5);
      neighbour.resendDueMs = Math.min(neighbour.resendDueMs, outgoing.dueMs);
      this.resends++;
      this.sends.push({ to: neighbour.id, message: outgoing.message });
    }
  }

  /** Sends what follows the cursor, as far as the window allows. */
  private pump(neighbour: Neighbour): void {
    const { log } = this;
    const { windowDeltas, resendMs } = this.options;
    if (neighbour.isSilent) neighbour.cursor = log.end;
    while (neighbour.cursor < log.end && neighbour.unacked.length < windowDeltas) {
      const message = this.nextDelta(neighbour);
      if (message === undefined) break;
      const dueMs = this.nowMs + resendMs + this.reconciliation.jitter(resendMs / 2);
      neighbour.unacked.push({ message, resends: 0, dueMs });
      neighbour.resendDueMs = Math.min(neighbour.resendDueMs, dueMs);
      this.sends.push({ to: neighbour.id, message });
    }
    neighbour.isBlocked = neighbour.cursor < log.end;
  }

  /** The next delta for a neighbour, its cursor moved on; undefined when it knows all the rest. */
  private nextDelta(neighbour: Neighbour): DeltaMessage | undefined {
    const { log } = this;
    const { bulkNewsMin, bulkBytesMax, deltaBytesMax } = this.options;
    const bytesMax = log.end - neighbour.cursor > bulkNewsMin ? bulkBytesMax : deltaBytesMax;
    const builder = new DeltaBuilder(this.map, neighbour.bit, bytesMax);
    while (neighbour.cursor < log.end && builder.add(log.at(neighbour.cursor))) neighbour.cursor++;
    if (builder.isEmpty) return undefined;
    this.sequence += 2;
    return { kind: 'delta', seq: this.sequence, entries: builder.entries, dropped: builder.dropped };
  }

  /** Forgets the news that all neighbours were sent. */
  private trimLog(): void {
    if (this.log.length === 0) return;
    let position = this.log.end;
    for (const { cursor } of this.neighbours.values()) position = Math.min(position, cursor);
    this.log.trim(position);
  }
}

/** Notes what the sender has; its bit. */
function markKnown(applied: Applied, neighbour: Neighbour | undefined): number {
  if (neighbour === undefined) return 0;
  for (const dot of applied.dots) dot.knownBy |= neighbour.bit;
  for (const dot of applied.repeated) dot.knownBy |= neighbour.bit;
  return neighbour.bit;
}
