import { type ByteReader, ByteWriter } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import { CALL_EVENT, CALLER_WANTS } from '../contract/kv-relay.js';
import { ORDER_BYTES_MAX } from '../kv/balance/order.js';
import { type kvService, STEER_MS } from '../kv/remote/service.js';
import { type RpcResult, rpcFailure } from '../rpc/failure.js';
import type { BidiHandler, BidiWriter, Handlers } from '../rpc/handler.js';
import type { HostId } from '../underlay/message.js';

/** The rings to the store threads. */
export interface RelayWire {
  send(peer: number, bytes: Uint8Array, start: number, end: number): void;
  /** Frames wait that the ring to it had no room for. */
  congested(peer: number): boolean;
  /** Bytes on their way to it. */
  depthBytes(peer: number): number;
}

/** What this node knows of the cluster that matters to stores. */
export interface KvStanding {
  /** Stores may give commands: see kv-standing.ts. */
  readonly isSettled: boolean;
  readonly self: HostId;
  readonly hosts: ReadonlySet<HostId>;
}

/** The same for a store thread. */
export interface ToldStanding extends KvStanding {
  /** Services that nothing may begin of: see kv-begun.ts. */
  readonly begun: ReadonlySet<number>;
}

/** Bytes of entries in one frame; the last entry may go over. */
const HEARD_BYTES_MAX = 128 * 1024;
/** With more than this on its way to a store, callers that go on speaking are sent away. */
const DEPTH_BYTES_MAX = 64 * 1024 * 1024;
/** More than this on their way, and frames of other stores are dropped: what stores send ahead of answers fits. */
const FRAMES_DEPTH_BYTES_MAX = 8 * 1024 * 1024;
/** Orders without answer. */
const STEERS_MAX = 256;

interface Steer {
  readonly timer: NodeJS.Timeout;
  done(result: RpcResult<Uint8Array>): void;
}

/**
 * A store thread as main sees it, from its KV_OPEN to its death: what goes to it by ring, and what of it has to be
 * bounded here. Nothing waits for a ring: frames of other stores are dropped while too much waits, callers are not read
 * any more, and of the shared map only the keys are kept that have changed meanwhile.
 */
export class KvStoreThread {
  readonly peer: number;
  readonly store: number;
  /** Numbers of callers, which are main's. */
  private readonly numbers: { last: number };
  private readonly wire: RelayWire;
  private readonly entryOf: (key: string) => Uint8Array | undefined;
  private readonly callers = new Map<number, RelayedCaller>();
  private readonly steers = new Map<number, Steer>();
  private readonly unheard = new Set<string>();
  private standing: ToldStanding | undefined;
  private readonly writer = new ByteWriter(64 * 1024);
  private lastCall = 0;
  private isGone = false;
  /** Frames of other stores that found too much on the way to the ring. */
  dropped = 0;

  constructor(
    { peer, store }: { readonly peer: number; readonly store: number },
    wire: RelayWire,
    numbers: { last: number },
    entryOf: (key: string) => Uint8Array | undefined,
  ) {
    this.peer = peer;
    this.store = store;
    this.wire = wire;
    this.numbers = numbers;
    this.entryOf = entryOf;
  }

  /** What serves the store to other processes. */
  handlers(): Handlers<typeof kvService.methods> {
    return {
      frames: () => ({ message: bytes => this.frame(bytes) }),
      calls: writer => {
        const caller = new RelayedCaller(this, ++this.numbers.last, writer);
        this.callers.set(caller.number, caller);
        return caller;
      },
      steer: ({ order }, reply) =>
        this.steer(order, result => {
          if (result.kind === 'ok') reply.done(result.value);
          else reply.failed(result);
        }),
    };
  }

  get congested(): boolean {
    return this.wire.congested(this.peer);
  }

  // -- To the store ------------------------------------------------------------------------------------------

  /** Of another store; whoever sent it sends again what matters. */
  frame(bytes: Uint8Array): void {
    if (this.wire.depthBytes(this.peer) > FRAMES_DEPTH_BYTES_MAX) this.dropped++;
    else this.send(this.begin(OP.KV_FRAME).raw(bytes));
  }

  /** Takes the place of what it was told before and has not heard yet. */
  standingIs(standing: ToldStanding): void {
    this.standing = standing;
    this.tell();
  }

  /** These entries of the shared map have changed. */
  hear(keys: Iterable<string>): void {
    for (const key of keys) this.unheard.add(key);
    this.tell();
  }

  /** The ring has room again. */
  drained(): void {
    this.tell();
    for (const caller of this.callers.values()) caller.settle();
  }

  private tell(): void {
    if (this.standing !== undefined && !this.congested) {
      this.send(standingFrame(this.begin(OP.KV_STANDING), this.standing));
      this.standing = undefined;
    }
    while (this.unheard.size > 0 && !this.congested) this.tellEntries();
  }

  private tellEntries(): void {
    const writer = this.begin(OP.KV_HEARD);
    const countAt = writer.length;
    let count = 0;
    writer.u32(0);
    for (const key of this.unheard) {
      if (writer.length > HEARD_BYTES_MAX) break;
      this.unheard.delete(key);
      const bytes = this.entryOf(key);
      writer.text(key).u8(bytes === undefined ? 0 : 1);
      writer.blob(bytes ?? NOTHING);
      count++;
    }
    writer.bytes.writeUInt32LE(count, countAt);
    this.send(writer);
  }

  /** `done` is called once; never from within this call, unless it is refused. */
  steer(order: Uint8Array, done: (result: RpcResult<Uint8Array>) => void): void {
    if (order.length > ORDER_BYTES_MAX)
      return done(rpcFailure('aborted', `an order has at most ${ORDER_BYTES_MAX} bytes`));
    if (this.steers.size >= STEERS_MAX || this.congested || this.isGone)
      return done(rpcFailure('throttled', 'the store has more to do than it can take orders'));
    this.lastCall = (this.lastCall % 0xffff_ffff) + 1;
    const callId = this.lastCall;
    const timer = setTimeout(() => {
      this.steers.delete(callId);
      done(rpcFailure('deadline', 'the store did not answer in time'));
    }, STEER_MS);
    this.steers.set(callId, { timer, done });
    this.send(this.begin(OP.KV_STEER, callId).raw(order));
  }

  /** One more message of a caller. False: it is to be sent away. */
  call(caller: number, bytes: Uint8Array): boolean {
    if (this.congested && this.wire.depthBytes(this.peer) > DEPTH_BYTES_MAX) return false;
    this.send(this.begin(OP.KV_CALL).u32(caller).raw(bytes));
    return true;
  }

  callEnded(caller: number): void {
    this.send(this.begin(OP.KV_CALL_EVENT).u32(caller).u8(CALL_EVENT.ENDED));
  }

  callClosed(caller: number): void {
    this.callers.delete(caller);
    this.send(this.begin(OP.KV_CALL_EVENT).u32(caller).u8(CALL_EVENT.CLOSED));
  }

  private begin(op: number, callId = 0): ByteWriter {
    return this.writer.reset().u8(op).u32(callId);
  }

  private send({ bytes, length }: ByteWriter): void {
    if (!this.isGone) this.wire.send(this.peer, bytes, 0, length);
  }

  // -- From the store ----------------------------------------------------------------------------------------

  answers(reader: ByteReader): void {
    const caller = this.callers.get(reader.u32());
    // The stream may keep it, and what is read is a ring's.
    caller?.answers(Buffer.from(reader.raw(reader.remaining)));
  }

  callerWants(reader: ByteReader): void {
    this.callers.get(reader.u32())?.storeWants(reader.u8());
  }

  steered(callId: number, reader: ByteReader): void {
    const steer = this.steers.get(callId);
    if (steer === undefined) return;
    this.steers.delete(callId);
    clearTimeout(steer.timer);
    const isTaken = reader.u8() === STATUS.OK;
    if (isTaken) steer.done({ kind: 'ok', value: Buffer.from(reader.raw(reader.remaining)) });
    else steer.done(rpcFailure('unavailable', 'the store takes no orders'));
  }

  /** The thread died, or this node stops serving it: who waits for an order is told, and nothing is sent any more. */
  close(): void {
    this.isGone = true;
    for (const { timer, done } of this.steers.values()) {
      clearTimeout(timer);
      done(rpcFailure('unknown-outcome', 'the store stopped before it answered'));
    }
    this.steers.clear();
  }
}

const NOTHING = new Uint8Array(0);

function standingFrame(writer: ByteWriter, { isSettled, self, hosts, begun }: ToldStanding): ByteWriter {
  writer
    .u8(isSettled ? 1 : 0)
    .f64(self)
    .u32(hosts.size);
  for (const host of hosts) writer.f64(host);
  writer.u8(begun.size);
  for (const service of begun) writer.u8(service);
  return writer;
}

/** A caller's stream, between its process and the store thread. It is read while answers leave and the store keeps up. */
class RelayedCaller implements BidiHandler<Uint8Array> {
  readonly number: number;
  private readonly thread: KvStoreThread;
  private readonly writer: BidiWriter<Uint8Array>;
  private isHeld = false;
  /** Its own stream takes no more answers for now. */
  private isFull = false;
  /** The store wants no more of it for now. */
  private isStopped = false;
  private isOver = false;

  constructor(thread: KvStoreThread, number: number, writer: BidiWriter<Uint8Array>) {
    this.thread = thread;
    this.number = number;
    this.writer = writer;
  }

  message(bytes: Uint8Array): void {
    if (this.isOver) return;
    if (this.thread.call(this.number, bytes)) this.settle();
    else this.writer.end();
  }

  ended(): void {
    this.thread.callEnded(this.number);
  }

  room(): void {
    this.isFull = false;
    this.settle();
  }

  closed(): void {
    this.isOver = true;
    this.thread.callClosed(this.number);
  }

  answers(bytes: Uint8Array): void {
    if (this.isOver) return;
    this.isFull = !this.writer.send(bytes);
    this.settle();
  }

  storeWants(what: number): void {
    if (this.isOver) return;
    if (what === CALLER_WANTS.END) {
      this.writer.end();
      return;
    }
    this.isStopped = what === CALLER_WANTS.PAUSE;
    this.settle();
  }

  settle(): void {
    const mustHold = this.isFull || this.isStopped || this.thread.congested;
    if (this.isOver || mustHold === this.isHeld) return;
    this.isHeld = mustHold;
    if (mustHold) this.writer.pause();
    else this.writer.resume();
  }
}
