import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter } from '../base/bytes.js';
import type { Clock, Env } from '../base/env.js';
import { isStorageFull } from '../base/errors.js';
import { OP, STATUS } from '../contract/contract.js';
import type { KvWriter, SnapshotEngine } from './engine.js';
import { FrameBatch, type FrameSender } from './frame-batch.js';
import type { Request, Service, ServiceHost } from './service.js';
import { type SharedRanges, type SoleRange, SoleRanges } from './sole-range.js';

/** What a store needs of the threads around it. */
export interface StoreWire {
  readonly send: FrameSender;
  congested(peer: number): boolean;
  /** Has what was sent on its way now: the thread is about to wait for the disk. */
  flush?(): void;
}

/** How much a turn applies at most; it goes over by one request. */
export interface TurnLimits {
  /** Sum of `Service.weight`: the flush takes as long as there are places that were changed. */
  readonly weightMax: number;
  /** Bytes of requests. */
  readonly bytesMax: number;
  /** Milliseconds of applying; the flush comes on top. */
  readonly durationMsMax: number;
}

export interface StoreOptions {
  readonly limits?: Partial<TurnLimits>;
  readonly shared?: SharedRanges;
}

/**
 * One engine, the services on it, and the turn: requests are gathered by `handleFrame`, applied in one write
 * transaction by `endTurn`, each seeing what the ones before it did, and answered when that is durable. Questions
 * that need no transaction are answered at once. Free of threads.
 *
 * The ranges are replicas of a replicated store on the same engine (sole-range.ts), and it may hold others, which are
 * shared with other stores. What is decided in a turn is committed by the turn; what the replicas want written for
 * themselves goes into the same transaction, so all ranges' work of a turn costs one flush, or into one of its own if there
 * is nothing else. While the own ranges cannot decide, as before they are elected, requests wait; for shared ones nobody
 * waits.
 *
 * What a turn has no share left for is first in the next, but for what was put off by a service: that is older than
 * anything which still waits, so it comes before.
 */
export class Store implements ServiceHost {
  readonly ranges: SoleRanges;
  private readonly engine: SnapshotEngine;
  private readonly wire: StoreWire;
  private readonly clock: Pick<Clock, 'monotonicMs'>;
  private readonly limits: TurnLimits;
  private readonly services: Service[] = [];
  /** Requests from `queueAt` on that are not applied yet: peer + 1, length, frame. */
  private queue = new ByteWriter(64 * 1024);
  private queueAt = 0;
  private spare = new ByteWriter(64 * 1024);
  /** Of the same form: put off to the next turn. */
  private readonly deferred = new ByteWriter(1024);
  private committing = false;
  /** Something that waits cannot wait for a later commit. */
  private urgent = false;
  private readonly turnReader = new ByteReader();
  private readonly bodyReader = new ByteReader();
  private readonly out = new FrameBatch();
  private readonly now = new FrameBatch();
  /** Turns committed, requests applied, turns that failed: for the metrics. */
  commits = 0;
  requests = 0;
  failures = 0;

  constructor(
    engine: SnapshotEngine,
    wire: StoreWire,
    env: Env,
    ranges: readonly SoleRange[],
    { limits, shared }: StoreOptions = {},
  ) {
    this.engine = engine;
    this.wire = wire;
    this.clock = env.clock;
    this.limits = { ...TURN_LIMITS, ...limits };
    this.ranges = new SoleRanges(engine, env, ranges, shared);
    this.ranges.settle();
  }

  /** Adds the service of one of the ranges. */
  add(service: Service): void {
    this.services.push(service);
  }

  /** Whether requests are served; false at first if there is no room to begin, and then they wait. */
  get isReady(): boolean {
    return this.ranges.isReady;
  }

  /** Bytes of requests that wait for a turn. The caller stops handing in frames above a bound. */
  get pendingBytes(): number {
    return this.queue.length - this.queueAt;
  }

  /** Whether the next `endTurn` has something to do. */
  get pending(): boolean {
    if (this.ranges.raft.pending) return true;
    return this.isReady && (this.deferred.length > 0 || (this.urgent && this.pendingBytes > 0));
  }

  /** Takes one frame from `peer`. The bytes are copied if they are still needed when this returns. */
  handleFrame(peer: number, bytes: Uint8Array, start: number, end: number): void {
    const reader = this.bodyReader.over(bytes, start, end);
    const op = reader.u8();
    const callId = reader.u32();
    if (op === OP.REPLY) {
      for (const service of this.services) if (service.answered(peer, callId, reader, this.now)) break;
      this.now.sendAll(this.wire.send);
      return;
    }
    const service = this.serviceOf(op);
    if (service.ask({ peer, op, callId }, reader, this.now)) {
      this.now.sendAll(this.wire.send);
      return;
    }
    if (!service.canWait(op)) this.urgent = true;
    this.queue.u32(peer + 1).blob(bytes, start, end);
  }

  private serviceOf(op: number): Service {
    for (const service of this.services) if (service.owns(op)) return service;
    assert(false, `a request reaches the store that serves it (op ${op})`);
  }

  send: FrameSender = (peer, bytes, start, end) => this.wire.send(peer, bytes, start, end);

  congested(peer: number): boolean {
    return this.wire.congested(peer);
  }

  enqueue(op: number, body: Uint8Array): void {
    this.requeue({ peer: -1, op, callId: 0 }, body);
  }

  requeue({ peer, op, callId }: Request, body: Uint8Array): void {
    this.deferred
      .u32(peer + 1)
      .u32(body.length + 5)
      .u8(op)
      .u32(callId)
      .raw(body);
  }

  /** Applies a turn's share of what waits, commits it, and sends the answers. Waits while a commit is under way. */
  endTurn(): void {
    if (this.committing) return;
    const { ranges } = this;
    if (ranges.begin()) {
      this.wire.flush?.();
      if (!ranges.canJoin || !this.hasShare) ranges.commit();
    }
    if (!ranges.isReady) return;
    if (!this.hasShare) {
      this.afterTurn();
      return;
    }
    this.takeDeferred();
    this.commit();
    this.dropApplied();
  }

  /** Whether something waits that is worth a commit. */
  private get hasShare(): boolean {
    if (this.deferred.length > 0) return true;
    const bytes = this.pendingBytes;
    return bytes > 0 && (this.urgent || bytes >= WAITING_BYTES_MAX);
  }

  private commit(): void {
    const first = this.queueAt;
    this.committing = true;
    try {
      this.engine.write(
        writer => this.applyShare(writer),
        () => {
          this.committing = false;
          this.commits++;
          this.ranges.durable();
          this.out.sendAll(this.wire.send);
          this.afterTurn();
        },
      );
    } catch (error) {
      if (!this.committing || !isStorageFull(error)) throw error;
      this.committing = false;
      this.giveUp(first);
    }
  }

  private applyShare(writer: KvWriter): void {
    const { queue, clock } = this;
    const { weightMax, bytesMax, durationMsMax } = this.limits;
    const bytesEnd = Math.min(queue.length, this.queueAt + bytesMax);
    const lastMs = clock.monotonicMs() + durationMsMax;
    const turn = this.turnReader.over(queue.bytes, this.queueAt, queue.length);
    let weight = 0;
    do {
      const peer = turn.u32() - 1;
      const length = turn.u32();
      const at = turn.position;
      turn.position += length;
      this.queueAt = turn.position;
      const body = this.bodyReader.over(turn.bytes, at, at + length);
      const request: Request = { peer, op: body.u8(), callId: body.u32() };
      const service = this.serviceOf(request.op);
      service.apply(request, body, writer, this.out);
      weight += service.weight(request.op);
      this.requests++;
    } while (turn.position < bytesEnd && weight < weightMax && clock.monotonicMs() < lastMs);
    for (const service of this.services) service.finish(writer, this.out);
    this.ranges.finish(writer);
  }

  /** What is left is taken to the front once it is less than what is behind it. */
  private dropApplied(): void {
    const left = this.pendingBytes;
    this.urgent = left > 0;
    if (left > 0 && left > this.queueAt) return;
    this.queue.bytes.copyWithin(0, this.queueAt, this.queue.length);
    this.queue.length = left;
    this.queueAt = 0;
  }

  private afterTurn(): void {
    for (const service of this.services) service.durable(this.engine, this.now);
    this.now.sendAll(this.wire.send);
  }

  private takeDeferred(): void {
    if (this.deferred.length === 0) return;
    const { queue, spare } = this;
    spare
      .reset()
      .raw(this.deferred.bytes, 0, this.deferred.length)
      .raw(queue.bytes, this.queueAt, queue.length);
    this.deferred.reset();
    this.replaceQueue();
    this.urgent = true;
  }

  /** `spare` holds all that waits. */
  private replaceQueue(): void {
    const { queue } = this;
    this.queue = this.spare;
    this.spare = queue;
    this.queueAt = 0;
  }

  /** No room: nothing was done, everyone is told so, and memory follows the engine again. */
  private giveUp(first: number): void {
    this.failures++;
    this.out.clear();
    // Not even begun: then nothing of what waits can be done.
    if (this.queueAt === first) this.queueAt = this.queue.length;
    this.ranges.failed();
    for (const service of this.services) service.failed(this.engine);
    const turn = this.turnReader.over(this.queue.bytes, first, this.queueAt);
    while (turn.remaining > 0) {
      const peer = turn.u32() - 1;
      const body = this.bodyReader.over(turn.blob());
      body.u8();
      const callId = body.u32();
      if (peer >= 0 && callId !== 0) this.now.reply(peer, callId, UNAVAILABLE);
    }
    this.now.sendAll(this.wire.send);
  }

  /** To be called about once a second. */
  tick(nowMs: number): void {
    for (const service of this.services) service.tick(nowMs, this.engine, this.now);
    if (this.pendingBytes > 0) this.urgent = true;
    this.now.sendAll(this.wire.send);
  }

  /**
   * A thread died: nobody waits for it any more, and what was its own goes in the next turn, before anything that
   * its successor asks. What it had asked and is not done yet is left undone.
   */
  peerLost(peer: number, nowMs: number): void {
    this.dropRequests(peer);
    for (const service of this.services) service.peerLost(peer, nowMs, this.now);
    this.now.sendAll(this.wire.send);
  }

  private dropRequests(peer: number): void {
    this.takeDeferred();
    this.spare.reset();
    const waiting = this.turnReader.over(this.queue.bytes, this.queueAt, this.queue.length);
    while (waiting.remaining > 0) {
      const start = waiting.position;
      const asker = waiting.u32() - 1;
      const length = waiting.u32();
      waiting.position += length;
      if (asker !== peer) this.spare.raw(waiting.bytes, start, waiting.position);
    }
    this.replaceQueue();
  }
}

/**
 * 2,048 messages to one inbox, or 256 retained messages. Without a bound the in-flight windows of 100 publishers made
 * turns of 1,024 retained messages, whose flush alone took more than 10 ms.
 */
const TURN_LIMITS: TurnLimits = { weightMax: 2048, bytesMax: 512 * 1024, durationMsMax: 7 };
/** Requests that can wait are committed when there are this many bytes of them. */
const WAITING_BYTES_MAX = 256 * 1024;
const UNAVAILABLE = Uint8Array.of(STATUS.UNAVAILABLE);
