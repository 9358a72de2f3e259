import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { type Route, readRoute, writeRoute } from '../../src/contract/dist.js';
import { readSubscription, type Subscription, writeSubscription } from '../../src/contract/inbox.js';
import { Message, readMessage, writeMessage } from '../../src/contract/message.js';
import { DistCoprocessor } from '../../src/dist/dist.js';
import { DistService } from '../../src/dist/service.js';
import { InboxCoprocessor } from '../../src/inbox/inbox.js';
import type { InboxLimits } from '../../src/inbox/queue.js';
import { InboxService } from '../../src/inbox/service.js';
import type { SnapshotEngine } from '../../src/kv/engine.js';
import { SERVICE } from '../../src/kv/keys.js';
import { FIRST_RANGE_ID } from '../../src/kv/kv.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { type SharedRanges, SoleRange } from '../../src/kv/sole-range.js';
import { Store, type TurnLimits } from '../../src/kv/store.js';
import { RetainCoprocessor, type RetainLimits } from '../../src/retain/retain.js';
import { RetainService } from '../../src/retain/service.js';
import { hashKeys } from '../../src/topic/hash.js';

/** A frame that the store sent, taken apart up to its body. */
export interface Sent {
  readonly peer: number;
  readonly op: number;
  readonly callId: number;
  readonly body: Buffer;
}

export interface HarnessOptions {
  readonly engine?: SnapshotEngine & { flush?(): void };
  readonly inbox?: Partial<InboxLimits>;
  readonly retain?: Partial<RetainLimits>;
  readonly groupMembersMax?: number;
  readonly mqttPeers?: readonly number[];
  readonly callIdSeed?: number;
  readonly turn?: Partial<TurnLimits>;
  readonly shared?: SharedRanges;
}

export const TENANT = 'acme';
export const NODE = 'node-a';
export const NO_LOG = { debug() {}, info() {}, warn() {}, error() {} };
const OPENING_TURNS_MAX = 32;

/** All three services on one engine, asked by frames, without threads. Peers 1 and 2 are the mqtt threads. */
export class StoreHarness {
  readonly engine: SnapshotEngine;
  readonly store: Store;
  readonly dist: DistService;
  readonly inbox: InboxService;
  readonly retain: RetainService;
  readonly sent: Sent[] = [];
  /** Milliseconds that pass at each look at the clock. */
  msPerLook = 0;
  nowMs = 0;
  private random = 1;
  private readonly clock = { wallMs: () => 0, monotonicMs: () => (this.nowMs += this.msPerLook) };
  readonly congestedPeers = new Set<number>();
  readonly absentPeers = new Set<number>();
  private callId = 0;

  constructor(options: HarnessOptions = {}) {
    this.engine = options.engine ?? new MemoryEngine();
    const limits: InboxLimits = {
      queueMessagesMax: 1000,
      queueBytesMax: 1 << 20,
      queueDropPolicy: 'newest',
      ...options.inbox,
    };
    const retainLimits = { messagesMax: 1_000_000, bytesMax: 2 ** 40, ...options.retain };
    const dist = new SoleRange(
      SERVICE.DIST,
      () => new DistCoprocessor(hashKeys(7), options.groupMembersMax ?? 1000),
    );
    const inbox = new SoleRange(SERVICE.INBOX, id => new InboxCoprocessor(id, limits), FIRST_RANGE_ID);
    const retain = new SoleRange(SERVICE.RETAIN, id => new RetainCoprocessor(id, retainLimits, this.clock));
    this.store = new Store(
      this.engine,
      {
        send: (peer, bytes, start, end) => {
          const reader = new ByteReader(Buffer.from(bytes.subarray(start, end)));
          const op = reader.u8();
          const callId = reader.u32();
          this.sent.push({ peer, op, callId, body: Buffer.from(reader.raw(reader.remaining)) });
          return !this.absentPeers.has(peer);
        },
        congested: peer => this.congestedPeers.has(peer),
      },
      {
        clock: this.clock,
        random: { u32: () => (this.random = (this.random * 1_664_525 + 1_013_904_223) >>> 0) },
        log: NO_LOG,
      },
      [dist, inbox, retain],
      {
        ...(options.turn && { limits: options.turn }),
        ...(options.shared && { shared: options.shared }),
      },
    );
    for (let turns = 0; turns < OPENING_TURNS_MAX && !this.store.isReady; turns++) {
      options.engine?.flush?.();
      this.store.endTurn();
    }
    const peers = options.mqttPeers ?? [1, 2];
    const seed = options.callIdSeed ?? 0;
    const topology = { node: NODE, shardPeers: peers };
    this.dist = new DistService(dist, dist.coprocessor, topology, this.store, seed);
    this.inbox = new InboxService(inbox, inbox.coprocessor, peers, this.store, seed);
    this.retain = new RetainService(retain, retain.coprocessor, this.store);
    this.store.add(this.dist);
    this.store.add(this.inbox);
    this.store.add(this.retain);
  }

  /** Hands in a request without ending the turn; returns its call id. */
  ask(peer: number, op: number, fill: (writer: ByteWriter) => void, wantsReply = true): number {
    const callId = wantsReply ? ++this.callId : 0;
    const writer = new ByteWriter().u8(op).u32(callId);
    fill(writer);
    this.store.handleFrame(peer, writer.bytes, 0, writer.length);
    return callId;
  }

  /** Answers a frame of the store. */
  answer(peer: number, callId: number, status: number = STATUS.OK): void {
    const writer = new ByteWriter().u8(OP.REPLY).u32(callId).u8(status);
    this.store.handleFrame(peer, writer.bytes, 0, writer.length);
  }

  /** The reply to `callId`, taken out of what was sent. */
  reply(callId: number): ByteReader | undefined {
    const at = this.sent.findIndex(frame => frame.op === OP.REPLY && frame.callId === callId);
    return at < 0 ? undefined : new ByteReader(this.sent.splice(at, 1)[0]!.body);
  }

  /** Asks and ends all turns; the reply, or a failure if there is none. */
  call(peer: number, op: number, fill: (writer: ByteWriter) => void): ByteReader {
    const callId = this.ask(peer, op, fill);
    this.finish();
    const reply = this.reply(callId);
    if (reply === undefined) throw new Error(`no reply to op ${op}`);
    return reply;
  }

  /** As many turns as what waits takes. */
  finish(): void {
    do this.store.endTurn();
    while (this.store.pending);
  }

  /** Takes all frames with this op out of what was sent. */
  take(op: number): Sent[] {
    const taken = this.sent.filter(frame => frame.op === op);
    for (const frame of taken) this.sent.splice(this.sent.indexOf(frame), 1);
    return taken;
  }
}

// -- dist ------------------------------------------------------------------------------------------------------

export function shardRoute(filter: string, shard: number, more: Partial<Route> = {}): Route {
  const receiver = { kind: 'shard', node: NODE, shard } as const;
  return { filter, group: '', ordered: false, receiver, options: 0, subscriptionId: 0, members: 0, ...more };
}

export function inboxRoute(filter: string, clientId: string, more: Partial<Route> = {}): Route {
  const receiver = { kind: 'inbox', clientId } as const;
  return { filter, group: '', ordered: false, receiver, options: 1, subscriptionId: 0, members: 0, ...more };
}

export function writeRoutes(writer: ByteWriter, routes: readonly Route[], tenant = TENANT): void {
  writer.text(tenant).u32(routes.length);
  for (const route of routes) writeRoute(writer, route);
}

export function readRoutes(reader: ByteReader): Route[] {
  const out: Route[] = [];
  if (reader.u8() !== STATUS.OK) throw new Error('match failed');
  for (let left = reader.u32(); left > 0; left--) out.push(readRoute(reader));
  return out;
}

// -- messages --------------------------------------------------------------------------------------------------

export function message(topic: string, payload: string, more: Partial<Message> = {}): Message {
  const made = Object.assign(new Message(), { qos: 1, publishedAtMs: 1000 }, more);
  made.topic = Buffer.from(topic);
  made.payload = Buffer.from(payload);
  return made;
}

export function readMessageCopy(reader: ByteReader): Message {
  const read = readMessage(reader, new Message());
  read.topic = Buffer.from(read.topic);
  read.properties = Buffer.from(read.properties);
  read.payload = Buffer.from(read.payload);
  return read;
}

// -- inbox -----------------------------------------------------------------------------------------------------

export interface Attach {
  clientId: string;
  cleanStart?: boolean;
  expirySeconds?: number;
  nowMs?: number;
  connection?: number;
  will?: { delaySeconds: number; message: Message };
  tenant?: string;
}

export function writeAttach(writer: ByteWriter, attach: Attach): void {
  writer.text(attach.tenant ?? TENANT).text(attach.clientId);
  writer
    .u8(attach.cleanStart ? 1 : 0)
    .u32(attach.expirySeconds ?? 0xffff_ffff)
    .u53(attach.nowMs ?? 1000);
  writer
    .u16(0)
    .u32(attach.connection ?? 1)
    .u8(attach.will ? 1 : 0);
  if (attach.will) writeMessage(writer.u32(attach.will.delaySeconds), attach.will.message);
}

export interface Attached {
  status: number;
  instance: number;
  present: boolean;
  subscriptions: Subscription[];
  received: number[];
  nextSeq: number;
  sentSeq: number;
  owed: number[];
}

export function readAttached(reader: ByteReader): Attached {
  const status = reader.u8();
  const instance = reader.u53();
  const present = reader.u8() === 1;
  const subscriptions = readSubscriptions(reader);
  const received: number[] = [];
  for (let left = reader.u32(); left > 0; left--) received.push(reader.u16());
  const nextSeq = reader.u53();
  const sentSeq = reader.u53();
  const owed: number[] = [];
  for (let left = reader.u32(); left > 0; left--) owed.push(reader.u53());
  if (reader.remaining !== 0) throw new Error('an ATTACH reply has more than it should');
  return { status, instance, present, subscriptions, received, nextSeq, sentSeq, owed };
}

export function readSubscriptions(reader: ByteReader): Subscription[] {
  const out: Subscription[] = [];
  for (let left = reader.u32(); left > 0; left--) out.push(readSubscription(reader));
  return out;
}

export function writeSubscriptions(writer: ByteWriter, subscriptions: readonly Subscription[]): void {
  writer.u32(subscriptions.length);
  for (const subscription of subscriptions) writeSubscription(writer, subscription);
}

export interface Target {
  clientId: string;
  qos?: number;
  flags?: number;
  ids?: number[];
}

export function writeInsert(
  writer: ByteWriter,
  inserted: Message,
  targets: readonly Target[],
  source = 0,
  packetId = 0,
  tenant = TENANT,
): void {
  writer.text(tenant).u53(source).u16(packetId).u53(inserted.publishedAtMs);
  writeMessage(writer, inserted);
  writer.u32(targets.length);
  for (const { clientId, qos = 1, flags = 0, ids = [] } of targets) {
    writer.text(clientId).u8(qos).u8(flags).u8(ids.length);
    for (const id of ids) writer.u32(id);
  }
}

export interface Pushed {
  peer: number;
  instance: number;
  connection: number;
  seq: number;
  qos: number;
  flags: number;
  ids: number[];
  message: Message;
}

/** The messages in INBOX_MESSAGES frames, in their order. */
export function readPushes(frames: readonly Sent[]): Pushed[] {
  const out: Pushed[] = [];
  for (const { peer, body } of frames) {
    const reader = new ByteReader(body);
    const instance = reader.u53();
    const connection = reader.u32();
    for (let left = reader.u32(); left > 0; left--) {
      const seq = reader.u53();
      const qos = reader.u8();
      const flags = reader.u8();
      const ids: number[] = [];
      for (let count = reader.u8(); count > 0; count--) ids.push(reader.u32());
      out.push({ peer, instance, connection, seq, qos, flags, ids, message: readMessageCopy(reader) });
    }
    if (reader.remaining !== 0) throw new Error('a push has more than it should');
  }
  return out;
}
