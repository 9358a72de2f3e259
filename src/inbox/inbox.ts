import { assert } from '../base/assert.js';
import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { ByteReader as Reader, ByteWriter as Writer } from '../base/bytes.js';
import { STATUS } from '../contract/contract.js';
import { INSERT_RESULT, readSubscription, type Subscription, writeSubscription } from '../contract/inbox.js';
import { Message, readMessage } from '../contract/message.js';
import { DueIndex } from '../kv/due-index.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import { copyOf, localKey, ordered53, prefixEnd, rawText, readOrdered53, SERVICE, utf8 } from '../kv/keys.js';
import type { Boundary, Coprocessor } from '../kv/range.js';
import { DATA, InboxKeys, KIND } from './inbox-keys.js';
import { Session } from './session.js';
import { SessionCache } from './session-cache.js';

/**
 * Room `inbox`: persistent sessions, what they subscribe to, and what waits for them. contract/inbox.ts says what
 * each request means; the coprocessor here is the replicated half, `service.ts` the half that knows connections.
 *
 * Entries, all behind `i tenant 0`:
 *   s client id              → Session (session.ts)
 *   n instance               → client id
 *   d instance f filter      → u8 options, u32 subscription id
 *   d instance q seq         → u8 QoS, u8 flags, u8 s, s × u32 subscription ids, Message: waiting or in flight
 *   d instance o seq         → nothing: PUBREC came, PUBREL is owed
 *   d instance r packet id   → nothing: QoS 2 publish received, PUBREL not yet
 *   w instance               → text client id, Message: the will
 *   v due instance           → nothing: when the will is due
 *   x due instance           → client id: when the session expires
 *   e 0 client id            → u53 instance: expired, its routes not yet removed
 *   g 0 instance             → nothing: entries under `d instance` still to be deleted
 * and `L i range 0x6e` → u53, the number of the last instance made here.
 *
 * Invariants
 * - An instance number is used once, ever: range id × 2^36 + counter, the counter in the same transaction.
 * - Sequence numbers of an instance rise by one per message queued and are never given twice, though the queue empties.
 * - `queueMessages` and `queueBytes` are the count and value bytes of the `q` entries.
 * - A session that is detached and may expire has exactly one `x` entry, at `Session.dueMs`. A will that waits
 *   has exactly one `v` entry, at `Session.willDueMs`; both outlive the session until the will is published.
 * - The same commands leave the same entries: what the cache holds back is written by `finish` before each commit.
 *
 * Commands (u8 first, then the request's body with the tenant before it where the request has none; outcome in
 * brackets): ATTACH [u53 instance, u53 nextSeq, reply]; DETACH [reply, u8 a will is due now]; SUBSCRIBE, UNSUBSCRIBE,
 * RECEIVED, RELEASED [reply]; INSERT [reply, n × (u53 instance, u53 seq), 0 where nothing was queued]; ACKED [nothing];
 * EXPIRE u53 nowMs, u32 n, n × (tenant, blob `x` key); ENDED_DONE, WILL_DONE tenant, blob key;
 * COLLECT tenant, blob `g` key; DETACH_ALL u53 nowMs [nothing].
 *
 * Limits: queueMessagesMax, queueBytesMax per session with queueDropPolicy; deletions of an ended session are done
 * `COLLECT_MAX` entries at a time. One message for many targets is stored once per target: at the sizes that are
 * common (below 200 bytes) a reference would cost as much as the copy, and removal would need counting.
 *
 * Difference from BifroMQ: there QoS 0 has an inbox queue too and a fetch is by hint; here live QoS 0 never
 * touches the store, and packet ids follow from sequence numbers.
 */
export const INBOX_COMMAND = {
  ATTACH: 1,
  DETACH: 2,
  SUBSCRIBE: 3,
  UNSUBSCRIBE: 4,
  INSERT: 5,
  ACKED: 6,
  RECEIVED: 7,
  RELEASED: 8,
  EXPIRE: 9,
  ENDED_DONE: 10,
  WILL_DONE: 11,
  COLLECT: 12,
  DETACH_ALL: 13,
} as const;

export interface InboxLimits {
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queueDropPolicy: 'newest' | 'oldest';
}

/** Entries of an ended session deleted in one command. */
export const COLLECT_MAX = 64;
/** After a crash of the store alone, owners have this long to attach again before wills without delay are due. */
export const REATTACH_GRACE_MS = 3000;

const INSTANCES_PER_RANGE = 2 ** 36;
const KIND_INSTANCE_COUNTER = 0x6e;

export class InboxCoprocessor implements Coprocessor {
  private readonly rangeId: number;
  private readonly limits: InboxLimits;
  readonly keys = new InboxKeys();
  readonly cache = new SessionCache();
  readonly expiry = new DueIndex(SERVICE.INBOX, KIND.EXPIRY);
  readonly ended = new DueIndex(SERVICE.INBOX, KIND.ENDED);
  readonly wills = new DueIndex(SERVICE.INBOX, KIND.WILL_DUE);
  readonly garbage = new DueIndex(SERVICE.INBOX, KIND.GARBAGE);
  private readonly value = new Writer(1024);
  private readonly reader = new Reader();
  private readonly message = new Message();
  private readonly seqs: number[] = [];
  private readonly instances: number[] = [];
  private lastInstance = 0;
  private instanceDirty = false;

  constructor(rangeId: number, limits: InboxLimits) {
    this.rangeId = rangeId;
    this.limits = limits;
  }

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    switch (input.u8()) {
      case INBOX_COMMAND.INSERT:
        this.insert(input, writer, output);
        return;
      case INBOX_COMMAND.ACKED:
        this.acked(input, writer);
        return;
      case INBOX_COMMAND.RECEIVED:
        this.received(input, writer, output);
        return;
      case INBOX_COMMAND.RELEASED:
        this.released(input, writer, output);
        return;
      case INBOX_COMMAND.ATTACH:
        this.attach(input, writer, output);
        return;
      case INBOX_COMMAND.DETACH:
        this.detach(input, writer, output);
        return;
      case INBOX_COMMAND.SUBSCRIBE:
        this.subscribe(input, writer, output);
        return;
      case INBOX_COMMAND.UNSUBSCRIBE:
        this.unsubscribe(input, writer, output);
        return;
      case INBOX_COMMAND.EXPIRE:
        this.expire(input, writer);
        return;
      case INBOX_COMMAND.ENDED_DONE:
        this.endedDone(input, writer);
        return;
      case INBOX_COMMAND.WILL_DONE:
        this.willDone(input, writer);
        return;
      case INBOX_COMMAND.COLLECT:
        this.collectEntry(input, writer);
        return;
      case INBOX_COMMAND.DETACH_ALL:
        this.detachAll(input, writer);
        return;
      default:
        assert(false, 'an inbox command is one of INBOX_COMMAND');
    }
  }

  // -- Connections -------------------------------------------------------------------------------------------

  private attach(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const tenant = input.text();
    const clientId = input.text();
    const cleanStart = input.u8() === 1;
    const expirySeconds = input.u32();
    const nowMs = input.u53();
    input.u16();
    input.u32();
    const hasWill = input.u8() === 1;
    let session = this.load(tenant, clientId, writer);
    const former: Subscription[] = [];
    if (session !== undefined && (cleanStart || session.isExpired(nowMs))) {
      former.push(...this.subscriptions(session, writer));
      this.end(session, nowMs, writer);
      session = undefined;
    }
    this.adoptEnded(tenant, clientId, former, writer);
    const present = session !== undefined;
    if (session === undefined && expirySeconds === 0) {
      output.u53(0).u53(0).u8(STATUS.OK).u53(0).u8(0).u32(0);
      writeSubscriptions(output, former);
      output.u32(0).u53(1).u53(0).u32(0);
      return;
    }
    if (session === undefined) session = this.create(tenant, clientId, writer);
    else this.resume(session, writer);
    session.attached = true;
    session.expirySeconds = expirySeconds;
    session.hasWill = hasWill;
    if (hasWill) this.storeWill(session, input, writer);
    this.touch(session);
    output.u53(session.instance).u53(session.nextSeq);
    this.attachReply(session, present, former, writer, output);
  }

  private attachReply(
    session: Session,
    present: boolean,
    former: Subscription[],
    reader: KvReader,
    output: ByteWriter,
  ): void {
    output
      .u8(STATUS.OK)
      .u53(session.instance)
      .u8(present ? 1 : 0);
    writeSubscriptions(output, present ? this.subscriptions(session, reader) : []);
    writeSubscriptions(output, former);
    const { tenant, instance } = session;
    let at = output.length;
    output.u32(0);
    let count = 0;
    const received = this.keys.data(tenant, instance).u8(DATA.RECEIVED).copy();
    if (present)
      reader.scan(received, prefixEnd(received), key => {
        output.u16((key[key.length - 2]! << 8) | key[key.length - 1]!);
        count++;
        return true;
      });
    output.bytes.writeUInt32LE(count, at);
    output.u53(session.nextSeq).u53(session.sentSeq);
    at = output.length;
    output.u32(0);
    count = 0;
    const owed = this.keys.data(tenant, instance).u8(DATA.OWED).copy();
    if (present)
      reader.scan(owed, prefixEnd(owed), key => {
        output.u53(readOrdered53(key, owed.length));
        count++;
        return true;
      });
    output.bytes.writeUInt32LE(count, at);
  }

  private create(tenant: string, clientId: string, writer: KvWriter): Session {
    const session = new Session(tenant, clientId);
    this.lastInstance += 1;
    this.instanceDirty = true;
    assert(this.lastInstance < INSTANCES_PER_RANGE, 'instance numbers last for ever');
    session.instance = this.rangeId * INSTANCES_PER_RANGE + this.lastInstance;
    writer.put(
      this.keys.ofInstance(tenant, KIND.INSTANCE, session.instance),
      rawText(this.value.reset(), clientId).view(),
    );
    this.cache.add(session);
    return session;
  }

  /** Takes a session that was left: it neither expires nor dies now. */
  private resume(session: Session, writer: KvWriter): void {
    if (session.attached) session.sentSeq = session.nextSeq - 1;
    this.unschedule(session, writer);
    this.discardWill(session, writer);
  }

  private storeWill(session: Session, input: ByteReader, writer: KvWriter): void {
    session.willDelaySeconds = input.u32();
    this.value.reset().text(session.clientId).raw(input.bytes, input.position, input.end);
    writer.put(this.keys.ofInstance(session.tenant, KIND.WILL, session.instance), this.value.view());
  }

  private detach(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.named(input, writer);
    input.u32();
    const expirySeconds = input.u32();
    const nowMs = input.u53();
    const discard = input.u8() === 1;
    const sentSeq = input.u53();
    if (session === undefined) {
      output.u8(STATUS.GONE).u32(0).u8(0);
      return;
    }
    session.sentSeq = Math.min(Math.max(session.sentSeq, sentSeq), session.nextSeq - 1);
    if (discard) this.discardWill(session, writer);
    const ends = expirySeconds === 0;
    const subscriptions = ends ? this.subscriptions(session, writer) : [];
    const willSoon = session.hasWill && (ends || session.willDelaySeconds === 0);
    if (ends) this.end(session, nowMs, writer);
    else this.leave(session, expirySeconds, nowMs, nowMs, writer);
    output.u8(STATUS.OK);
    writeSubscriptions(output, subscriptions);
    output.u8(willSoon ? 1 : 0);
  }

  private leave(
    session: Session,
    expirySeconds: number,
    nowMs: number,
    earliestWillMs: number,
    writer: KvWriter,
  ): void {
    session.attached = false;
    session.expirySeconds = expirySeconds;
    session.detachedAtMs = nowMs;
    const { dueMs } = session;
    if (dueMs >= 0)
      writer.put(
        ordered53(this.expiry.entry(session.tenant, dueMs), session.instance).view(),
        rawText(this.value.reset(), session.clientId).view(),
      );
    if (session.hasWill) {
      const delayMs = Math.min(session.willDelaySeconds, expirySeconds) * 1000;
      this.scheduleWill(session, Math.max(nowMs + delayMs, earliestWillMs), writer);
    }
    this.touch(session);
  }

  private scheduleWill(session: Session, dueMs: number, writer: KvWriter): void {
    session.willDueMs = dueMs;
    writer.put(ordered53(this.wills.entry(session.tenant, dueMs), session.instance).view(), NOTHING);
  }

  private unschedule(session: Session, writer: KvWriter): void {
    const { dueMs } = session;
    if (dueMs >= 0)
      writer.remove(ordered53(this.expiry.entry(session.tenant, dueMs), session.instance).view());
  }

  private unscheduleWill(session: Session, writer: KvWriter): void {
    if (session.willDueMs === 0) return;
    writer.remove(ordered53(this.wills.entry(session.tenant, session.willDueMs), session.instance).view());
    session.willDueMs = 0;
  }

  private discardWill(session: Session, writer: KvWriter): void {
    if (!session.hasWill) return;
    this.unscheduleWill(session, writer);
    writer.remove(this.keys.ofInstance(session.tenant, KIND.WILL, session.instance));
    session.hasWill = false;
  }

  /** Ends a session. A will that it still has is due now: the session's end comes before the rest of the delay. */
  private end(session: Session, nowMs: number, writer: KvWriter): void {
    const { tenant, instance } = session;
    this.unschedule(session, writer);
    if (session.hasWill) {
      this.unscheduleWill(session, writer);
      this.scheduleWill(session, nowMs, writer);
    }
    writer.remove(this.keys.session(tenant, session.clientId));
    writer.remove(this.keys.ofInstance(tenant, KIND.INSTANCE, instance));
    this.cache.drop(session);
    this.collectOrPostpone(tenant, instance, writer);
  }

  /** Takes over from a session that expired and whose routes nobody has removed yet. */
  private adoptEnded(tenant: string, clientId: string, former: Subscription[], writer: KvWriter): void {
    const ended = writer.get(this.endedKey(tenant, clientId));
    if (ended === undefined) return;
    const instance = this.reader.over(ended).u53();
    former.push(...this.subscriptions({ tenant, instance }, writer));
    writer.remove(this.endedKey(tenant, clientId));
    this.collectOrPostpone(tenant, instance, writer);
  }

  private endedKey(tenant: string, clientId: string): Uint8Array {
    return rawText(this.ended.entry(tenant, 0), clientId).view();
  }

  private collectOrPostpone(tenant: string, instance: number, writer: KvWriter): void {
    if (!this.collect(tenant, instance, writer))
      writer.put(ordered53(this.garbage.entry(tenant, 0), instance).view(), NOTHING);
  }

  /** Deletes entries of an ended session; true when none is left. */
  private collect(tenant: string, instance: number, writer: KvWriter): boolean {
    const prefix = this.keys.data(tenant, instance).copy();
    const found: Uint8Array[] = [];
    // The last byte of an instance may be 0xff, so the end is the next instance and not the next byte.
    const end = this.keys.data(tenant, instance + 1).copy();
    writer.scan(prefix, end, key => {
      found.push(copyOf(key));
      return found.length < COLLECT_MAX;
    });
    for (const key of found) writer.remove(key);
    return found.length < COLLECT_MAX;
  }

  private collectEntry(input: ByteReader, writer: KvWriter): void {
    const tenant = input.text();
    const key = copyOf(input.blob());
    if (this.collect(tenant, readOrdered53(key, key.length - 7), writer)) writer.remove(key);
  }

  // -- Subscriptions -----------------------------------------------------------------------------------------

  private subscribe(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.named(input, writer);
    if (session === undefined) {
      output.u8(STATUS.GONE).u32(0);
      return;
    }
    const count = input.u32();
    output.u8(STATUS.OK).u32(count);
    for (let i = 0; i < count; i++) {
      const { filter, options, subscriptionId } = readSubscription(input);
      const key = this.keys.filter(session.tenant, session.instance, filter);
      output.u8(writer.get(key) === undefined ? 0 : 1);
      writer.put(key, this.value.reset().u8(options).u32(subscriptionId).view());
    }
  }

  private unsubscribe(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.named(input, writer);
    if (session === undefined) {
      output.u8(STATUS.GONE).u32(0);
      return;
    }
    const count = input.u32();
    output.u8(STATUS.OK).u32(count);
    for (let i = 0; i < count; i++) {
      const key = this.keys.filter(session.tenant, session.instance, input.text());
      const existed = writer.get(key) !== undefined;
      output.u8(existed ? 1 : 0);
      if (existed) writer.remove(key);
    }
  }

  /** All subscriptions of a session. */
  subscriptions(session: { tenant: string; instance: number }, reader: KvReader): Subscription[] {
    const prefix = this.keys.data(session.tenant, session.instance).u8(DATA.FILTER).copy();
    const out: Subscription[] = [];
    reader.scan(prefix, prefixEnd(prefix), (key, value) => {
      const view = this.reader.over(value);
      out.push({ filter: utf8(key, prefix.length), options: view.u8(), subscriptionId: view.u32() });
      return true;
    });
    return out;
  }

  // -- Messages ----------------------------------------------------------------------------------------------

  private insert(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const tenant = input.text();
    const source = input.u53();
    const packetId = input.u16();
    input.u53();
    const messageAt = input.position;
    readMessage(input, this.message);
    const messageEnd = input.position;
    const count = input.u32();
    let duplicate = false;
    if (source !== 0) {
      if (this.byInstance(tenant, source, writer) === undefined) {
        output.u8(STATUS.GONE).u32(0);
        return;
      }
      const mark = this.keys.received(tenant, source, packetId);
      duplicate = writer.get(mark) !== undefined;
      if (!duplicate) writer.put(mark, NOTHING);
    }
    output.u8(STATUS.OK).u32(count);
    this.seqs.length = 0;
    this.instances.length = 0;
    for (let i = 0; i < count; i++) {
      const session = duplicate ? undefined : this.load(tenant, input.text(), writer);
      if (duplicate) {
        output.u8(INSERT_RESULT.DUPLICATE);
        this.nothingQueued();
        continue;
      }
      const targetAt = input.position;
      input.position += 2;
      const ids = input.u8();
      input.position += ids * 4;
      this.value.reset().raw(input.bytes, targetAt, input.position).raw(input.bytes, messageAt, messageEnd);
      output.u8(this.enqueue(session, writer));
    }
    for (let i = 0; i < count; i++) output.u53(this.instances[i]!).u53(this.seqs[i]!);
  }

  private nothingQueued(): void {
    this.instances.push(0);
    this.seqs.push(0);
  }

  /** Queues `this.value` for `session`. */
  private enqueue(session: Session | undefined, writer: KvWriter): number {
    if (session === undefined) {
      this.nothingQueued();
      return INSERT_RESULT.GONE;
    }
    const { queueMessagesMax, queueBytesMax, queueDropPolicy } = this.limits;
    const bytes = this.value.length;
    let result: number = INSERT_RESULT.QUEUED;
    while (session.queueMessages >= queueMessagesMax || session.queueBytes + bytes > queueBytesMax) {
      if (queueDropPolicy === 'newest' || bytes > queueBytesMax || !this.dropOldest(session, writer)) {
        this.nothingQueued();
        return INSERT_RESULT.DROPPED_NEWEST;
      }
      result = INSERT_RESULT.DROPPED_OLDEST;
    }
    const seq = session.nextSeq++;
    session.queueMessages++;
    session.queueBytes += bytes;
    this.touch(session);
    writer.put(this.keys.seq(session.tenant, session.instance, DATA.QUEUED, seq), this.value.view());
    this.instances.push(session.instance);
    this.seqs.push(seq);
    return result;
  }

  private dropOldest(session: Session, writer: KvWriter): boolean {
    const prefix = this.keys.data(session.tenant, session.instance).u8(DATA.QUEUED).copy();
    let oldest = -1;
    writer.scan(prefix, prefixEnd(prefix), key => {
      oldest = readOrdered53(key, prefix.length);
      return false;
    });
    return oldest >= 0 && this.unqueue(session, oldest, writer);
  }

  /** Removes a message from the queue; false if it is not there. */
  private unqueue(session: Session, seq: number, writer: KvWriter): boolean {
    const key = this.keys.seq(session.tenant, session.instance, DATA.QUEUED, seq);
    const value = writer.get(key);
    if (value === undefined) return false;
    session.queueMessages--;
    session.queueBytes -= value.length;
    assert(session.queueMessages >= 0 && session.queueBytes >= 0, 'what leaves a queue was counted in');
    this.touch(session);
    writer.remove(key);
    return true;
  }

  private acked(input: ByteReader, writer: KvWriter): void {
    const session = this.named(input, writer);
    if (session === undefined) return;
    for (let left = input.u32(); left > 0; left--) {
      const seq = input.u53();
      if (!this.unqueue(session, seq, writer))
        writer.remove(this.keys.seq(session.tenant, session.instance, DATA.OWED, seq));
    }
  }

  private received(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.named(input, writer);
    output.u8(session === undefined ? STATUS.GONE : STATUS.OK);
    if (session === undefined) return;
    for (let left = input.u32(); left > 0; left--) {
      const seq = input.u53();
      this.unqueue(session, seq, writer);
      if (seq < session.nextSeq)
        writer.put(this.keys.seq(session.tenant, session.instance, DATA.OWED, seq), NOTHING);
    }
  }

  private released(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.named(input, writer);
    output.u8(session === undefined ? STATUS.GONE : STATUS.OK);
    if (session !== undefined)
      writer.remove(this.keys.received(session.tenant, session.instance, input.u16()));
  }

  // -- Time and crashes --------------------------------------------------------------------------------------

  private expire(input: ByteReader, writer: KvWriter): void {
    const nowMs = input.u53();
    for (let left = input.u32(); left > 0; left--) {
      const tenant = input.text();
      const key = copyOf(input.blob());
      const clientId = writer.get(key);
      if (clientId === undefined) continue;
      const session = this.load(tenant, utf8(clientId, 0), writer);
      const instance = readOrdered53(key, key.length - 7);
      if (session === undefined || session.instance !== instance || !session.isExpired(nowMs)) continue;
      // Its subscriptions stay until the routes that they made are gone; then ENDED_DONE removes the rest.
      this.unschedule(session, writer);
      if (session.hasWill) {
        this.unscheduleWill(session, writer);
        this.scheduleWill(session, nowMs, writer);
      }
      writer.remove(this.keys.session(tenant, session.clientId));
      writer.remove(this.keys.ofInstance(tenant, KIND.INSTANCE, instance));
      this.cache.drop(session);
      writer.put(this.endedKey(tenant, session.clientId), this.value.reset().u53(instance).view());
    }
  }

  private endedDone(input: ByteReader, writer: KvWriter): void {
    const tenant = input.text();
    const key = copyOf(input.blob());
    const ended = writer.get(key);
    if (ended === undefined) return;
    const instance = this.reader.over(ended).u53();
    writer.remove(key);
    this.collectOrPostpone(tenant, instance, writer);
  }

  private willDone(input: ByteReader, writer: KvWriter): void {
    const tenant = input.text();
    const key = copyOf(input.blob());
    if (writer.get(key) === undefined) return; // discarded by a new connection meanwhile
    writer.remove(key);
    const instance = readOrdered53(key, key.length - 7);
    writer.remove(this.keys.ofInstance(tenant, KIND.WILL, instance));
    const session = this.byInstance(tenant, instance, writer);
    if (session === undefined) return;
    session.hasWill = false;
    session.willDueMs = 0;
    this.touch(session);
  }

  private detachAll(input: ByteReader, writer: KvWriter): void {
    const nowMs = input.u53();
    const attached: Session[] = [];
    const start = Uint8Array.of(SERVICE.INBOX);
    writer.scan(start, Uint8Array.of(SERVICE.INBOX + 1), (key, value) => {
      const session = sessionOf(key, value, this.reader);
      if (session?.attached) attached.push(session);
      return true;
    });
    for (const { tenant, clientId } of attached) {
      const session = this.load(tenant, clientId, writer)!;
      session.sentSeq = session.nextSeq - 1;
      this.leave(session, session.expirySeconds, nowMs, nowMs + REATTACH_GRACE_MS, writer);
    }
  }

  // -- The coprocessor's own ---------------------------------------------------------------------------------

  query(_input: ByteReader, _reader: KvReader, _output: ByteWriter): void {
    assert(false, 'an inbox is asked through its service, which reads entries itself');
  }

  finish(writer: KvWriter): void {
    for (const session of this.cache.dirty) {
      session.dirty = false;
      if (this.cache.isDropped(session)) continue;
      this.value.reset();
      session.write(this.value);
      writer.put(this.keys.session(session.tenant, session.clientId), this.value.view());
    }
    this.cache.dirty.length = 0;
    this.cache.trim();
    if (!this.instanceDirty) return;
    this.instanceDirty = false;
    const key = localKey(new Writer(16), SERVICE.INBOX, this.rangeId, KIND_INSTANCE_COUNTER).view();
    writer.put(key, this.value.reset().u53(this.lastInstance).view());
  }

  reset(_boundary: Boundary, reader: KvReader): void {
    this.cache.clear();
    this.instanceDirty = false;
    const key = localKey(new Writer(16), SERVICE.INBOX, this.rangeId, KIND_INSTANCE_COUNTER).view();
    const counter = reader.get(key);
    this.lastInstance = counter === undefined ? 0 : this.reader.over(counter).u53();
  }

  private touch(session: Session): void {
    if (session.dirty) return;
    session.dirty = true;
    this.cache.dirty.push(session);
  }

  private load(tenant: string, clientId: string, reader: KvReader): Session | undefined {
    const cached = this.cache.find(tenant, clientId);
    if (cached !== undefined) return cached;
    const value = reader.get(this.keys.session(tenant, clientId));
    if (value === undefined) return undefined;
    const session = new Session(tenant, clientId).read(this.reader.over(value));
    this.cache.add(session);
    return session;
  }

  /** The session of an instance that is still alive. */
  byInstance(tenant: string, instance: number, reader: KvReader): Session | undefined {
    const cached = this.cache.findInstance(instance);
    if (cached !== undefined) return cached;
    const clientId = reader.get(this.keys.ofInstance(tenant, KIND.INSTANCE, instance));
    if (clientId === undefined) return undefined;
    return this.load(tenant, utf8(clientId, 0), reader);
  }

  private named(input: ByteReader, reader: KvReader): Session | undefined {
    const tenant = input.text();
    return this.byInstance(tenant, input.u53(), reader);
  }
}

const NOTHING = new Uint8Array(0);

function writeSubscriptions(writer: ByteWriter, subscriptions: readonly Subscription[]): void {
  writer.u32(subscriptions.length);
  for (const subscription of subscriptions) writeSubscription(writer, subscription);
}

/** The session in an entry; undefined if the entry is of another kind. */
function sessionOf(key: Uint8Array, value: Uint8Array, reader: ByteReader): Session | undefined {
  const kindAt = key.indexOf(0) + 1;
  if (key[kindAt] !== KIND.SESSION) return undefined;
  return new Session(utf8(key, 1, kindAt - 1), utf8(key, kindAt + 1)).read(reader.over(value));
}
