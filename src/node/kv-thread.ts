import { type ByteReader, ByteWriter } from '../base/bytes.js';
import type { Closable } from '../base/scope.js';
import { OP, STATUS } from '../contract/contract.js';
import { CALL_EVENT, CALLER_WANTS } from '../contract/kv-relay.js';
import type { Publication } from '../kv/balance/board.js';
import { CallsHandler, type StoreHandler } from '../kv/remote/store-server.js';
import type { BidiWriter, Caller } from '../rpc/handler.js';
import type { HostId } from '../underlay/message.js';
import type { KvHost } from './kv-host.js';

/** The ring to main. */
export interface KvThreadWire {
  send(bytes: Uint8Array, start: number, end: number): void;
  /** Frames wait that the ring had no room for. */
  readonly congested: boolean;
  /** Bytes on their way. */
  readonly depthBytes: number;
  /** Have the thread's turn end, with what is sent now and what {@link KvThread.turned} does. */
  schedule(): void;
}

/** With more than this on its way to main, callers that still have answers to come are sent away without. */
const DEPTH_BYTES_MAX = 64 * 1024 * 1024;
/** More than this on their way, and frames for other stores are dropped: what a store sends ahead of answers fits. */
const FRAMES_DEPTH_BYTES_MAX = 8 * 1024 * 1024;

/**
 * A store thread's side of contract/kv-relay.ts: takes what main hands on to the store's {@link KvHost}, and sends main
 * what the store has for others.
 *
 * Frames for other stores are dropped while too much waits for the ring to main: who sent them sends again what matters.
 * Callers are told to pause then, and have the answers to what they had asked before, up to {@link DEPTH_BYTES_MAX}.
 *
 * Answers are gathered to the end of the thread's turn, so what one flush made durable leaves in one message a caller.
 */
export class KvThread implements Closable {
  /** Frames for other stores that found too much on the way to the ring. */
  dropped = 0;
  private readonly wire: KvThreadWire;
  private host: KvHost | undefined;
  private readonly callers = new Map<number, RelayedCaller>();
  private gathered: (() => void)[] = [];
  private readonly writer = new ByteWriter(64 * 1024);

  constructor(wire: KvThreadWire) {
    this.wire = wire;
  }

  /** The store serves: main is told so. */
  open(host: KvHost, services: readonly number[]): void {
    this.host = host;
    const writer = this.begin(OP.KV_OPEN).f64(host.store.id).u8(services.length);
    for (const service of services) writer.u8(service);
    this.send(writer);
  }

  // -- To main -------------------------------------------------------------------------------------------------

  /** A store's frame for another. */
  readonly frame = (store: number, frame: Uint8Array): void => {
    if (this.wire.depthBytes > FRAMES_DEPTH_BYTES_MAX) this.dropped++;
    else this.send(this.begin(OP.KV_FRAME).f64(store).raw(frame));
  };

  readonly publish = (changes: readonly Publication[]): void => {
    const writer = this.begin(OP.KV_PUBLISH).u32(changes.length);
    for (const { key, bytes } of changes)
      writer
        .text(key)
        .u8(bytes === undefined ? 0 : 1)
        .blob(bytes ?? NOTHING);
    this.send(writer);
  };

  /** False: the ring is congested, and takes them all the same. */
  answers(caller: number, bytes: Uint8Array): boolean {
    if (this.wire.depthBytes > DEPTH_BYTES_MAX) {
      this.callers.get(caller)?.closed();
      this.want(caller, CALLER_WANTS.END);
    } else this.send(this.begin(OP.KV_ANSWERS).u32(caller).raw(bytes));
    return !this.wire.congested;
  }

  want(caller: number, what: number): void {
    this.send(this.begin(OP.KV_CALLER).u32(caller).u8(what));
  }

  private begin(op: number, callId = 0): ByteWriter {
    return this.writer.reset().u8(op).u32(callId);
  }

  private send({ bytes, length }: ByteWriter): void {
    this.wire.send(bytes, 0, length);
    this.wire.schedule();
  }

  /** Runs it behind the store's turn. */
  readonly soon = (run: () => void): void => {
    this.gathered.push(run);
    this.wire.schedule();
  };

  /** The store has had its turn. */
  turned(): void {
    this.host?.turned();
    if (this.gathered.length === 0) return;
    const { gathered } = this;
    this.gathered = [];
    for (const run of gathered) run();
  }

  /** The ring to main has room again. */
  drained(): void {
    for (const { handler } of this.callers.values()) handler.room();
  }

  // -- From main -----------------------------------------------------------------------------------------------

  /** Whether an op is one of these. */
  static owns(op: number): boolean {
    return op >= OP.KV_OPEN && op <= OP.KV_STEER;
  }

  /** A frame from main. What is kept of it is copied. */
  onFrame(reader: ByteReader): void {
    const { host } = this;
    const op = reader.u8();
    const callId = reader.u32();
    if (host === undefined) return;
    switch (op) {
      case OP.KV_FRAME:
        return host.frame(rest(reader));
      case OP.KV_CALL:
        return this.callerOf(reader.u32(), host).handler.message(rest(reader));
      case OP.KV_CALL_EVENT:
        return this.callEvent(reader.u32(), reader.u8());
      case OP.KV_HEARD:
        return heard(reader, host);
      case OP.KV_STANDING:
        return standing(reader, host);
      case OP.KV_STEER:
        return host.steer(rest(reader), answer =>
          this.send(this.begin(OP.REPLY, callId).u8(STATUS.OK).raw(answer)),
        );
    }
  }

  private callerOf(number: number, host: StoreHandler): RelayedCaller {
    let caller = this.callers.get(number);
    if (caller === undefined) {
      caller = new RelayedCaller(this, number, host);
      this.callers.set(number, caller);
    }
    return caller;
  }

  private callEvent(number: number, event: number): void {
    const caller = this.callers.get(number);
    if (caller === undefined) return;
    if (event === CALL_EVENT.ENDED) caller.handler.ended();
    else {
      this.callers.delete(number);
      caller.closed();
    }
  }

  close(): void {
    for (const caller of this.callers.values()) caller.closed();
    this.callers.clear();
    this.host?.close();
  }
}

const NOTHING = new Uint8Array(0);
const SOMEBODY: Caller = { tenant: '', deadlineMs: Number.POSITIVE_INFINITY };

/** The stream of a caller whose end is main's. It stays known when it was ended here, until main says that it is closed. */
class RelayedCaller implements BidiWriter<Uint8Array> {
  readonly caller = SOMEBODY;
  readonly handler: CallsHandler;
  private readonly thread: KvThread;
  private readonly number: number;

  constructor(thread: KvThread, number: number, store: StoreHandler) {
    this.thread = thread;
    this.number = number;
    this.handler = new CallsHandler(store, this, thread.soon);
  }

  closed(): void {
    this.handler.closed();
  }

  send(bytes: Uint8Array): boolean {
    return this.thread.answers(this.number, bytes);
  }

  pause(): void {
    this.thread.want(this.number, CALLER_WANTS.PAUSE);
  }

  resume(): void {
    this.thread.want(this.number, CALLER_WANTS.RESUME);
  }

  end(): void {
    this.thread.want(this.number, CALLER_WANTS.END);
  }
}

/** The ring's memory is written again, and is shared memory, which not everything that reads bytes takes. */
function rest(reader: ByteReader): Buffer {
  return Buffer.from(reader.raw(reader.remaining));
}

function heard(reader: ByteReader, host: KvHost): void {
  for (let left = reader.u32(); left > 0; left--) {
    const key = reader.text();
    const isThere = reader.u8() === 1;
    const bytes = Buffer.from(reader.blob());
    host.heard(key, isThere ? bytes : undefined);
  }
}

function standing(reader: ByteReader, host: KvHost): void {
  const isSettled = reader.u8() === 1;
  const self: HostId = reader.f64();
  const hosts = new Set<HostId>();
  for (let left = reader.u32(); left > 0; left--) hosts.add(reader.f64());
  const begun = new Set<number>();
  for (let left = reader.u8(); left > 0; left--) begun.add(reader.u8());
  host.standing(isSettled, self, hosts, begun);
}
