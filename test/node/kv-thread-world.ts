/** Nodes whose main does nothing but relay, each with one store thread: the real one but for threads, disks and time. */
import { expect, vi } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import type { Env } from '../../src/base/env.js';
import { OP } from '../../src/contract/contract.js';
import { writeMessage } from '../../src/contract/message.js';
import { SERVICE } from '../../src/kv/keys.js';
import { MapCoprocessor } from '../../src/kv/map/map.js';
import { decodeMapAnswer, encodeGet, encodePut, type MapAnswer } from '../../src/kv/map/map-codec.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { VarintReader, VarintWriter } from '../../src/kv/raft/varint.js';
import { type Coprocessor, wholeService } from '../../src/kv/range.js';
import { type AttemptAnswer, readAnswer, writeAttempt } from '../../src/kv/remote/attempt-codec.js';
import type { Replica } from '../../src/kv/replicated/replica.js';
import { ASK } from '../../src/kv/route/client.js';
import { SoleRange } from '../../src/kv/sole-range.js';
import { Store } from '../../src/kv/store.js';
import { KvDesk } from '../../src/node/kv-desk.js';
import { KvHost } from '../../src/node/kv-host.js';
import { KvThread } from '../../src/node/kv-thread.js';
import { RetainCoprocessor } from '../../src/retain/retain.js';
import { RetainService } from '../../src/retain/service.js';
import { InlineMesh } from '../../src/shard/inline.js';
import { message, NO_LOG, TENANT } from '../kv/store-harness.js';

const MAIN = 0;
const STORE = 1;
const STEP_MS = 10;

/** What main was told, but for frames of stores and entries of the map. */
export interface Heard {
  readonly op: number;
  readonly caller: number;
  readonly body: Buffer;
}

export interface NodeOptions {
  readonly engine?: MemoryEngine;
  readonly services?: readonly number[];
  readonly ringBytes?: number;
}

let seed = 1;
const env: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => Date.now() },
  random: { u32: () => (seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) },
  log: NO_LOG,
};

export class ThreadNode {
  readonly mesh: InlineMesh;
  readonly kv: KvThread;
  readonly host: KvHost;
  readonly store: Store;
  readonly retain: RetainService;
  readonly heard: Heard[] = [];
  /** Keys of the shared map that it has changed. */
  readonly published = new Map<string, Buffer | undefined>();
  /** Frames for other stores, by their number. */
  readonly frames: { readonly to: number; readonly bytes: Buffer }[] = [];
  readonly failures: unknown[] = [];
  storeId = 0;
  /** Its services, as main was told. */
  services: readonly number[] | undefined;
  /** Main stops reading its ring. */
  isDeaf = false;
  /** Times that it wanted a turn without having been told something. */
  wanted = 0;
  private callId = 0;

  constructor(name: string, { engine = new MemoryEngine(), services, ringBytes }: NodeOptions = {}) {
    this.mesh = new InlineMesh(2, {
      ...(ringBytes === undefined ? {} : { ringBytes }),
      holdCongested: true,
      handlerOf: shard => (_peer, bytes, start, end) => {
        if (shard === MAIN) this.atMain(new ByteReader(Buffer.from(bytes.subarray(start, end))));
        else this.atStore(bytes, start, end);
      },
      onTurn: shard => shard === STORE && this.endTurn(),
    });
    const end = this.mesh.mesh(STORE);
    end.onDrained = () => {
      this.kv.drained();
      this.mesh.schedule(STORE);
    };
    this.kv = new KvThread({
      send: (bytes, start, stop) => void end.send(MAIN, bytes, start, stop),
      get congested() {
        return end.port(MAIN)!.congested;
      },
      get depthBytes() {
        return end.port(MAIN)!.depthBytes;
      },
      schedule: () => this.want(),
    });
    const desk = new KvDesk(env.clock, 'lease');
    const limits = { messagesMax: 1000, bytesMax: 2 ** 30 };
    const range = new SoleRange(SERVICE.RETAIN, id => new RetainCoprocessor(id, limits, env.clock));
    const coprocessors = new Map([[SERVICE.MAP, (id: number): Coprocessor => new MapCoprocessor(id)]]);
    const shared = { sink: desk, send: this.kv.frame, coprocessors };
    const wire = {
      send: (peer: number, bytes: Uint8Array, start: number, stop: number) =>
        end.send(peer, bytes, start, stop),
      congested: () => end.port(MAIN)!.congested,
    };
    this.store = new Store(engine, wire, env, [range], { shared });
    this.retain = new RetainService(range, range.coprocessor, this.store);
    this.store.add(this.retain);
    const takes = services ?? [SERVICE.MAP];
    this.host = new KvHost({
      ...{ store: this.store.ranges.raft, desk, env, name: `apply-0@${name}`, cores: 1 },
      services: takes.map(wholeService),
      isSole: id => this.store.ranges.isSole(id),
      publish: this.kv.publish,
      turnSoon: () => this.want(),
      failed: error => this.failures.push(error),
    });
    this.kv.open(this.host, takes);
    this.pump();
  }

  private want(): void {
    this.wanted++;
    this.mesh.schedule(STORE);
  }

  private endTurn(): void {
    this.store.endTurn();
    this.kv.turned();
    if (this.store.pending) this.mesh.schedule(STORE);
  }

  private atStore(bytes: Buffer, start: number, end: number): void {
    if (KvThread.owns(bytes[start]!)) this.kv.onFrame(new ByteReader(bytes, start, end));
    else this.store.handleFrame(MAIN, bytes, start, end);
  }

  private atMain(reader: ByteReader): void {
    const op = reader.u8();
    const callId = reader.u32();
    if (op === OP.KV_OPEN) {
      this.storeId = reader.f64();
      this.services = [...reader.raw(reader.u8())];
    } else if (op === OP.KV_FRAME)
      this.frames.push({ to: reader.f64(), bytes: Buffer.from(reader.raw(reader.remaining)) });
    else if (op === OP.KV_PUBLISH) {
      for (let left = reader.u32(); left > 0; left--) {
        const key = reader.text();
        const isThere = reader.u8() === 1;
        const bytes = Buffer.from(reader.blob());
        this.published.set(key, isThere ? bytes : undefined);
      }
    } else {
      const caller = op === OP.REPLY ? callId : reader.u32();
      this.heard.push({ op, caller, body: Buffer.from(reader.raw(reader.remaining)) });
    }
  }

  /** Whatever can be done without time passing. */
  pump(): void {
    if (!this.isDeaf) {
      this.mesh.pump();
      return;
    }
    // An awake thread alone.
    for (let turn = 0; turn < 100 && (this.mesh.turn(STORE) > 0 || this.store.pending); turn++);
  }

  /** Sends a frame from main. */
  tell(op: number, fill: (writer: ByteWriter) => void, callId = 0): void {
    const writer = new ByteWriter().u8(op).u32(callId);
    fill(writer);
    this.mesh.mesh(MAIN).send(STORE, writer.bytes, 0, writer.length);
    this.mesh.mesh(MAIN).flush();
    this.mesh.schedule(STORE);
  }

  standing(isSettled: boolean, hosts: readonly number[], self = hosts[0]!): void {
    this.tell(OP.KV_STANDING, writer => {
      writer
        .u8(isSettled ? 1 : 0)
        .f64(self)
        .u32(hosts.length);
      for (const host of hosts) writer.f64(host);
      writer.u8(0);
    });
  }

  /** A retained message is set; the status, when the store has answered. */
  set(topic: string): number {
    return this.ask(OP.RETAIN_SET, writer =>
      writeMessage(writer.text(TENANT).u53(0), message(topic, 'x')),
    )!.readUInt8(0);
  }

  /** The body of the reply; undefined if there is none yet. */
  ask(op: number, fill: (writer: ByteWriter) => void): Buffer | undefined {
    const callId = ++this.callId;
    this.tell(op, fill, callId);
    this.pump();
    return this.heard.find(one => one.op === OP.REPLY && one.caller === callId)?.body;
  }

  /** The replica of the only range that is not its own. */
  get shared(): Replica | undefined {
    const { ranges } = this.store;
    return [...ranges.raft.replicas].find(({ rangeId }) => !ranges.isSole(rangeId));
  }

  /** What main was told by one kind of frame about one caller. */
  of(op: number, caller: number): Buffer[] {
    return this.heard.filter(one => one.op === op && one.caller === caller).map(({ body }) => body);
  }

  answers(caller: number): AttemptAnswer[] {
    return this.of(OP.KV_ANSWERS, caller).flatMap(body => {
      const reader = new VarintReader(body);
      const out: AttemptAnswer[] = [];
      while (reader.remaining > 0) out.push(readAnswer(reader)!);
      return out;
    });
  }

  close(): void {
    this.kv.close();
    this.mesh.close();
  }
}

/** Some nodes, their network, and time. */
export class ThreadWorld {
  readonly nodes: ThreadNode[] = [];
  private readonly map = new Map<string, Buffer>();
  /** Indices of nodes that hear nobody and are heard by nobody. */
  readonly cut = new Set<number>();
  private sequence = 0;

  constructor(count: number, options: NodeOptions = {}) {
    for (let at = 0; at < count; at++) this.nodes.push(new ThreadNode(`n${at}`, options));
  }

  /** Hosts are 101, 102 … */
  meet(isSettled = true): void {
    const hosts = this.nodes.map((_, at) => 101 + at);
    for (const [at, node] of this.nodes.entries()) node.standing(isSettled, hosts, hosts[at]!);
  }

  /** Time passes, and everything is done that falls due. */
  run(ms: number): void {
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      vi.advanceTimersByTime(STEP_MS);
      this.settle();
    }
  }

  until(isSo: () => boolean, withinMs = 60_000): void {
    for (let passed = 0; passed < withinMs && !isSo(); passed += STEP_MS) this.run(STEP_MS);
    expect(isSo()).toBe(true);
  }

  settle(): void {
    for (let round = 0, moved = true; moved && round < 1000; round++) {
      for (const node of this.nodes) node.pump();
      moved = this.carry();
    }
  }

  private carry(): boolean {
    let moved = false;
    for (const [from, node] of this.nodes.entries()) {
      for (const { to, bytes } of node.frames.splice(0)) {
        const at = this.nodes.findIndex(({ storeId }) => storeId === to);
        if (at < 0 || this.cut.has(from) || this.cut.has(at)) continue;
        moved = true;
        this.nodes[at]!.tell(OP.KV_FRAME, writer => writer.raw(bytes));
      }
      for (const [key, bytes] of node.published) {
        node.published.delete(key);
        moved = true;
        if (bytes === undefined) this.map.delete(key);
        else this.map.set(key, bytes);
        for (const other of this.nodes) hear(other, key, bytes);
      }
    }
    return moved;
  }

  get leader(): ThreadNode | undefined {
    return this.nodes.find(({ shared }) => shared?.isLeader === true);
  }

  /** One range with as many voters. */
  form(voters: number): ThreadNode {
    this.meet();
    this.until(() => this.leader?.shared?.raft.configuration.voters.length === voters);
    this.until(() => this.nodes.every(({ shared }) => shared?.descriptor?.changing === false));
    return this.leader!;
  }

  put(node: ThreadNode, caller: number, key: string, value: string): number {
    const body = encodePut({ key, value: Buffer.from(value), nowMs: 1 });
    return this.attempt(node, caller, ASK.MUTATE, body);
  }

  get(node: ThreadNode, caller: number, key: string): number {
    return this.attempt(node, caller, ASK.QUERY, encodeGet(key));
  }

  /** Gives its number. */
  attempt(node: ThreadNode, caller: number, ask: number, body: Uint8Array, range?: number): number {
    const { rangeId, descriptor } = (this.leader ?? node).shared ?? { rangeId: 1, descriptor: undefined };
    const sequence = ++this.sequence;
    const writer = new VarintWriter(64).number(1000 + caller);
    const attempt = { range: range ?? rangeId, epoch: descriptor?.epoch ?? 1, ask, body };
    writeAttempt(writer, { ...attempt, session: 1000 + caller, sequence, lowest: sequence });
    node.tell(OP.KV_CALL, frame => frame.u32(caller).raw(writer.view()));
    return sequence;
  }

  close(): void {
    for (const node of this.nodes) node.close();
  }
}

function hear(node: ThreadNode, key: string, bytes: Buffer | undefined): void {
  node.tell(OP.KV_HEARD, writer =>
    writer
      .u32(1)
      .text(key)
      .u8(bytes === undefined ? 0 : 1)
      .blob(bytes ?? Buffer.alloc(0)),
  );
}

export function mapAnswer(node: ThreadNode, caller: number, sequence: number): MapAnswer | undefined {
  const answer = node.answers(caller).find(one => one.sequence === sequence);
  return answer && decodeMapAnswer(answer.output);
}
