import { jittered } from '../underlay/chance.js';
import type { Alarm, Task } from './agenda.js';
import type { Context } from './context.js';
import { type Dependent, Server } from './directory.js';
import { type RpcFailure, type RpcResult, rpcFailure } from './failure.js';
import type { UnaryMethod } from './service.js';
import type { Call, UnarySink } from './transport.js';
import { MALFORMED, TOO_LARGE, type Wire } from './wire.js';

const RETRY_MS = 20;
const RETRY_MS_MAX = 1_000;
/** What the deadline leaves of it, with pauses of up to a second. */
export const ATTEMPTS_MAX = 64;

/** Doubts that a server tells of over a good connection, such as an answer too large: it will say so again. */
const DOUBTS_MAX = 3;

/** What all calls of one method of one client share. */
export interface UnaryScope<Request, Response> {
  readonly context: Context;
  readonly path: string;
  readonly method: UnaryMethod<Request, Response>;
  /** Calls under way, and the bytes of their requests. */
  open: number;
  bytes: number;
}

/**
 * One unary call from the caller's request to its answer: picks a server, tries elsewhere where that is allowed, and
 * answers once, by its deadline. It never answers from within the caller's own call.
 */
export class UnaryCall<Request, Response> implements Call, UnarySink<unknown>, Alarm, Task, Dependent {
  dueMs = 0;
  heapIndex = -1;
  private readonly scope: UnaryScope<Request, Response>;
  private readonly request: Request;
  private readonly tenant: string;
  private readonly deadlineMs: number;
  private readonly deadlineAtMs: number;
  private readonly tell: (result: RpcResult<Response>) => void;
  /** Where it is under way, and where it was last. */
  private server: Server | undefined;
  private lastServer: Server | undefined;
  private link: Call | undefined;
  /** The body, as `wire` has it; made once for all servers that are reached by the same. */
  private body: unknown;
  private wire: Wire | undefined;
  private bodyBytes = 0;
  private attempts = 0;
  private doubts = 0;
  private isEnded = false;
  /** The last failure of an attempt, or the reason of a refusal that is yet to be told. */
  private failure: RpcFailure | undefined;
  /** Whether an attempt has left whose outcome is not known. */
  private isInDoubt = false;

  constructor(
    scope: UnaryScope<Request, Response>,
    request: Request,
    tenant: string,
    deadlineMs: number,
    done: (result: RpcResult<Response>) => void,
  ) {
    this.scope = scope;
    this.request = request;
    this.tenant = tenant;
    this.deadlineMs = deadlineMs;
    this.deadlineAtMs = scope.context.agenda.nowMs + deadlineMs;
    this.tell = done;
    scope.open++;
  }

  begin(): void {
    this.attempt(true);
  }

  /** Ends without having been sent; told at the end of the turn. */
  refuse(failure: RpcFailure): void {
    this.failure = failure;
    this.scope.context.agenda.soon(this);
  }

  run(): void {
    this.answer(this.failure!);
  }

  done(body: unknown): void {
    if (this.isEnded) return;
    const { method } = this.scope;
    const value = this.server!.wire.decode(method.response, body, method.messageBytesMax);
    if (value === MALFORMED)
      this.answer(rpcFailure('unknown-outcome', `${this.where()}: the answer cannot be read`));
    else this.answer({ kind: 'ok', value });
  }

  failed(failure: RpcFailure): void {
    if (this.isEnded) return;
    this.server!.failed++;
    this.settle(failure, false);
  }

  serverGone(): void {
    this.link?.cancel();
    this.settle(rpcFailure('unknown-outcome', `${this.where()}: the server is gone`), false);
  }

  due(nowMs: number): void {
    if (nowMs < this.deadlineAtMs) {
      this.attempt(false);
      return;
    }
    const isUnderWay = this.server !== undefined;
    if (isUnderWay) this.server!.failed++;
    this.link?.cancel();
    const last = this.failure === undefined ? '' : `; before: ${this.failure.detail}`;
    if (isUnderWay || this.isInDoubt)
      this.answer(rpcFailure('deadline', `${this.where()}: no answer in time${last}`));
    else this.answer(rpcFailure('unavailable', `${this.where()}: no server took it in time${last}`));
  }

  cancel(): void {
    if (this.isEnded) return;
    const isInDoubt = this.server !== undefined || this.isInDoubt;
    this.link?.cancel();
    this.answer(
      rpcFailure(isInDoubt ? 'unknown-outcome' : 'aborted', `${this.scope.path}: cancelled by the caller`),
    );
  }

  private attempt(isFirst: boolean): void {
    const { context, path, method } = this.scope;
    const { agenda } = context;
    const key = method.keyOf(this.request);
    const picked = context.routing.pick(method.balance, this.tenant, key, this.lastServer);
    if (!(picked instanceof Server)) {
      this.settle(picked, isFirst);
      return;
    }
    if (this.wire !== picked.wire) {
      this.wire = picked.wire;
      this.body = picked.wire.encode(method.request, this.request, method.messageBytesMax);
      this.weigh(this.body === TOO_LARGE ? 0 : picked.wire.sizeOf(this.body));
    }
    if (this.body === TOO_LARGE) {
      this.refuse(
        rpcFailure('aborted', `${path}: the request is larger than ${method.messageBytesMax} bytes`),
      );
      return;
    }
    this.attempts++;
    this.server = picked;
    this.lastServer = picked;
    picked.begun++;
    picked.underWay++;
    // In the own process the server itself ends its calls, in time and when it goes: nothing else is needed.
    if (picked.isLocal) agenda.cancel(this);
    else {
      picked.dependents.add(this);
      agenda.at(this, this.deadlineAtMs);
    }
    const remainingMs = isFirst ? this.deadlineMs : this.deadlineAtMs - agenda.nowMs;
    const call = { deadlineMs: remainingMs, tenant: this.tenant, server: picked.id };
    this.link = picked.endpoint.unary(path, this.body, call, this);
  }

  /** An attempt has failed, or there was nobody to try. */
  private settle(failure: RpcFailure, isFirst: boolean): void {
    this.release();
    this.failure = failure;
    if (failure.kind === 'unknown-outcome') {
      this.isInDoubt = true;
      if (this.lastServer!.isUsable) this.doubts++;
    }
    if (!this.mayTryAgain(failure)) {
      if (isFirst) this.refuse(failure);
      else this.answer(failure);
      return;
    }
    const { context } = this.scope;
    const { agenda } = context;
    if (this.attempts === 1 && this.hasOther()) {
      this.attempt(false);
      return;
    }
    const pauseMs = Math.min(RETRY_MS * 2 ** Math.min(this.attempts, 10), RETRY_MS_MAX);
    agenda.at(this, Math.min(agenda.nowMs + jittered(context.random, pauseMs), this.deadlineAtMs));
  }

  private mayTryAgain({ kind }: RpcFailure): boolean {
    const { method, context } = this.scope;
    if (context.isClosed || this.attempts >= ATTEMPTS_MAX || this.doubts >= DOUBTS_MAX) return false;
    // That there is no server is news only to a call that has seen one.
    if (kind === 'server-not-found') return this.attempts > 0;
    // Nothing of it was begun.
    if (kind === 'unavailable') return true;
    return kind === 'unknown-outcome' && method.idempotent;
  }

  private hasOther(): boolean {
    const { context, method } = this.scope;
    const key = method.keyOf(this.request);
    const other = context.routing.pick(method.balance, this.tenant, key, this.lastServer);
    return other instanceof Server && other !== this.lastServer;
  }

  private weigh(bytes: number): void {
    this.scope.bytes += bytes - this.bodyBytes;
    this.bodyBytes = bytes;
  }

  private where(): string {
    return this.lastServer === undefined ? this.scope.path : `${this.scope.path} at ${this.lastServer.id}`;
  }

  private release(): void {
    const { server } = this;
    if (server !== undefined) {
      server.underWay--;
      if (!server.isLocal) server.dependents.delete(this);
    }
    this.server = undefined;
    this.link = undefined;
  }

  private answer(result: RpcResult<Response>): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.scope.open--;
    this.weigh(0);
    this.scope.context.agenda.cancel(this);
    this.release();
    this.tell(result);
  }
}
