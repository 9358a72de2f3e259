import { assert } from '../base/assert.js';
import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { STATUS } from '../contract/contract.js';
import { INSERT_RESULT } from '../contract/inbox.js';
import { Message, readMessage } from '../contract/message.js';
import type { KvWriter } from '../kv/engine.js';
import { prefixEnd, readOrdered53 } from '../kv/keys.js';
import { DATA } from './inbox-keys.js';
import type { Session } from './session.js';
import type { Sessions } from './sessions.js';

export interface InboxLimits {
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queueDropPolicy: 'newest' | 'oldest';
}

/** What waits for sessions and what they have received. */
export class Queue {
  private readonly sessions: Sessions;
  private readonly limits: InboxLimits;
  private readonly message = new Message();
  /** Of each target of the insert at hand: where it was queued, 0 if it was not. */
  private readonly seqs: number[] = [];
  private readonly instances: number[] = [];

  constructor(sessions: Sessions, limits: InboxLimits) {
    this.sessions = sessions;
    this.limits = limits;
  }

  insert(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
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
      if (this.sessions.byInstance(tenant, source, writer) === undefined) {
        output.u8(STATUS.GONE).u32(0);
        return;
      }
      const mark = this.sessions.keys.received(tenant, source, packetId);
      duplicate = writer.get(mark) !== undefined;
      if (!duplicate) writer.put(mark, NOTHING);
    }
    output.u8(STATUS.OK).u32(count);
    this.seqs.length = 0;
    this.instances.length = 0;
    for (let i = 0; i < count; i++) {
      const session = duplicate ? undefined : this.sessions.load(tenant, input.text(), writer);
      if (duplicate) {
        output.u8(INSERT_RESULT.DUPLICATE);
        this.nothingQueued();
        continue;
      }
      const targetAt = input.position;
      input.position += 2;
      const ids = input.u8();
      input.position += ids * 4;
      this.sessions.value
        .reset()
        .raw(input.bytes, targetAt, input.position)
        .raw(input.bytes, messageAt, messageEnd);
      output.u8(this.enqueue(session, writer));
    }
    for (let i = 0; i < count; i++) output.u53(this.instances[i]!).u53(this.seqs[i]!);
  }

  private nothingQueued(): void {
    this.instances.push(0);
    this.seqs.push(0);
  }

  /** Queues `this.sessions.value` for `session`. */
  private enqueue(session: Session | undefined, writer: KvWriter): number {
    if (session === undefined) {
      this.nothingQueued();
      return INSERT_RESULT.GONE;
    }
    const { queueMessagesMax, queueBytesMax, queueDropPolicy } = this.limits;
    const bytes = this.sessions.value.length;
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
    this.sessions.touch(session);
    writer.put(
      this.sessions.keys.seq(session.tenant, session.instance, DATA.QUEUED, seq),
      this.sessions.value.view(),
    );
    this.instances.push(session.instance);
    this.seqs.push(seq);
    return result;
  }

  private dropOldest(session: Session, writer: KvWriter): boolean {
    const prefix = this.sessions.keys.data(session.tenant, session.instance).u8(DATA.QUEUED).copy();
    let oldest = -1;
    writer.scan(prefix, prefixEnd(prefix), key => {
      oldest = readOrdered53(key, prefix.length);
      return false;
    });
    return oldest >= 0 && this.unqueue(session, oldest, writer);
  }

  /** Removes a message from the queue; false if it is not there. */
  private unqueue(session: Session, seq: number, writer: KvWriter): boolean {
    const key = this.sessions.keys.seq(session.tenant, session.instance, DATA.QUEUED, seq);
    const value = writer.get(key);
    if (value === undefined) return false;
    session.queueMessages--;
    session.queueBytes -= value.length;
    assert(session.queueMessages >= 0 && session.queueBytes >= 0, 'what leaves a queue was counted in');
    this.sessions.touch(session);
    writer.remove(key);
    return true;
  }

  acked(input: ByteReader, writer: KvWriter): void {
    const session = this.sessions.named(input, writer);
    if (session === undefined) return;
    for (let left = input.u32(); left > 0; left--) {
      const seq = input.u53();
      if (!this.unqueue(session, seq, writer))
        writer.remove(this.sessions.keys.seq(session.tenant, session.instance, DATA.OWED, seq));
    }
  }

  received(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.sessions.named(input, writer);
    output.u8(session === undefined ? STATUS.GONE : STATUS.OK);
    if (session === undefined) return;
    for (let left = input.u32(); left > 0; left--) {
      const seq = input.u53();
      this.unqueue(session, seq, writer);
      if (seq < session.nextSeq)
        writer.put(this.sessions.keys.seq(session.tenant, session.instance, DATA.OWED, seq), NOTHING);
    }
  }

  released(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const session = this.sessions.named(input, writer);
    output.u8(session === undefined ? STATUS.GONE : STATUS.OK);
    if (session !== undefined)
      writer.remove(this.sessions.keys.received(session.tenant, session.instance, input.u16()));
  }
}

const NOTHING = new Uint8Array(0);
