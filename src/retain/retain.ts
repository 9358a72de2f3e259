import { assert } from '../base/assert.js';
import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { ByteReader as Reader, ByteWriter as Writer } from '../base/bytes.js';
import type { Clock } from '../base/env.js';
import { STATUS } from '../contract/contract.js';
import { Message, readMessage, remainingSeconds } from '../contract/message.js';
import { DueIndex } from '../kv/due-index.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import { BY_TENANT, KeySample, type Reading } from '../kv/key-sample.js';
import { copyOf, kindAt, localKey, prefixEnd, SERVICE, tenantKey } from '../kv/keys.js';
import type { Boundary, Coprocessor, Division, RangeHints } from '../kv/range.js';
import { FilterWalk, topicKey } from './topic-key.js';

/**
 * Room `retain`: one retained message per tenant and topic.
 *
 * Entries: `r tenant 0 t topic` → Message (contract/message), levels of the topic parted by 0x00;
 *          `r tenant 0 x due topic` → nothing: when a message with an expiry is due;
 *          `L r range 0x63` → u53 messages, u53 bytes: what the range holds, written once per transaction.
 *
 * Commands (u8 first; outcome in brackets)
 *   SET     tenant, u53 nowMs, Message                       [u8 STATUS]
 *   EXPIRE  u32 n, n × (text tenant, blob key of the `x` entry)   [nothing]
 * Query
 *   SCAN    as RETAIN_SCAN                                   [its reply]
 *
 * A scan is a skip-scan: `FilterWalk` says where the next match can be, so `+/status` over a million topics
 * touches one entry per first level and not all that lies below. Near places are stepped to, far ones are sought.
 *
 * Limits: a scan visits at most `SCAN_VISITS_MAX` entries (a seek counts as `SEEK_VISITS`, a find as one more), works
 * for `SCAN_MS_MAX` at most (and for `LOOK_VISITS` more), and answers with at most what was asked for; it then gives a
 * cursor, and whoever asked asks again. 1,000 visits are 0.4 ms in memory (perf/micro/store.bench.ts) and about 2 ms on
 * LMDB with a million retained topics, whatever the filter. retainedMessagesMax and retainedBytesMax hold for the range:
 * a replacement that does not grow is always let in. Bytes are those of topic key and message.
 *
 * No Local has no say here: a subscription with it gets what its own client has retained. [MQTT-3.8.3-3] forbids to
 * forward to "the publishing connection"'s client id; what is retained is not forwarded from a connection but sent
 * because of the subscription (hence RETAIN 1; [MQTT-3.3.1-8] of 3.1.1), and [MQTT-3.3.1-9] has it sent always; who
 * does not want it says so by Retain Handling. Nor would a stored client id do: whoever has that id later never saw the
 * value. mosquitto 2.0 does the same. So no publisher is kept with a message.
 *
 * A range is divided between two tenants and nowhere else: the `x` entries of a tenant lie behind all of its topics, and an
 * EXPIRE changes both. (So a tenant with most of the bytes cannot be divided. That wants `x` entries that lie with
 * their topics, and a scan that goes on in the next range.) Each of the new ranges has the limits whole.
 * A division counts the upper half within its transaction, 2 µs an entry on LMDB: it is for when it is quiet.
 *
 * Difference from BifroMQ: it asks an index of filters per tenant; here the store's own order is the index.
 */
export const RETAIN_COMMAND = { SET: 1, EXPIRE: 2 } as const;

export interface RetainLimits {
  readonly messagesMax: number;
  readonly bytesMax: number;
}

const KIND_TOPIC = 0x74;
const KIND_DUE = 0x78;
const KIND_COUNTS = 0x63;

/** Work of one scan, in visited entries. */
const SCAN_VISITS_MAX = 1000;
/** Time of one scan, in milliseconds, looked at every so many visits: a record may be large, a page far. */
const SCAN_MS_MAX = 2;
const LOOK_VISITS = 16;
/** What a seek costs, in visited entries. */
const SEEK_VISITS = 4;
/** What a found message costs on top of its visit. */
const TAKE_VISITS = 1;
/** Entries stepped over before a seek is cheaper. */
const STEPS_MAX = 6;

/** What is due lies with its tenant, and is little. */
const TOPICS: Reading = {
  sizeOf: (key, value) => (key[kindAt(key)] === KIND_TOPIC ? key.length + value.length : -1),
};

export class RetainCoprocessor implements Coprocessor {
  private readonly rangeId: number;
  private readonly limits: RetainLimits;
  private readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly dueIndex = new DueIndex(SERVICE.RETAIN, KIND_DUE);
  private readonly sample = new KeySample([BY_TENANT], TOPICS);
  messages = 0;
  bytes = 0;
  private countsDirty = false;
  private readonly key = new Writer(256);
  private readonly value = new Writer(1024);
  private readonly reader = new Reader();
  private readonly message = new Message();

  /** `clock` is looked at by scans alone, which change nothing. */
  constructor(rangeId: number, limits: RetainLimits, clock: Pick<Clock, 'monotonicMs'>) {
    this.rangeId = rangeId;
    this.limits = limits;
    this.clock = clock;
  }

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    if (input.u8() === RETAIN_COMMAND.SET) {
      const tenant = input.text();
      input.u53();
      output.u8(this.set(tenant, input, writer));
      return;
    }
    for (let left = input.u32(); left > 0; left--) this.expire(input.text(), input.blob(), writer);
  }

  private set(tenant: string, input: ByteReader, writer: KvWriter): number {
    const { message } = this;
    const messageAt = input.position;
    readMessage(input, message);
    const key = topicKey(this.key, SERVICE.RETAIN, tenant, KIND_TOPIC, message.topic).view();
    const former = writer.get(key);
    const formerBytes = former === undefined ? 0 : key.length + former.length;
    if (message.payload.length === 0) {
      if (former === undefined) return STATUS.OK;
      const due = this.dueOf(former);
      this.sample.remove(key);
      writer.remove(key);
      if (due >= 0) writer.remove(this.dueKey(tenant, due, message.topic));
      this.count(-1, -formerBytes);
      return STATUS.OK;
    }
    const newBytes = key.length + (input.position - messageAt);
    const grows = newBytes > formerBytes;
    const { messagesMax, bytesMax } = this.limits;
    if (former === undefined && this.messages >= messagesMax) return STATUS.LIMIT;
    if (grows && this.bytes + newBytes - formerBytes > bytesMax) return STATUS.LIMIT;
    const formerDue = former === undefined ? -1 : this.dueOf(former);
    const due = dueOf(message);
    this.value.reset().raw(input.bytes, messageAt, input.position);
    this.sample.put(key, newBytes);
    writer.put(key, this.value.view());
    if (formerDue >= 0 && formerDue !== due) writer.remove(this.dueKey(tenant, formerDue, message.topic));
    if (due >= 0 && formerDue !== due) writer.put(this.dueKey(tenant, due, message.topic), NOTHING);
    this.count(former === undefined ? 1 : 0, newBytes - formerBytes);
    return STATUS.OK;
  }

  /** Removes a message that is due; the entry is stale if the topic has been set since. */
  private expire(tenant: string, dueKey: Uint8Array, writer: KvWriter): void {
    const kept = copyOf(dueKey);
    writer.remove(kept);
    const prefix = tenantKey(this.key, SERVICE.RETAIN, tenant, KIND_DUE).length;
    const key = tenantKey(this.key, SERVICE.RETAIN, tenant, KIND_TOPIC)
      .raw(kept, prefix + 7)
      .view();
    const value = writer.get(key);
    if (value === undefined) return;
    const bytes = key.length + value.length;
    const topic = copyOf(kept, prefix + 7);
    const due = this.dueOf(value);
    if (due < 0 || !sameBytes(this.dueKey(tenant, due, topic), kept)) return;
    const gone = tenantKey(this.key, SERVICE.RETAIN, tenant, KIND_TOPIC).raw(topic).view();
    this.sample.remove(gone);
    writer.remove(gone);
    this.count(-1, -bytes);
  }

  private dueOf(value: Uint8Array): number {
    const { reader } = this;
    const expiring = OLD;
    readMessage(reader.over(value), expiring);
    return dueOf(expiring);
  }

  private dueKey(tenant: string, dueMs: number, topic: Uint8Array): Uint8Array {
    const writer = this.dueIndex.entry(tenant, dueMs);
    const at = writer.length;
    writer.raw(topic);
    for (let i = at; i < writer.length; i++) if (writer.bytes[i] === 0x2f) writer.bytes[i] = 0;
    return writer.view();
  }

  private count(messages: number, bytes: number): void {
    this.messages += messages;
    this.bytes += bytes;
    this.countsDirty = true;
    assert(this.messages >= 0 && this.bytes >= 0, 'what is removed was counted');
  }

  finish(writer: KvWriter): void {
    if (!this.countsDirty) return;
    this.countsDirty = false;
    this.writeCounts(this.rangeId, this, writer);
  }

  reset(boundary: Boundary, reader: KvReader): void {
    this.countsDirty = false;
    const { messages, bytes } = this.readCounts(this.rangeId, reader);
    this.messages = messages;
    this.bytes = bytes;
    this.dueIndex.reset(boundary);
    this.sample.reset(boundary);
  }

  divide({ upper, child }: Division, writer: KvWriter): void {
    const counts = { messages: 0, bytes: 0 };
    writer.scan(upper.start, upper.end, (key, value) => {
      if (key[kindAt(key)] !== KIND_TOPIC) return true;
      counts.messages++;
      counts.bytes += key.length + value.length;
      return true;
    });
    this.writeCounts(child, counts, writer);
    this.count(-counts.messages, -counts.bytes);
    this.finish(writer);
  }

  absorb(_boundary: Boundary, absorbed: number, writer: KvWriter): void {
    const { messages, bytes } = this.readCounts(absorbed, writer);
    this.count(messages, bytes);
    this.finish(writer);
  }

  hints(reader: KvReader): RangeHints {
    return this.sample.hints(reader, this.bytes);
  }

  private readCounts(range: number, reader: KvReader): Counts {
    const counts = reader.get(localKey(this.key, SERVICE.RETAIN, range, KIND_COUNTS).view());
    if (counts === undefined) return { messages: 0, bytes: 0 };
    const record = this.reader.over(counts);
    return { messages: record.u53(), bytes: record.u53() };
  }

  private writeCounts(range: number, { messages, bytes }: Counts, writer: KvWriter): void {
    const value = this.value.reset().u53(messages).u53(bytes);
    writer.put(localKey(this.key, SERVICE.RETAIN, range, KIND_COUNTS).view(), value.view());
  }

  query(input: ByteReader, reader: KvReader, output: ByteWriter): void {
    const tenant = input.text();
    const filter = input.blob();
    const walk = new FilterWalk(filter);
    const nowMs = input.u53();
    const messagesMax = input.u32();
    const bytesMax = input.u32();
    const cursor = input.blob();
    const prefix = tenantKey(this.key, SERVICE.RETAIN, tenant, KIND_TOPIC).copy();
    const first = cursor.length > 0 ? cursor.subarray(1) : walk.start;
    const scan = new Scan(walk, prefix, nowMs, messagesMax, bytesMax, output, this.clock);
    scan.run(reader, first);
  }
}

interface Counts {
  readonly messages: number;
  readonly bytes: number;
}

/** One run of a scan up to its budget. */
class Scan {
  private readonly walk: FilterWalk;
  private readonly prefix: Uint8Array;
  private readonly nowMs: number;
  private readonly messagesMax: number;
  private readonly bytesMax: number;
  private readonly output: ByteWriter;
  private readonly next = new Writer(256);
  private readonly message = new Message();
  private readonly reader = new Reader();
  private readonly clock: Pick<Clock, 'monotonicMs'>;
  private readonly lastMs: number;
  private visits = 0;
  private nextLook = LOOK_VISITS;
  private count = 0;
  private bytes = 0;

  constructor(
    walk: FilterWalk,
    prefix: Uint8Array,
    nowMs: number,
    messagesMax: number,
    bytesMax: number,
    output: ByteWriter,
    clock: Pick<Clock, 'monotonicMs'>,
  ) {
    this.clock = clock;
    this.lastMs = clock.monotonicMs() + SCAN_MS_MAX;
    this.walk = walk;
    this.prefix = prefix;
    this.nowMs = nowMs;
    this.messagesMax = messagesMax;
    this.bytesMax = bytesMax;
    this.output = output;
  }

  /** Walks from the topic `first` on and writes the whole reply. */
  run(reader: KvReader, first: Uint8Array): void {
    const { output, next, prefix } = this;
    const end = prefixEnd(prefix);
    output.u8(STATUS.OK);
    const countAt = output.length;
    output.u32(0);
    next.reset().raw(prefix).raw(first);
    let state = SEEK;
    while (state === SEEK) {
      this.visits += SEEK_VISITS;
      state = this.step(reader, end);
    }
    output.bytes.writeUInt32LE(this.count, countAt);
    output.u8(state === MORE ? 1 : 0);
    if (state === MORE)
      output
        .u32(1 + next.length - prefix.length)
        .u8(CURSOR_MARK)
        .raw(next.bytes, prefix.length, next.length);
    else output.u32(0);
  }

  /** Visits entries from `next` on until the walk ends, must seek, or has done its share. */
  private step(reader: KvReader, end: Uint8Array): number {
    const { walk, prefix, next } = this;
    const at = prefix.length;
    let state = DONE;
    let steps = 0;
    reader.scan(next.copy(), end, (key, value) => {
      if (compareFrom(key, at, next.bytes, at, next.length) < 0) {
        this.visits++;
        if (++steps <= STEPS_MAX) return true;
        state = SEEK;
        return false;
      }
      steps = 0;
      this.visits++;
      if (this.spent || this.full(value)) {
        next.reset().raw(key);
        state = MORE;
        return false;
      }
      if (walk.matches(key, at, key.length)) this.take(value);
      if (walk.seekLength < 0) return false;
      next.reset().raw(prefix).raw(walk.seek, 0, walk.seekLength);
      return true;
    });
    return state;
  }

  /** Whether the call has done its share. It always gets one entry further, so that calls come to an end. */
  private get spent(): boolean {
    if (this.visits > SCAN_VISITS_MAX) return true;
    if (this.visits < this.nextLook) return false;
    this.nextLook = this.visits + LOOK_VISITS;
    return this.clock.monotonicMs() >= this.lastMs;
  }

  /** Whether another message must wait for the next call. The first is let through whatever its size. */
  private full(value: Uint8Array): boolean {
    return this.count >= this.messagesMax || (this.count > 0 && this.bytes + value.length > this.bytesMax);
  }

  private take(value: Uint8Array): void {
    readMessage(this.reader.over(value), this.message);
    if (remainingSeconds(this.message, this.nowMs) === 0) return;
    this.output.raw(value);
    this.bytes += value.length;
    this.count++;
    this.visits += TAKE_VISITS;
  }
}

const DONE = 0;
const SEEK = 1;
const MORE = 2;
/** A cursor is this and a topic key, so that it is never empty. */
const CURSOR_MARK = 1;
const NOTHING = new Uint8Array(0);
const OLD = new Message();

function dueOf(message: Message): number {
  return message.expirySeconds < 0 ? -1 : message.publishedAtMs + message.expirySeconds * 1000;
}

function compareFrom(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, bEnd: number): number {
  const shared = Math.min(a.length - aAt, bEnd - bAt);
  for (let i = 0; i < shared; i++) {
    const difference = a[aAt + i]! - b[bAt + i]!;
    if (difference !== 0) return difference;
  }
  return a.length - aAt - (bEnd - bAt);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && compareFrom(a, 0, b, 0, b.length) === 0;
}
