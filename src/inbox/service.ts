import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import { Message, readMessage, remainingSeconds } from '../contract/message.js';
import type { DueEntry } from '../kv/due-index.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import type { FrameBatch } from '../kv/frame-batch.js';
import { copyOf, readOrdered53 } from '../kv/keys.js';
import type { Range } from '../kv/range.js';
import type { Request, Service, ServiceHost } from '../kv/service.js';
import { Announcements } from './announcements.js';
import { INBOX_COMMAND, type InboxCoprocessor } from './inbox.js';
import { DATA } from './inbox-keys.js';
import { OWN_COMMAND, OWN_DETACH } from './own-ops.js';
import { Owner } from './owner.js';
import { ASK, Settlements } from './settlements.js';
import { Wills } from './wills.js';

/**
 * Frames before an inbox range: who is attached to which session here, and how far each has been served.
 *
 * Pushes: a message for an owner that is caught up and has credit goes out straight from the request that
 * brought it, in the batch that is sent when the turn is durable. Otherwise it waits in the range until a PULL,
 * and is read back in shares of `PUMP_MESSAGES_MAX` an owner and `PUMP_BYTES_MAX` a turn, never past the last durable
 * one, and not to a thread whose ring is full.
 */
export class InboxService implements Service {
  readonly range: Range;
  private readonly coprocessor: InboxCoprocessor;
  private readonly host: ServiceHost;
  private readonly announcements: Announcements;
  private readonly settlements: Settlements;
  private readonly wills: Wills;
  private readonly owners = new Map<number, Owner>();
  private touched: Owner[] = [];
  private pumping: Owner[] = [];
  /** The owner and count field of the push that the turn's last frame is. */
  private lastPush: Owner | null = null;
  private lastPushCountAt = 0;
  /** Attached or ended in this turn: taken back when it fails. */
  private changedOwners: { instance: number; former: Owner | undefined }[] = [];
  private willsDueMs = -1;
  private nowMs = 0;
  private readonly command = new ByteWriter(1024);
  private readonly commandReader = new ByteReader();
  private readonly outcome = new ByteWriter(1024);
  private readonly outcomeReader = new ByteReader();
  private readonly message = new Message();
  private readonly valueReader = new ByteReader();
  private readonly expiredSeqs: number[] = [];

  /**
   * `mqttPeers`: mesh indexes of the threads that publish wills and tell dist of routes. `callIdSeed`: a random
   * unsigned 32-bit number.
   */
  constructor(
    range: Range,
    coprocessor: InboxCoprocessor,
    mqttPeers: readonly number[],
    host: ServiceHost,
    callIdSeed: number,
  ) {
    this.range = range;
    this.coprocessor = coprocessor;
    this.host = host;
    this.announcements = new Announcements(mqttPeers, callIdSeed);
    this.settlements = new Settlements(coprocessor.sessions, this.announcements, host);
    this.wills = new Wills(coprocessor.sessions, this.announcements, host);
  }

  /** Sessions attached here. */
  get attached(): number {
    return this.owners.size;
  }

  owns(op: number): boolean {
    return (op >= OP.INBOX_ATTACH && op <= OP.INBOX_SETTLED) || op === OWN_COMMAND || op === OWN_DETACH;
  }

  /** A PULL writes nothing; it is served when the turn ends. */
  ask(request: Request, body: ByteReader): boolean {
    if (request.op !== OP.INBOX_PULL) return false;
    const owner = this.ownerOf(request, body.u53());
    if (owner === undefined) return true;
    const fromSeq = body.u53();
    owner.grant(fromSeq, body.u32());
    if (owner.cursor <= owner.turnTail) this.pumpLater(owner);
    return true;
  }

  /** What is finished may be removed late: after a crash it is delivered again, with DUP, or dist is told again. */
  canWait(op: number): boolean {
    return op === OP.INBOX_ACKED || op === OP.INBOX_SETTLED;
  }

  weight(op: number): number {
    return op >= OP.INBOX_INSERT && op <= OP.INBOX_RELEASED ? 1 : 8;
  }

  apply(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    switch (request.op) {
      case OP.INBOX_INSERT:
        this.insert(request, body, writer, out);
        return;
      case OP.INBOX_ATTACH:
        this.attach(request, body, writer, out);
        return;
      case OP.INBOX_DETACH:
        this.detach(request, body, writer, out);
        return;
      case OP.INBOX_SUBSCRIBE:
      case OP.INBOX_UNSUBSCRIBE:
      case OP.INBOX_ACKED:
      case OP.INBOX_RECEIVED:
      case OP.INBOX_RELEASED:
      case OP.INBOX_SETTLED:
        this.forward(request, body, writer, out);
        return;
      default:
        this.applyOwn(request, body, writer);
        return;
    }
  }

  // -- Requests that go to the range as they are -------------------------------------------------------------

  private forward(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    const at = body.position;
    const owner = this.ownerOf(request, body.u53());
    if (owner === undefined) {
      this.gone(request, out);
      return;
    }
    this.command.reset().u8(COMMAND_OF[request.op]!).text(owner.tenant).raw(body.bytes, at, body.end);
    if (request.op === OP.INBOX_SUBSCRIBE || request.op === OP.INBOX_UNSUBSCRIBE)
      this.command.u32(++owner.lastChange);
    const outcome = this.mutate(writer);
    if (request.callId !== 0) out.reply(request.peer, request.callId, outcome.bytes, 0, outcome.end);
    this.lastPush = null;
  }

  private gone(request: Request, out: FrameBatch): void {
    if (request.callId === 0) return;
    const reply = out.begin(request.peer, OP.REPLY, request.callId).u8(STATUS.GONE);
    if (request.op === OP.INBOX_SUBSCRIBE || request.op === OP.INBOX_UNSUBSCRIBE) reply.u32(0).u32(0);
    out.end();
    this.lastPush = null;
  }

  private ownerOf(request: Request, instance: number): Owner | undefined {
    const owner = this.owners.get(instance);
    return owner?.peer === request.peer ? owner : undefined;
  }

  private mutate(writer: KvWriter): ByteReader {
    const input = this.commandReader.over(this.command.bytes, 0, this.command.length);
    this.range.decide(input, writer, this.outcome.reset());
    return this.outcomeReader.over(this.outcome.bytes, 0, this.outcome.length);
  }

  // -- Connections -------------------------------------------------------------------------------------------

  private attach(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    const at = body.position;
    const tenant = body.text();
    const clientId = body.text();
    body.u8();
    const expirySeconds = body.u32();
    body.u53();
    body.u16();
    const connection = body.u32();
    const former = this.coprocessor.sessions.cache.find(tenant, clientId)?.instance ?? 0;
    this.command.reset().u8(INBOX_COMMAND.ATTACH).raw(body.bytes, at, body.end);
    const outcome = this.mutate(writer);
    if (outcome.u8() === 1) {
      const inDoubt = outcome.u53();
      this.setOwner(inDoubt, undefined);
      this.settlements.note(tenant, clientId, inDoubt, request.peer);
      this.settlements.park(tenant, clientId, request, copyOf(body.bytes, at, body.end));
      return;
    }
    const instance = outcome.u53();
    const nextSeq = outcome.u53();
    out.reply(request.peer, request.callId, outcome.bytes, outcome.position, outcome.end);
    this.lastPush = null;
    if (former !== 0 && former !== instance) this.setOwner(former, undefined);
    if (instance === 0) return;
    const owner = new Owner(request.peer, connection, tenant, clientId, instance, expirySeconds, nextSeq);
    owner.sentSeq = this.coprocessor.sessions.cache.findInstance(instance)?.sentSeq ?? 0;
    this.setOwner(instance, owner);
  }

  private detach(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    const at = body.position;
    const owner = this.ownerOf(request, body.u53());
    if (owner === undefined || owner.connection !== body.u32()) {
      this.gone(request, out);
      return;
    }
    body.u32();
    const nowMs = body.u53();
    this.command.reset().u8(INBOX_COMMAND.DETACH).text(owner.tenant).raw(body.bytes, at, body.end);
    const outcome = this.mutate(writer);
    if (request.callId !== 0) out.reply(request.peer, request.callId, outcome.bytes, 0, 1);
    this.lastPush = null;
    this.detached(owner, outcome, nowMs, request.peer);
  }

  /** `outcome` is that of DETACH; `peer` the thread that can be asked to settle its routes, or one of ASK. */
  private detached(owner: Owner, outcome: ByteReader, nowMs: number, peer: number): void {
    outcome.u8();
    if (outcome.u8() === 1) this.willsDueMs = nowMs;
    if (outcome.u8() === 1) this.settlements.note(owner.tenant, owner.clientId, owner.instance, peer);
    this.setOwner(owner.instance, undefined);
  }

  private setOwner(instance: number, owner: Owner | undefined): void {
    this.changedOwners.push({ instance, former: this.owners.get(instance) });
    if (owner === undefined) this.owners.delete(instance);
    else this.owners.set(instance, owner);
  }

  // -- Messages ----------------------------------------------------------------------------------------------

  private insert(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    this.command.reset().u8(INBOX_COMMAND.INSERT).raw(body.bytes, body.position, body.end);
    const outcome = this.mutate(writer);
    outcome.u8();
    const count = outcome.u32();
    const replyEnd = outcome.position + count;
    if (request.callId !== 0) {
      out.reply(request.peer, request.callId, outcome.bytes, 0, replyEnd);
      this.lastPush = null;
    }
    outcome.position = replyEnd;
    if (count > 0 && this.owners.size > 0) this.pushInserted(body, outcome, count, out);
  }

  /** Serves the owners of what was just queued. `outcome` stands at the instances and sequence numbers. */
  private pushInserted(body: ByteReader, outcome: ByteReader, count: number, out: FrameBatch): void {
    const tenantBytes = body.u32();
    body.position += tenantBytes + INSERT_FIXED_BYTES;
    const messageAt = body.position;
    readMessage(body, this.message);
    const messageEnd = body.position;
    body.u32();
    for (let i = 0; i < count; i++) {
      const instance = outcome.u53();
      const seq = outcome.u53();
      const clientBytes = body.u32();
      body.position += clientBytes;
      const targetAt = body.position;
      body.position += 2;
      const ids = body.u8();
      body.position += ids * 4;
      const owner = instance === 0 ? undefined : this.owners.get(instance);
      if (owner === undefined) continue;
      this.touch(owner);
      owner.turnTail = seq;
      if (owner.cursor !== seq || owner.credit === 0 || owner.pumping) {
        if (owner.credit > 0) this.pumpLater(owner);
        continue;
      }
      owner.cursor++;
      owner.credit--;
      const frame = this.pushTo(owner, out).u53(seq);
      frame.raw(body.bytes, targetAt, body.position).raw(body.bytes, messageAt, messageEnd);
      out.end();
    }
  }

  /** The frame that a push to `owner` belongs into: the last one if it is theirs, a new one otherwise. */
  private pushTo(owner: Owner, out: FrameBatch): ByteWriter {
    if (this.lastPush === owner) {
      const frame = out.reopen();
      frame.bytes.writeUInt32LE(frame.bytes.readUInt32LE(this.lastPushCountAt) + 1, this.lastPushCountAt);
      return frame;
    }
    const frame = out.begin(owner.peer, OP.INBOX_MESSAGES, 0).u53(owner.instance).u32(owner.connection);
    this.lastPush = owner;
    this.lastPushCountAt = frame.length;
    return frame.u32(1);
  }

  private touch(owner: Owner): void {
    if (owner.touched) return;
    owner.save();
    this.touched.push(owner);
  }

  private pumpLater(owner: Owner): void {
    if (owner.pumping) return;
    owner.pumping = true;
    this.pumping.push(owner);
  }

  // -- The turn ----------------------------------------------------------------------------------------------

  finish(): void {
    this.lastPush = null;
  }

  durable(reader: KvReader, out: FrameBatch): void {
    for (const owner of this.touched) owner.settle();
    this.touched.length = 0;
    this.changedOwners.length = 0;
    this.pump(reader, out);
    this.settlements.durable(reader, out);
    if (this.willsDueMs >= 0) this.wills.announce(this.willsDueMs, reader, out);
    this.willsDueMs = -1;
  }

  failed(): void {
    for (const owner of this.touched) owner.restore();
    this.touched.length = 0;
    for (let i = this.changedOwners.length - 1; i >= 0; i--) {
      const { instance, former } = this.changedOwners[i]!;
      if (former === undefined) this.owners.delete(instance);
      else this.owners.set(instance, former);
    }
    this.changedOwners.length = 0;
    this.lastPush = null;
    this.willsDueMs = -1;
    this.settlements.failed();
  }

  /** Whether owners wait for messages that `durable` can read back now. */
  get behind(): boolean {
    return this.pumping.some(owner => !this.host.congested(owner.peer));
  }

  private pump(reader: KvReader, out: FrameBatch): void {
    if (this.pumping.length === 0) return;
    const waiting = this.pumping;
    this.pumping = [];
    const outBytes = out.bytes;
    for (const [i, owner] of waiting.entries()) {
      if (out.bytes - outBytes > PUMP_BYTES_MAX) {
        // The rest is first in the next turn.
        this.pumping = waiting.slice(i).concat(this.pumping);
        break;
      }
      owner.pumping = false;
      if (this.owners.get(owner.instance) !== owner || owner.credit === 0 || owner.cursor > owner.tail)
        continue;
      if (!this.host.congested(owner.peer)) this.pumpOne(owner, reader, out);
      if (owner.credit > 0 && owner.cursor <= owner.tail) this.pumpLater(owner);
    }
    this.lastPush = null;
  }

  private pumpOne(owner: Owner, reader: KvReader, out: FrameBatch): void {
    const { keys } = this.coprocessor.sessions;
    const { tenant, instance } = owner;
    const start = copyOf(keys.seq(tenant, instance, DATA.QUEUED, owner.cursor));
    const end = copyOf(keys.seq(tenant, instance, DATA.QUEUED, owner.tail + 1));
    const share = Math.min(owner.credit, PUMP_MESSAGES_MAX);
    const outBytes = out.bytes;
    let sent = 0;
    let last = owner.tail;
    reader.scan(start, end, (key, value) => {
      const seq = readOrdered53(key, key.length - 7);
      if (sent === share || out.bytes - outBytes > PUMP_BYTES_MAX) {
        last = seq - 1;
        return false;
      }
      // What the client may have begun to receive is completed, expired or not [MQTT-4.3.3-7].
      if (seq > owner.sentSeq && this.isExpired(value)) this.expiredSeqs.push(seq);
      else {
        this.pushTo(owner, out).u53(seq).raw(value);
        out.end();
        sent++;
      }
      return true;
    });
    owner.cursor = last + 1;
    owner.credit -= sent;
    this.dropExpired(owner);
  }

  private isExpired(value: Uint8Array): boolean {
    const reader = this.valueReader.over(value);
    reader.position += 2;
    const ids = reader.u8();
    reader.position += ids * 4;
    return remainingSeconds(readMessage(reader, this.message), this.nowMs) === 0;
  }

  private dropExpired(owner: Owner): void {
    if (this.expiredSeqs.length === 0) return;
    this.command
      .reset()
      .u8(INBOX_COMMAND.ACKED)
      .text(owner.tenant)
      .u53(owner.instance)
      .u32(this.expiredSeqs.length);
    for (const seq of this.expiredSeqs) this.command.u53(seq);
    this.expiredSeqs.length = 0;
    this.host.enqueue(OWN_COMMAND, this.command.copy());
  }

  // -- Time and deaths ---------------------------------------------------------------------------------------

  private applyOwn(request: Request, body: ByteReader, writer: KvWriter): void {
    if (request.op === OWN_DETACH) {
      this.detachLost(body, writer);
      return;
    }
    this.command.reset().raw(body.bytes, body.position, body.end);
    const command = body.u8();
    const outcome = this.mutate(writer);
    if (command === INBOX_COMMAND.EXPIRE) this.settlements.noteAll(outcome, ASK.ANY);
    else if (command === INBOX_COMMAND.DETACH_ALL) this.settlements.noteAll(outcome, ASK.LATER);
    else if (command === INBOX_COMMAND.ROUTES_DONE) this.settlements.done(body.text(), body.text());
  }

  private detachLost(body: ByteReader, writer: KvWriter): void {
    const nowMs = body.u53();
    for (let left = body.u32(); left > 0; left--) {
      const owner = this.owners.get(body.u53());
      const connection = body.u32();
      // It may have been attached from elsewhere since.
      if (owner === undefined || owner.connection !== connection) continue;
      this.command.reset().u8(INBOX_COMMAND.DETACH).text(owner.tenant).u53(owner.instance).u32(connection);
      this.command.u32(owner.expirySeconds).u53(nowMs).u8(0).u53(owner.turnTail);
      this.detached(owner, this.mutate(writer), nowMs, ASK.LATER);
    }
  }

  /** Detaches what a crash left attached, before any other request; `tellRoutes`: dist has lost those of all. */
  start(nowMs: number, tellRoutes = false): void {
    this.nowMs = nowMs;
    this.command.reset().u8(INBOX_COMMAND.DETACH_ALL).u53(nowMs);
    this.host.enqueue(OWN_COMMAND, this.command.u8(Number(tellRoutes)).copy());
  }

  /** Whether dist is known to have the routes of all sessions that nobody is attached to. */
  get routesSettled(): boolean {
    return this.settlements.none;
  }

  answered(peer: number, callId: number, body: ByteReader, out: FrameBatch): boolean {
    return this.announcements.answered(peer, callId, body.u8(), out);
  }

  tick(nowMs: number, reader: KvReader, out: FrameBatch): void {
    this.nowMs = nowMs;
    const due: DueEntry[] = [];
    this.coprocessor.sessions.expiry.due(reader, nowMs, TENANTS_PER_TICK, EXPIRED_PER_TICK, due);
    for (let i = 0; i < due.length; i += EXPIRED_PER_COMMAND) {
      const share = due.slice(i, i + EXPIRED_PER_COMMAND);
      this.command.reset().u8(INBOX_COMMAND.EXPIRE).u53(nowMs).u32(share.length);
      for (const { tenant, key } of share) this.command.text(tenant).blob(key);
      this.host.enqueue(OWN_COMMAND, this.command.copy());
    }
    due.length = 0;
    this.coprocessor.sessions.garbage.due(reader, nowMs, TENANTS_PER_TICK, COLLECTED_PER_TICK, due);
    for (const { tenant, key } of due)
      this.host.enqueue(
        OWN_COMMAND,
        this.command.reset().u8(INBOX_COMMAND.COLLECT).text(tenant).blob(key).copy(),
      );
    this.wills.announce(nowMs, reader, out);
    this.settlements.tick(reader, out);
  }

  peerLost(peer: number, nowMs: number): void {
    this.announcements.peerLost(peer);
    this.settlements.peerLost(peer);
    const lost = [...this.owners.values()].filter(owner => owner.peer === peer);
    if (lost.length === 0) return;
    this.command.reset().u53(nowMs).u32(lost.length);
    for (const { instance, connection } of lost) this.command.u53(instance).u32(connection);
    this.host.enqueue(OWN_DETACH, this.command.copy());
  }
}

/** Source instance, source packet id and time of an INBOX_INSERT. */
const INSERT_FIXED_BYTES = 8 + 2 + 8;
const PUMP_MESSAGES_MAX = 256;
const PUMP_BYTES_MAX = 256 * 1024;
const TENANTS_PER_TICK = 512;
const EXPIRED_PER_TICK = 1000;
const EXPIRED_PER_COMMAND = 20;
const COLLECTED_PER_TICK = 200;

const COMMAND_OF: Readonly<Record<number, number>> = {
  [OP.INBOX_SUBSCRIBE]: INBOX_COMMAND.SUBSCRIBE,
  [OP.INBOX_UNSUBSCRIBE]: INBOX_COMMAND.UNSUBSCRIBE,
  [OP.INBOX_ACKED]: INBOX_COMMAND.ACKED,
  [OP.INBOX_RECEIVED]: INBOX_COMMAND.RECEIVED,
  [OP.INBOX_RELEASED]: INBOX_COMMAND.RELEASED,
  [OP.INBOX_SETTLED]: INBOX_COMMAND.SETTLED,
};
