import { assert } from '../base/assert.js';
import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { STATUS } from '../contract/contract.js';
import { readSubscription } from '../contract/inbox.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import { type Boundary, type Coprocessor, type Division, NO_HINTS, type RangeHints } from '../kv/range.js';
import { type InboxLimits, Queue } from './queue.js';
import type { Session } from './session.js';
import { SessionLife } from './session-life.js';
import { Sessions } from './sessions.js';

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
 *   e 0 client id            → u53 instance: ended, its routes not yet removed; its `f` entries say which
 *   c instance number        → u32 n, n × text filter: subscribed or unsubscribed, routes not yet known to follow
 *   g 0 instance             → nothing: entries under `d instance` still to be deleted
 * and `L i range 0x6e` → the instance numbers that the range may still give out (instance-numbers.ts).
 *
 * Invariants
 * - An instance number is used once, ever, by one range of all: what is left of them is stored in the same transaction.
 * - Sequence numbers of an instance rise by one per message queued and are never given twice, though the queue empties.
 * - `queueMessages` and `queueBytes` are the count and value bytes of the `q` entries.
 * - A session that is detached and may expire has exactly one `x` entry, at `Session.dueMs`. A will that waits
 *   has exactly one `v` entry, at `Session.willDueMs`; both outlive the session until the will is published.
 * - The routes that dist has of a session are its subscriptions, but for the filters of its `c` entries; those of a
 *   session that ended are among the `f` entries that it left, under an `e` entry. Both kinds are written in the
 *   transaction that makes them true, before dist is told, and go when dist has confirmed (settlements.ts).
 * - The same commands leave the same entries: what the cache holds back is written by `finish` before each commit.
 *
 * Commands (u8 first, then the request's body with the tenant before it where the request has none; outcome in
 * brackets): ATTACH [u8 0, u53 instance, u53 nextSeq, reply; or u8 1, u53 instance: not now, its routes are in doubt];
 * DETACH [reply, u8 a will is due now, u8 its routes are in doubt]; SUBSCRIBE, UNSUBSCRIBE body, u32 number of the
 * change [reply]; RECEIVED, RELEASED [reply]; INSERT [reply, n × (u53 instance, u53 seq), 0 where nothing was queued];
 * ACKED, SETTLED [nothing]; EXPIRE u53 nowMs, u32 n, n × (tenant, blob `x` key) [in doubt]; DETACH_ALL u53 nowMs,
 * u8 the routes of all are in doubt [in doubt]; ROUTES_DONE tenant, client id, u53 instance; WILL_DONE tenant, blob `v`
 * key; COLLECT tenant, blob `g` key.
 * In doubt: u32 n, n × (tenant, client id, u53 instance).
 *
 * Limits: queueMessagesMax, queueBytesMax per session with queueDropPolicy; deletions of an ended session are done
 * `COLLECT_MAX` entries at a time. One message for many targets is stored once per target: at the sizes that are
 * common (below 200 bytes) a reference would cost as much as the copy, and removal would need counting.
 *
 * Division: between two tenants and nowhere else, as a session's entries lie in several places among those of its tenant.
 * Sessions keep their numbers, and each of the new ranges has its own for those to come. What is still missing is on the
 * service's side: owners, wills and settlements are one range's memory (service.ts), so who is attached is to be
 * attached again when its session's range is another. And a tenant with most of the bytes cannot be divided: that
 * wants keys that begin with the session.
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
  ROUTES_DONE: 10,
  WILL_DONE: 11,
  COLLECT: 12,
  DETACH_ALL: 13,
  SETTLED: 14,
} as const;

export class InboxCoprocessor implements Coprocessor {
  readonly sessions: Sessions;
  private readonly life: SessionLife;
  private readonly queue: Queue;

  constructor(rangeId: number, limits: InboxLimits) {
    this.sessions = new Sessions(rangeId);
    this.life = new SessionLife(this.sessions);
    this.queue = new Queue(this.sessions, limits);
  }

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    switch (input.u8()) {
      case INBOX_COMMAND.INSERT:
        this.queue.insert(input, writer, output);
        return;
      case INBOX_COMMAND.ACKED:
        this.queue.acked(input, writer);
        return;
      case INBOX_COMMAND.RECEIVED:
        this.queue.received(input, writer, output);
        return;
      case INBOX_COMMAND.RELEASED:
        this.queue.released(input, writer, output);
        return;
      case INBOX_COMMAND.ATTACH:
        this.life.attach(input, writer, output);
        return;
      case INBOX_COMMAND.DETACH:
        this.life.detach(input, writer, output);
        return;
      case INBOX_COMMAND.SUBSCRIBE:
        this.subscribe(input, writer, output);
        return;
      case INBOX_COMMAND.UNSUBSCRIBE:
        this.unsubscribe(input, writer, output);
        return;
      case INBOX_COMMAND.EXPIRE:
        this.life.expire(input, writer, output);
        return;
      case INBOX_COMMAND.ROUTES_DONE:
        this.life.routesDone(input, writer);
        return;
      case INBOX_COMMAND.SETTLED:
        this.life.settled(input, writer);
        return;
      case INBOX_COMMAND.WILL_DONE:
        this.life.willDone(input, writer);
        return;
      case INBOX_COMMAND.COLLECT:
        this.life.collectEntry(input, writer);
        return;
      case INBOX_COMMAND.DETACH_ALL:
        this.life.detachAll(input, writer, output);
        return;
      default:
        assert(false, 'an inbox command is one of INBOX_COMMAND');
    }
  }

  private subscribe(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.sessions.named(input, writer);
    if (session === undefined) {
      output.u8(STATUS.GONE).u32(0);
      return;
    }
    const count = input.u32();
    const changed: string[] = [];
    output.u8(STATUS.OK).u32(count);
    for (let i = 0; i < count; i++) {
      const { filter, options, subscriptionId } = readSubscription(input);
      const key = this.sessions.keys.filter(session.tenant, session.instance, filter);
      const former = writer.get(key);
      output.u8(former === undefined ? 0 : 1);
      if (former !== undefined) {
        const view = this.sessions.reader.over(former);
        if (view.u8() === options && view.u32() === subscriptionId) continue;
      }
      changed.push(filter);
      writer.put(key, this.sessions.value.reset().u8(options).u32(subscriptionId).view());
    }
    output.u32(this.recordChange(session, input.u32(), changed, writer));
  }

  /** Until SETTLED the routes of `filters` are in doubt. Gives the change's number; 0 where nothing changed. */
  private recordChange(
    session: Session,
    number: number,
    filters: readonly string[],
    writer: KvWriter,
  ): number {
    if (filters.length === 0) return 0;
    const value = this.sessions.value.reset().u32(filters.length);
    for (const filter of filters) value.text(filter);
    writer.put(this.sessions.keys.change(session.tenant, session.instance, number), value.view());
    return number;
  }

  private unsubscribe(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.sessions.named(input, writer);
    if (session === undefined) {
      output.u8(STATUS.GONE).u32(0);
      return;
    }
    const count = input.u32();
    const changed: string[] = [];
    output.u8(STATUS.OK).u32(count);
    for (let i = 0; i < count; i++) {
      const filter = input.text();
      const key = this.sessions.keys.filter(session.tenant, session.instance, filter);
      const existed = writer.get(key) !== undefined;
      output.u8(existed ? 1 : 0);
      if (!existed) continue;
      writer.remove(key);
      changed.push(filter);
    }
    output.u32(this.recordChange(session, input.u32(), changed, writer));
  }

  query(_input: ByteReader, _reader: KvReader, _output: ByteWriter): void {
    assert(false, 'an inbox is asked through its service, which reads entries itself');
  }

  finish(writer: KvWriter): void {
    this.sessions.finish(writer);
  }

  reset(boundary: Boundary, reader: KvReader): void {
    this.sessions.reset(boundary, reader);
  }

  divide({ child }: Division, writer: KvWriter): void {
    this.sessions.divide(child, writer);
  }

  absorb(_boundary: Boundary, absorbed: number, writer: KvWriter): void {
    this.sessions.absorb(absorbed, writer);
  }

  /** The bytes are estimated, and are those of sessions and queues. */
  hints(reader: KvReader): RangeHints {
    const hints = this.sessions.sample.hints(reader);
    return this.sessions.canDivide ? hints : { ...hints, splitKey: NO_HINTS.splitKey };
  }
}
