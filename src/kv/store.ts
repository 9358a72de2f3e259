import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { ShoalError } from '../base/errors.js';
import { OP, STATUS } from '../contract/contract.js';
import type { Engine, KvWriter } from './engine.js';
import { FrameBatch, type FrameSender } from './frame-batch.js';
import type { Request, Service, ServiceHost } from './service.js';

/** What a store needs of the threads around it. */
export interface StoreWire {
  readonly send: FrameSender;
  congested(peer: number): boolean;
}

/**
 * One engine, the services on it, and the turn: requests are gathered by `handleFrame`, applied in one write
 * transaction by `endTurn`, each seeing what the ones before it did, and answered when that is durable. Questions
 * that need no transaction are answered at once. Free of threads and clocks.
 */
export class Store implements ServiceHost {
  private readonly engine: Engine;
  private readonly wire: StoreWire;
  private readonly services: Service[] = [];
  /** Requests of this turn: peer + 1, length, frame. */
  private turn = new ByteWriter(64 * 1024);
  private spare = new ByteWriter(64 * 1024);
  private next = new ByteWriter(1024);
  private committing = false;
  /** Something in this turn cannot wait for a later commit. */
  private urgent = false;
  private turnRequests = 0;
  private nextRequests = 0;
  private readonly turnReader = new ByteReader();
  private readonly bodyReader = new ByteReader();
  private readonly out = new FrameBatch();
  private readonly now = new FrameBatch();
  /** Turns committed, requests applied, turns that failed: for the metrics. */
  commits = 0;
  requests = 0;
  failures = 0;

  constructor(engine: Engine, wire: StoreWire) {
    this.engine = engine;
    this.wire = wire;
  }

  /** Adds a service and builds its memory from the engine. */
  add(service: Service): void {
    this.services.push(service);
    const { coprocessor, boundary } = service.range;
    coprocessor.reset(boundary, this.engine);
  }

  /** Bytes of requests that wait for the end of the turn. The caller stops handing in frames above a bound. */
  get pendingBytes(): number {
    return this.turn.length;
  }

  /** Whether the next `endTurn` has something to do. */
  get pending(): boolean {
    return (this.turnRequests > 0 && this.urgent) || this.nextRequests > 0;
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
    this.turnRequests++;
    if (!service.canWait(op)) this.urgent = true;
    this.turn.u32(peer + 1).blob(bytes, start, end);
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
    this.nextRequests++;
    this.next
      .u32(peer + 1)
      .u32(body.length + 5)
      .u8(op)
      .u32(callId)
      .raw(body);
  }

  /** Applies what the turn brought, commits it, and sends the answers. Waits while a commit is under way. */
  endTurn(): void {
    if (this.committing) return;
    this.takeNext();
    if (!this.urgent && this.turn.length < WAITING_BYTES_MAX) {
      this.afterTurn();
      return;
    }
    this.urgent = false;
    const applying = this.turn;
    this.turn = this.spare;
    this.spare = applying;
    this.turnRequests = 0;
    this.committing = true;
    try {
      this.engine.write(
        writer => this.applyAll(applying, writer),
        () => {
          this.committing = false;
          this.commits++;
          applying.reset();
          this.out.sendAll(this.wire.send);
          this.afterTurn();
        },
      );
    } catch (error) {
      if (!this.committing || !isFull(error)) throw error;
      this.committing = false;
      this.giveUp(applying);
    }
  }

  private applyAll(applying: ByteWriter, writer: KvWriter): void {
    const turn = this.turnReader.over(applying.bytes, 0, applying.length);
    while (turn.remaining > 0) {
      const peer = turn.u32() - 1;
      const length = turn.u32();
      const at = turn.position;
      turn.position += length;
      const body = this.bodyReader.over(turn.bytes, at, at + length);
      const request: Request = { peer, op: body.u8(), callId: body.u32() };
      this.serviceOf(request.op).apply(request, body, writer, this.out);
      this.requests++;
    }
    for (const service of this.services) service.finish(writer, this.out);
  }

  private afterTurn(): void {
    for (const service of this.services) service.durable(this.engine, this.now);
    this.now.sendAll(this.wire.send);
  }

  /** What was put off until now comes behind what came in meanwhile. */
  private takeNext(): void {
    if (this.nextRequests === 0) return;
    this.turn.raw(this.next.bytes, 0, this.next.length);
    this.turnRequests += this.nextRequests;
    this.next.reset();
    this.nextRequests = 0;
    this.urgent = true;
  }

  /** No room: nothing was done, everyone is told so, and memory follows the engine again. */
  private giveUp(applying: ByteWriter): void {
    this.failures++;
    this.out.clear();
    for (const service of this.services) service.failed(this.engine);
    const turn = this.turnReader.over(applying.bytes, 0, applying.length);
    while (turn.remaining > 0) {
      const peer = turn.u32() - 1;
      const body = this.bodyReader.over(turn.blob());
      body.u8();
      const callId = body.u32();
      if (peer >= 0 && callId !== 0) this.now.reply(peer, callId, UNAVAILABLE);
    }
    applying.reset();
    this.now.sendAll(this.wire.send);
  }

  /** To be called about once a second. */
  tick(nowMs: number): void {
    for (const service of this.services) service.tick(nowMs, this.engine, this.now);
    if (this.turnRequests > 0) this.urgent = true;
    this.now.sendAll(this.wire.send);
  }

  /** A thread died: nobody waits for it any more, and what was its own goes. */
  peerLost(peer: number, nowMs: number): void {
    for (const service of this.services) service.peerLost(peer, nowMs, this.now);
    this.now.sendAll(this.wire.send);
  }
}

/** Requests that can wait are committed when there are this many bytes of them. */
const WAITING_BYTES_MAX = 256 * 1024;
const UNAVAILABLE = Uint8Array.of(STATUS.UNAVAILABLE);

function isFull(error: unknown): boolean {
  return error instanceof ShoalError && error.code === 'SHOAL_STORAGE_FULL';
}
