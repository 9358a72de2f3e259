import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { kindAt } from '../kv/keys.js';

/** A persistent session as its range holds it. All times are wall-clock milliseconds. */
export class Session {
  readonly tenant: string;
  readonly clientId: string;
  instance = 0;
  attached = false;
  hasWill = false;
  /** Life without a connection; NEVER_EXPIRES for ever. */
  expirySeconds = 0;
  willDelaySeconds = 0;
  detachedAtMs = 0;
  /** When the will is due; 0 while there is none or the session is attached. */
  willDueMs = 0;
  nextSeq = 1;
  /** Messages up to this one have been sent at least once. */
  sentSeq = 0;
  queueMessages = 0;
  queueBytes = 0;
  /** Its record is to be written at the end of the transaction. */
  dirty = false;
  /** Of its key, as samples go by it; -1 while nobody has asked for it. */
  hash = -1;

  constructor(tenant: string, clientId: string) {
    this.tenant = tenant;
    this.clientId = clientId;
  }

  /** Bytes of it and its queue in the range. `key`: its own. */
  heldBytes(key: Uint8Array): number {
    const queuedKeyBytes = kindAt(key) + QUEUED_REST_BYTES;
    return key.length + RECORD_BYTES + this.queueBytes + this.queueMessages * queuedKeyBytes;
  }

  /** When it expires; -1 while it does not. */
  get dueMs(): number {
    if (this.attached || this.expirySeconds === NEVER_EXPIRES) return -1;
    return this.detachedAtMs + this.expirySeconds * 1000;
  }

  isExpired(nowMs: number): boolean {
    const { dueMs } = this;
    return dueMs >= 0 && dueMs <= nowMs;
  }

  read(reader: ByteReader): this {
    const flags = reader.u8();
    this.attached = (flags & ATTACHED) !== 0;
    this.hasWill = (flags & HAS_WILL) !== 0;
    this.instance = reader.u53();
    this.expirySeconds = reader.u32();
    this.willDelaySeconds = reader.u32();
    this.detachedAtMs = reader.u53();
    this.willDueMs = reader.u53();
    this.nextSeq = reader.u53();
    this.sentSeq = reader.u53();
    this.queueMessages = reader.u32();
    this.queueBytes = reader.u53();
    return this;
  }

  write(writer: ByteWriter): void {
    writer.u8((this.attached ? ATTACHED : 0) | (this.hasWill ? HAS_WILL : 0));
    writer.u53(this.instance).u32(this.expirySeconds).u32(this.willDelaySeconds);
    writer.u53(this.detachedAtMs).u53(this.willDueMs).u53(this.nextSeq).u53(this.sentSeq);
    writer.u32(this.queueMessages).u53(this.queueBytes);
  }
}

const NEVER_EXPIRES = 0xffff_ffff;
/** What `write` writes. */
const RECORD_BYTES = 61;
/** Of the key of a queued message: kind, instance, kind, number. */
const QUEUED_REST_BYTES = 1 + 7 + 1 + 7;

const ATTACHED = 1;
const HAS_WILL = 2;
