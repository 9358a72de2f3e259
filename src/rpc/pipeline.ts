import { BatchLimit, type BatchSettings } from '../base/batch.js';
import { jittered } from '../underlay/chance.js';
import type { Alarm } from './agenda.js';
import type { Context, Mover, Placement } from './context.js';
import { type Dependent, Server } from './directory.js';
import { type RpcFailure, type RpcResult, rpcFailure } from './failure.js';
import { Fifo } from './fifo.js';
import type { Balance, PipelineMethod } from './service.js';
import type { StreamCall, StreamSink } from './transport.js';
import { ANSWERED, type Answer, failureOf, MALFORMED, MOVED, TOO_LARGE, type Wire } from './wire.js';

/** Requests sent and waiting, of one pipeline. */
export const DEPTH_MAX = 16_384;
const DEPTH_DEFAULT = 1_024;
/** Frames under way: one is at the server while the next one is filled. */
const FRAMES_MAX = 2;
const FRAME_LIMITS: BatchSettings = { itemsMax: 1_024, inFlightMax: FRAMES_MAX, latencyTargetMs: 20 };
const FRAME_BYTES_MAX = 256 * 1_024;
/** Of the requests that are sent or wait, as far as they are encoded. */
const BYTES_MAX = 32 * 1_024 * 1_024;
/** Share of its deadline that a request may be expected to take, for the pace may change. */
const WAIT_SHARE_MAX = 0.5;
/** How long what is under way may hold up a move, and how long a server may say nothing beyond a deadline. */
export const MOVE_MS_MAX = 5_000;
const STALL_MS = 5_000;
const RETRY_MS = 50;
const RETRY_MS_MAX = 2_000;
export const SENDS_MAX = 64;

export interface PipelineOptions {
  /** Requests that are sent or wait; beyond, `throttled` at once (default 1,024, at most 16,384). */
  readonly depthMax?: number;
  /** Of each request, from when it is given (default: the method's). */
  readonly deadlineMs?: number;
}

interface Item<Request, Response> {
  readonly request: Request;
  readonly deadlineAtMs: number;
  /** Undefined once it was answered. */
  done: ((result: RpcResult<Response>) => void) | undefined;
  body: unknown;
  wire: Wire | undefined;
  /** How often it was sent. */
  sends: number;
}

interface Frame {
  /** Requests of it that are not answered. */
  left: number;
  readonly requests: number;
  readonly sentMs: number;
  readonly wasFull: boolean;
}

/**
 * Requests in order to the server that has the key, many under way, each answered once and by its deadline.
 *
 * Answers of the server come in the order of the requests. Requests that are given while two frames are under way leave
 * together (`base/batch`). Past the depth, and where the requests before it take half its deadline at the pace of late,
 * a request is `throttled` at once. Where the requests go can change at any time:
 *
 * - **The rules or the servers change, or the target drains:** nothing new is sent there, what is under way is waited
 *   for (five seconds at most), then the rest goes to the new target.
 * - **The target says that it goes:** it has not begun that request nor any behind it; they go to the new one.
 * - **The stream breaks or the target is gone:** what was under way has an `unknown-outcome`. Idempotent requests are
 *   sent again, before all that wait. Others are answered so, and what waits behind them is `aborted`: a request is
 *   never carried out behind one of which nobody knows whether it was. New requests begin afresh.
 *
 * Deadlines are those of one pipeline, so they come in the order of the requests: those that are over are always at
 * the head. A request under way that is over keeps its place until the server answers it.
 */
export class Pipeline<Request, Response> implements Alarm, Mover, Dependent {
  dueMs = 0;
  heapIndex = -1;
  private readonly path: string;
  private readonly method: PipelineMethod<Request, Response, Balance>;
  private readonly context: Context;
  private readonly placement: Placement;
  private readonly depthMax: number;
  private readonly deadlineMs: number;
  private readonly limit = new BatchLimit(FRAME_LIMITS);
  private readonly sent = new Fifo<Item<Request, Response>>();
  private readonly waiting = new Fifo<Item<Request, Response>>();
  private readonly frames = new Fifo<Frame>();
  /** Items at the head of `sent` that were answered by their deadline. */
  private expired = 0;
  /** Of encoded requests that were not answered. */
  private bytes = 0;
  private server: Server | undefined;
  /** The target before; while there was none, that there are no servers is an answer. */
  private lastServer: Server | undefined;
  private stream: StreamCall<unknown> | undefined;
  private sink: StreamSink<unknown> | undefined;
  private isBlocked = false;
  /** Something was answered on this stream. */
  private isProven = false;
  private isClosing = false;
  private isClosed = false;
  private movingSinceMs = Number.NaN;
  private heardMs = 0;
  private failures = 0;
  private retryAtMs = 0;

  constructor(
    path: string,
    method: PipelineMethod<Request, Response, Balance>,
    context: Context,
    placement: Placement,
    options: PipelineOptions,
  ) {
    this.path = path;
    this.method = method;
    this.context = context;
    this.placement = placement;
    this.depthMax = Math.min(options.depthMax ?? DEPTH_DEFAULT, DEPTH_MAX);
    this.deadlineMs = options.deadlineMs ?? method.deadlineMs;
    context.movers.add(this);
  }

  /** Requests that are sent or wait. */
  get depth(): number {
    return this.sent.length + this.waiting.length;
  }

  /** Id of the server that has it now. */
  get target(): string | undefined {
    return this.server?.id;
  }

  /**
   * `done` is called exactly once, not before this has returned, unless the request is not taken: `throttled` and
   * `aborted` for one that is too large or comes after `close` are told at once.
   */
  send(request: Request, done: (result: RpcResult<Response>) => void): void {
    if (this.isClosing) {
      done(rpcFailure('aborted', `${this.path}: the pipeline is closed`));
      return;
    }
    if (this.depth >= this.depthMax || this.bytes >= BYTES_MAX) {
      done(rpcFailure('throttled', `${this.path}: ${this.depth} requests are under way`));
      return;
    }
    const { nowMs } = this.context.agenda;
    if (this.isTooSlow(nowMs)) {
      const why = `${this.depth} requests are under way, and the server is too slow for more`;
      done(rpcFailure('throttled', `${this.path} at ${this.target}: ${why}`));
      return;
    }
    const deadlineAtMs = nowMs + this.deadlineMs;
    const item = { request, deadlineAtMs, done, body: undefined, wire: undefined, sends: 0 };
    if (this.server !== undefined && !this.encode(item, this.server.wire)) return;
    this.waiting.push(item);
    // What one turn asks for leaves together; where there is no target, the same turn looks for one.
    if (this.waiting.length === 1) this.context.agenda.soon(this);
  }

  /** One frame may always wait: the pace is measured by full ones. */
  private isTooSlow(nowMs: number): boolean {
    const { limit, waiting, depth } = this;
    return waiting.length >= limit.items && limit.expectedMs(depth, nowMs) > this.deadlineMs * WAIT_SHARE_MAX;
  }

  /** The same with a promise, which is never rejected. */
  ask(request: Request): Promise<RpcResult<Response>> {
    return new Promise(resolve => this.send(request, resolve));
  }

  /** Takes no more; what is under way is finished. */
  close(): void {
    this.isClosing = true;
    this.context.agenda.soon(this);
  }

  run(): void {
    this.pump();
  }

  // -- Sending ---------------------------------------------------------------------------------------------

  private pump(): void {
    if (this.isClosed) return;
    if (this.isMoving && this.sent.length === 0) this.detach('end');
    while (this.waiting.length > 0 && !this.isMoving && !this.isBlocked && this.frames.length < FRAMES_MAX) {
      if (this.stream === undefined && !this.attach()) break;
      this.sendFrame();
    }
    if (this.isClosing && this.depth === 0) this.finish();
    else this.arm();
  }

  private get isMoving(): boolean {
    return !Number.isNaN(this.movingSinceMs);
  }

  /** False when there is no target now; those that wait were told, or wait for the next look. */
  private attach(): boolean {
    const { agenda, routing } = this.context;
    if (agenda.nowMs < this.retryAtMs) return false;
    const { tenant, key } = this.placement;
    // One that has just failed or gone may not have told so to everybody yet.
    const exclude = this.failures > 0 ? this.lastServer : undefined;
    const picked = routing.pick(this.method.balance, tenant, key, exclude);
    if (!(picked instanceof Server)) {
      if (picked.kind === 'server-not-found' && this.lastServer === undefined) this.failAll(picked);
      else this.pauseThen();
      return false;
    }
    this.server = picked;
    this.lastServer = picked;
    this.isProven = false;
    this.isBlocked = false;
    this.heardMs = agenda.nowMs;
    picked.join(this);
    const call = { deadlineMs: this.deadlineMs, tenant, server: picked.id };
    this.sink = this.makeSink();
    this.stream = picked.endpoint.stream(this.path, call, this.sink);
    return true;
  }

  /** Of one stream: what an earlier one still has to say is of no interest. */
  private makeSink(): StreamSink<unknown> {
    const unlessPast = (tell: () => void) => {
      if (this.sink === sink) tell();
    };
    const sink: StreamSink<unknown> = {
      message: body => unlessPast(() => this.onFrame(body)),
      room: () => unlessPast(() => this.onRoom()),
      ended: () =>
        unlessPast(() => this.onBroken(rpcFailure('unknown-outcome', 'the server ended the pipeline'))),
      failed: failure => unlessPast(() => this.onBroken(failure)),
    };
    return sink;
  }

  private sendFrame(): void {
    const { wire } = this.server!;
    const most = this.limit.items;
    const bodies: unknown[] = [];
    let bytes = 0;
    while (bodies.length < most) {
      const item = this.waiting.at(0);
      if (item === undefined) break;
      if (!this.encode(item, wire)) {
        this.waiting.shift();
        continue;
      }
      const size = wire.sizeOf(item.body);
      if (bodies.length > 0 && bytes + size > FRAME_BYTES_MAX) break;
      bytes += size;
      bodies.push(item.body);
      item.sends++;
      this.waiting.shift();
      this.sent.push(item);
    }
    if (bodies.length === 0) return;
    const sentMs = this.context.agenda.nowMs;
    if (this.frames.length === 0) this.heardMs = sentMs;
    const frame = { left: bodies.length, requests: bodies.length, sentMs, wasFull: this.waiting.length > 0 };
    this.frames.push(frame);
    if (!this.stream!.write(wire.packRequests(bodies))) this.isBlocked = true;
  }

  /** False when the request is too large, which it was told. */
  private encode(item: Item<Request, Response>, wire: Wire): boolean {
    if (item.wire === wire) return true;
    const { method } = this;
    const body = wire.encode(method.request, item.request, method.messageBytesMax);
    if (body === TOO_LARGE) {
      this.answer(item, rpcFailure('aborted', `${this.path}: larger than ${method.messageBytesMax} bytes`));
      return false;
    }
    this.bytes += wire.sizeOf(body) - sizeOf(item);
    item.wire = wire;
    item.body = body;
    return true;
  }

  // -- Answers ---------------------------------------------------------------------------------------------

  private onFrame(body: unknown): void {
    const answers = this.server!.wire.unpackAnswers(body, this.sent.length);
    if (answers === MALFORMED) {
      this.stream!.cancel();
      this.onBroken(rpcFailure('unknown-outcome', 'answers that cannot be read'));
      return;
    }
    this.heardMs = this.context.agenda.nowMs;
    for (const answer of answers) {
      if (answer.status === MOVED) {
        this.onMoved();
        return;
      }
      this.isProven = true;
      this.failures = 0;
      this.onAnswer(answer);
    }
    this.context.agenda.soon(this);
  }

  private onAnswer({ status, body }: Answer): void {
    const item = this.sent.shift()!;
    if (this.expired > 0) this.expired--;
    const frame = this.frames.at(0)!;
    if (--frame.left === 0) {
      this.frames.shift();
      this.limit.settled(frame.requests, frame.sentMs, this.heardMs, frame.wasFull);
    }
    if (item.done === undefined) return;
    if (status !== ANSWERED) {
      this.answer(item, failureOf(status, String(body)) ?? unreadable(this.path));
      return;
    }
    const { method } = this;
    const value = this.server!.wire.decode(method.response, body, method.messageBytesMax);
    this.answer(item, value === MALFORMED ? unreadable(this.path) : { kind: 'ok', value });
  }

  private answer(item: Item<Request, Response>, result: RpcResult<Response>): void {
    const { done } = item;
    item.done = undefined;
    if (done === undefined) return;
    this.bytes -= sizeOf(item);
    done(result);
  }

  // -- Moves and failures ----------------------------------------------------------------------------------

  reconsider(): void {
    // News of servers: no reason to wait for the end of a pause.
    if (this.server === undefined) {
      this.retryAtMs = 0;
      this.pump();
      return;
    }
    const { tenant, key } = this.placement;
    const isPlaced = this.context.routing.isPlaced(this.server, this.method.balance, tenant, key);
    if (isPlaced && this.isMoving) this.movingSinceMs = Number.NaN;
    else if (!isPlaced && !this.isMoving) this.movingSinceMs = this.context.agenda.nowMs;
    this.pump();
  }

  stop(failure: RpcFailure): void {
    this.stream?.cancel();
    this.detach('forget');
    for (const item of this.takeSent()) this.answer(item, rpcFailure('unknown-outcome', failure.detail));
    this.failAll(failure);
    this.isClosing = true;
    this.finish();
  }

  serverGone(server: Server): void {
    this.stream?.cancel();
    this.onBroken(rpcFailure('unknown-outcome', `server ${server.id} is gone`));
  }

  private onRoom(): void {
    this.isBlocked = false;
    this.pump();
  }

  /** The first that was not begun, and all behind it, go elsewhere in their order. */
  private onMoved(): void {
    this.detach('cancel');
    this.takeBack();
    this.pauseThen();
    this.context.agenda.soon(this);
  }

  private onBroken(failure: RpcFailure): void {
    if (this.server !== undefined) this.server.failed++;
    // Unavailable: what was not answered was not begun. Any other refusal is one of the stream, if it comes first.
    const isUnread = failure.kind === 'unavailable' || (failure.kind !== 'unknown-outcome' && !this.isProven);
    const where = `${this.path} at ${this.server?.id}`;
    this.detach('forget');
    if (isUnread && failure.kind !== 'unavailable') {
      this.takeBack();
      this.failAll(rpcFailure(failure.kind, `${where}: ${failure.detail}`));
    } else if (isUnread || this.method.idempotent) this.takeBack();
    else this.failSent(`${where}: ${failure.detail}`);
    this.pauseThen();
    this.pump();
  }

  /** Puts what was sent before what waits; it is sent again, as often as it may be. */
  private takeBack(): void {
    const again: Item<Request, Response>[] = [];
    for (const item of this.takeSent()) {
      if (item.done === undefined) continue;
      if (item.sends < SENDS_MAX) again.push(item);
      else this.answer(item, rpcFailure('unknown-outcome', `${this.path}: sent ${item.sends} times`));
    }
    this.waiting.prepend(again);
  }

  private failSent(detail: string): void {
    const sent = this.takeSent();
    // Also if all of them have met their deadlines: what waits stands behind them.
    if (sent.length === 0) return;
    const waiting = this.waiting.takeAll();
    for (const item of sent) this.answer(item, rpcFailure('unknown-outcome', detail));
    const behind = rpcFailure('aborted', `${detail}; not sent, for what is before it is in doubt`);
    for (const item of waiting) this.answer(item, behind);
  }

  private failAll(failure: RpcFailure): void {
    for (const item of this.waiting.takeAll()) this.answer(item, failure);
  }

  private takeSent(): Item<Request, Response>[] {
    this.expired = 0;
    this.frames.takeAll();
    return this.sent.takeAll();
  }

  /** The next target is looked for at once after the first failure, then after growing pauses. */
  private pauseThen(): void {
    const { agenda, random } = this.context;
    const pauseMs =
      this.failures === 0 ? 0 : Math.min(RETRY_MS * 2 ** Math.min(this.failures, 10), RETRY_MS_MAX);
    this.failures++;
    this.retryAtMs = agenda.nowMs + jittered(random, pauseMs);
  }

  private detach(how: 'end' | 'cancel' | 'forget'): void {
    if (how === 'end') this.stream?.end();
    else if (how === 'cancel') this.stream?.cancel();
    this.server?.leave(this);
    this.server = undefined;
    this.stream = undefined;
    this.sink = undefined;
    this.isBlocked = false;
    this.movingSinceMs = Number.NaN;
  }

  private finish(): void {
    this.detach('end');
    this.isClosed = true;
    this.context.movers.delete(this);
    this.context.agenda.cancel(this);
  }

  // -- Time ------------------------------------------------------------------------------------------------

  due(nowMs: number): void {
    this.expire(nowMs);
    if (this.stream !== undefined && this.sent.length > 0) {
      const isStuck = nowMs >= this.movingSinceMs + MOVE_MS_MAX || nowMs >= this.stallAtMs;
      if (isStuck) {
        this.stream.cancel();
        this.onBroken(rpcFailure('unknown-outcome', 'the server says nothing'));
        return;
      }
    }
    this.pump();
  }

  private get stallAtMs(): number {
    return this.heardMs + this.deadlineMs + STALL_MS;
  }

  private expire(nowMs: number): void {
    for (; this.expired < this.sent.length; this.expired++) {
      const item = this.sent.at(this.expired)!;
      if (item.deadlineAtMs > nowMs) return;
      this.answer(item, rpcFailure('deadline', `${this.path} at ${this.target}: no answer in time`));
    }
    for (let item = this.waiting.at(0); item !== undefined; item = this.waiting.at(0)) {
      if (item.deadlineAtMs > nowMs) return;
      this.waiting.shift();
      const kind = item.sends > 0 ? 'deadline' : 'unavailable';
      this.answer(item, rpcFailure(kind, `${this.path}: no server took it in time`));
    }
  }

  /** Sets the alarm for whatever comes first. */
  private arm(): void {
    const next = this.sent.at(this.expired) ?? this.waiting.at(0);
    let dueMs = next?.deadlineAtMs ?? Number.POSITIVE_INFINITY;
    if (this.sent.length > 0) {
      dueMs = Math.min(dueMs, this.stallAtMs);
      if (this.isMoving) dueMs = Math.min(dueMs, this.movingSinceMs + MOVE_MS_MAX);
    }
    if (this.waiting.length > 0 && this.stream === undefined) dueMs = Math.min(dueMs, this.retryAtMs);
    if (dueMs === Number.POSITIVE_INFINITY) this.context.agenda.cancel(this);
    else if (dueMs !== this.dueMs || this.heapIndex < 0) this.context.agenda.at(this, dueMs);
  }
}

function sizeOf({ wire, body }: Item<unknown, never>): number {
  return wire === undefined ? 0 : wire.sizeOf(body);
}

function unreadable(path: string): RpcFailure {
  return rpcFailure('unknown-outcome', `${path}: the answer cannot be read`);
}
