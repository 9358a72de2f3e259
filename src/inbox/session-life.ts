import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { STATUS } from '../contract/contract.js';
import { type Subscription, writeSubscription } from '../contract/inbox.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import { copyOf, kindAt, ordered53, prefixEnd, rawText, readOrdered53, utf8 } from '../kv/keys.js';
import { DATA, KIND } from './inbox-keys.js';
import { Session } from './session.js';
import type { Sessions } from './sessions.js';

/** Entries of an ended session deleted in one command. */
export const COLLECT_MAX = 64;
/** After a crash of the store alone, owners have this long to attach again before wills without delay are due. */
export const REATTACH_GRACE_MS = 3000;
/** In the place of a change's number; those of owners begin at 1. */
const ALL_ROUTES = 0;

/** How sessions begin, are left, and end; their wills. */
export class SessionLife {
  private readonly sessions: Sessions;

  constructor(sessions: Sessions) {
    this.sessions = sessions;
  }

  attach(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const tenant = input.text();
    const clientId = input.text();
    const cleanStart = input.u8() === 1;
    const expirySeconds = input.u32();
    const nowMs = input.u53();
    input.u16();
    input.u32();
    const hasWill = input.u8() === 1;
    let session = this.sessions.load(tenant, clientId, writer);
    let inDoubt = this.sessions.endedInstance(tenant, clientId, writer);
    if (session !== undefined && this.sessions.isUnsettled(session, writer)) inDoubt = session.instance;
    else if (session !== undefined && (cleanStart || session.isExpired(nowMs))) {
      if (this.end(session, nowMs, writer)) inDoubt = session.instance;
      session = undefined;
    }
    if (inDoubt !== 0) {
      output.u8(1).u53(inDoubt);
      return;
    }
    output.u8(0);
    const present = session !== undefined;
    if (session === undefined && expirySeconds === 0) {
      output.u53(0).u53(0).u8(STATUS.OK).u53(0).u8(0).u32(0);
      output.u32(0).u53(1).u53(0).u32(0);
      return;
    }
    if (session === undefined) session = this.sessions.create(tenant, clientId, writer);
    else this.resume(session, writer);
    session.attached = true;
    session.expirySeconds = expirySeconds;
    session.hasWill = hasWill;
    if (hasWill) this.storeWill(session, input, writer);
    this.sessions.touch(session);
    output.u53(session.instance).u53(session.nextSeq);
    this.attachReply(session, present, writer, output);
  }

  private attachReply(session: Session, present: boolean, reader: KvReader, output: ByteWriter): void {
    output
      .u8(STATUS.OK)
      .u53(session.instance)
      .u8(present ? 1 : 0);
    writeSubscriptions(output, present ? this.sessions.subscriptions(session, reader) : []);
    const { tenant, instance } = session;
    let at = output.length;
    output.u32(0);
    let count = 0;
    const received = this.sessions.keys.data(tenant, instance).u8(DATA.RECEIVED).copy();
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
    const owed = this.sessions.keys.data(tenant, instance).u8(DATA.OWED).copy();
    if (present)
      reader.scan(owed, prefixEnd(owed), key => {
        output.u53(readOrdered53(key, owed.length));
        count++;
        return true;
      });
    output.bytes.writeUInt32LE(count, at);
  }

  /** Takes a session that was left: it neither expires nor dies now. */
  private resume(session: Session, writer: KvWriter): void {
    if (session.attached) session.sentSeq = session.nextSeq - 1;
    this.unschedule(session, writer);
    this.discardWill(session, writer);
  }

  private storeWill(session: Session, input: ByteReader, writer: KvWriter): void {
    session.willDelaySeconds = input.u32();
    this.sessions.value.reset().text(session.clientId).raw(input.bytes, input.position, input.end);
    writer.put(
      this.sessions.keys.ofInstance(session.tenant, KIND.WILL, session.instance),
      this.sessions.value.view(),
    );
  }

  detach(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.sessions.named(input, writer);
    input.u32();
    const expirySeconds = input.u32();
    const nowMs = input.u53();
    const discard = input.u8() === 1;
    const sentSeq = input.u53();
    if (session === undefined) {
      output.u8(STATUS.GONE).u8(0).u8(0);
      return;
    }
    session.sentSeq = Math.min(Math.max(session.sentSeq, sentSeq), session.nextSeq - 1);
    if (discard) this.discardWill(session, writer);
    const ends = expirySeconds === 0;
    const willSoon = session.hasWill && (ends || session.willDelaySeconds === 0);
    let inDoubt = false;
    if (ends) inDoubt = this.end(session, nowMs, writer);
    else {
      this.leave(session, expirySeconds, nowMs, nowMs, writer);
      inDoubt = this.sessions.isUnsettled(session, writer);
    }
    output
      .u8(STATUS.OK)
      .u8(willSoon ? 1 : 0)
      .u8(inDoubt ? 1 : 0);
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
        ordered53(this.sessions.expiry.entry(session.tenant, dueMs), session.instance).view(),
        rawText(this.sessions.value.reset(), session.clientId).view(),
      );
    if (session.hasWill) {
      const delayMs = Math.min(session.willDelaySeconds, expirySeconds) * 1000;
      this.scheduleWill(session, Math.max(nowMs + delayMs, earliestWillMs), writer);
    }
    this.sessions.touch(session);
  }

  private scheduleWill(session: Session, dueMs: number, writer: KvWriter): void {
    session.willDueMs = dueMs;
    writer.put(ordered53(this.sessions.wills.entry(session.tenant, dueMs), session.instance).view(), NOTHING);
  }

  private unschedule(session: Session, writer: KvWriter): void {
    const { dueMs } = session;
    if (dueMs >= 0)
      writer.remove(ordered53(this.sessions.expiry.entry(session.tenant, dueMs), session.instance).view());
  }

  private unscheduleWill(session: Session, writer: KvWriter): void {
    if (session.willDueMs === 0) return;
    writer.remove(
      ordered53(this.sessions.wills.entry(session.tenant, session.willDueMs), session.instance).view(),
    );
    session.willDueMs = 0;
  }

  private discardWill(session: Session, writer: KvWriter): void {
    if (!session.hasWill) return;
    this.unscheduleWill(session, writer);
    writer.remove(this.sessions.keys.ofInstance(session.tenant, KIND.WILL, session.instance));
    session.hasWill = false;
  }

  /**
   * Ends a session. A will that it still has is due now: the session's end comes before the rest of the delay.
   * True when it may have routes: then its filters stay until ROUTES_DONE.
   */
  private end(session: Session, nowMs: number, writer: KvWriter): boolean {
    const { tenant, instance } = session;
    this.unschedule(session, writer);
    if (session.hasWill) {
      this.unscheduleWill(session, writer);
      this.scheduleWill(session, nowMs, writer);
    }
    writer.remove(this.sessions.keys.ofInstance(tenant, KIND.INSTANCE, instance));
    this.sessions.remove(session, writer);
    this.absorbChanges(session, writer);
    const mayHaveRoutes = this.sessions.hasSubscriptions(session, writer);
    if (mayHaveRoutes)
      writer.put(
        this.sessions.keys.ended(tenant, session.clientId),
        this.sessions.value.reset().u53(instance).view(),
      );
    else this.collectOrPostpone(tenant, instance, writer);
    return mayHaveRoutes;
  }

  /** Filters that have been unsubscribed, but may still have routes, count as subscribed in what ended. */
  private absorbChanges(session: Session, writer: KvWriter): void {
    const { tenant, instance } = session;
    for (const { key, filters } of this.sessions.changes(session, writer)) {
      for (const filter of filters) {
        const kept = this.sessions.keys.filter(tenant, instance, filter);
        if (writer.get(kept) === undefined) writer.put(kept, this.sessions.value.reset().u8(0).u32(0).view());
      }
      writer.remove(key);
    }
  }

  private collectOrPostpone(tenant: string, instance: number, writer: KvWriter): void {
    if (!this.collect(tenant, instance, writer))
      writer.put(ordered53(this.sessions.garbage.entry(tenant, 0), instance).view(), NOTHING);
  }

  /** Deletes entries of an ended session; true when none is left. */
  private collect(tenant: string, instance: number, writer: KvWriter): boolean {
    const prefix = this.sessions.keys.data(tenant, instance).copy();
    const found: Uint8Array[] = [];
    // The last byte of an instance may be 0xff, so the end is the next instance and not the next byte.
    const end = this.sessions.keys.data(tenant, instance + 1).copy();
    writer.scan(prefix, end, key => {
      found.push(copyOf(key));
      return found.length < COLLECT_MAX;
    });
    for (const key of found) writer.remove(key);
    return found.length < COLLECT_MAX;
  }

  collectEntry(input: ByteReader, writer: KvWriter): void {
    const tenant = input.text();
    const key = copyOf(input.blob());
    if (this.collect(tenant, readOrdered53(key, key.length - 7), writer)) writer.remove(key);
  }

  expire(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const nowMs = input.u53();
    const ended: Session[] = [];
    for (let left = input.u32(); left > 0; left--) {
      const tenant = input.text();
      const key = copyOf(input.blob());
      const clientId = writer.get(key);
      if (clientId === undefined) continue;
      const session = this.sessions.load(tenant, utf8(clientId, 0), writer);
      const instance = readOrdered53(key, key.length - 7);
      if (session === undefined || session.instance !== instance || !session.isExpired(nowMs)) continue;
      // While somebody is told its routes nobody else must be told otherwise: it ends when that is done.
      if (this.sessions.isUnsettled(session, writer)) continue;
      if (this.end(session, nowMs, writer)) ended.push(session);
    }
    writeNames(output, ended);
  }

  /** Dist has confirmed: the routes are those that the session has; none if it has ended. */
  routesDone(input: ByteReader, writer: KvWriter): void {
    const tenant = input.text();
    const clientId = input.text();
    const instance = input.u53();
    if (this.sessions.endedInstance(tenant, clientId, writer) === instance) {
      writer.remove(this.sessions.keys.ended(tenant, clientId));
      this.collectOrPostpone(tenant, instance, writer);
      return;
    }
    const session = this.sessions.byInstance(tenant, instance, writer);
    if (session === undefined || session.attached) return;
    for (const { key } of this.sessions.changes(session, writer)) writer.remove(key);
  }

  /** The owner says of one change that its routes are in effect. */
  settled(input: ByteReader, writer: KvWriter): void {
    const session = this.sessions.named(input, writer);
    if (session !== undefined)
      writer.remove(this.sessions.keys.change(session.tenant, session.instance, input.u32()));
  }

  willDone(input: ByteReader, writer: KvWriter): void {
    const tenant = input.text();
    const key = copyOf(input.blob());
    if (writer.get(key) === undefined) return; // discarded by a new connection meanwhile
    writer.remove(key);
    const instance = readOrdered53(key, key.length - 7);
    writer.remove(this.sessions.keys.ofInstance(tenant, KIND.WILL, instance));
    const session = this.sessions.byInstance(tenant, instance, writer);
    if (session === undefined) return;
    session.hasWill = false;
    session.willDueMs = 0;
    this.sessions.touch(session);
  }

  /** Dist has lost all routes: every session is to tell its own again. */
  private doubtAll(writer: KvWriter): void {
    const sessions: Session[] = [];
    const { start, end } = this.sessions.boundary;
    writer.scan(start, end, (key, value) => {
      const at = kindAt(key);
      if (key[at] !== KIND.SESSION) return true;
      const session = new Session(utf8(key, 1, at - 1), utf8(key, at + 1));
      sessions.push(session.read(this.sessions.reader.over(value)));
      return true;
    });
    for (const session of sessions) {
      const { tenant, instance } = session;
      const subscriptions = this.sessions.subscriptions(session, writer);
      if (subscriptions.length === 0) continue;
      const value = this.sessions.value.reset().u32(subscriptions.length);
      for (const { filter } of subscriptions) value.text(filter);
      writer.put(this.sessions.keys.change(tenant, instance, ALL_ROUTES), value.view());
    }
  }

  detachAll(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const nowMs = input.u53();
    if (input.u8() === 1) this.doubtAll(writer);
    const attached: Session[] = [];
    const inDoubt: Named[] = [];
    const unsettled = new Map<number, string>();
    const { start, end } = this.sessions.boundary;
    writer.scan(start, end, (key, value) => {
      const at = kindAt(key);
      const tenant = utf8(key, 1, at - 1);
      if (key[at] === KIND.CHANGE) unsettled.set(readOrdered53(key, at + 1), tenant);
      else if (key[at] === KIND.ENDED) {
        const instance = this.sessions.reader.over(value).u53();
        inDoubt.push({ tenant, clientId: utf8(key, at + 8), instance });
      } else if (key[at] === KIND.SESSION) {
        const session = new Session(tenant, utf8(key, at + 1)).read(this.sessions.reader.over(value));
        if (session.attached) attached.push(session);
      }
      return true;
    });
    for (const [instance, tenant] of unsettled) {
      const session = this.sessions.byInstance(tenant, instance, writer);
      if (session !== undefined) inDoubt.push(session);
    }
    writeNames(output, inDoubt);
    for (const { tenant, clientId } of attached) {
      const session = this.sessions.load(tenant, clientId, writer)!;
      session.sentSeq = session.nextSeq - 1;
      this.leave(session, session.expirySeconds, nowMs, nowMs + REATTACH_GRACE_MS, writer);
    }
  }
}

const NOTHING = new Uint8Array(0);

/** A session as a settlement names it. */
interface Named {
  readonly tenant: string;
  readonly clientId: string;
  readonly instance: number;
}

function writeNames(output: ByteWriter, sessions: readonly Named[]): void {
  output.u32(sessions.length);
  for (const { tenant, clientId, instance } of sessions) output.text(tenant).text(clientId).u53(instance);
}

function writeSubscriptions(writer: ByteWriter, subscriptions: readonly Subscription[]): void {
  writer.u32(subscriptions.length);
  for (const subscription of subscriptions) writeSubscription(writer, subscription);
}
