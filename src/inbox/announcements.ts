import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP } from '../contract/contract.js';
import { writeSubscription } from '../contract/inbox.js';
import type { DueEntry, DueIndex } from '../kv/due-index.js';
import type { KvReader } from '../kv/engine.js';
import type { FrameBatch } from '../kv/frame-batch.js';
import { readOrdered53, utf8 } from '../kv/keys.js';
import type { Request, ServiceHost } from '../kv/service.js';
import { INBOX_COMMAND, type InboxCoprocessor } from './inbox.js';
import { KIND } from './inbox-keys.js';
import { OWN_COMMAND } from './own-ops.js';

/**
 * INBOX_WILL and INBOX_EXPIRED: what the store asks of some mqtt thread. Each is asked of one thread at a time and
 * asked again of another when that one dies; the entry goes when it has been done, so after a crash of the node
 * it is asked once more (a will may then be published twice, never not at all).
 */
export class Announcements {
  private readonly coprocessor: InboxCoprocessor;
  private readonly mqttPeers: readonly number[];
  private readonly host: ServiceHost;
  private readonly calls = new Map<number, Announcement>();
  /** Keys of entries that are being announced. */
  private readonly underway = new Set<string>();
  /** Expired sessions whose routes are being removed, with those who wait to attach anew. */
  private readonly ending = new Map<string, Parked[]>();
  private readonly command = new ByteWriter(256);
  private readonly reader = new ByteReader();
  private lastCallId = 0;
  private lastPeer = 0;

  constructor(coprocessor: InboxCoprocessor, mqttPeers: readonly number[], host: ServiceHost) {
    this.coprocessor = coprocessor;
    this.mqttPeers = mqttPeers;
    this.host = host;
  }

  announceWills(nowMs: number, reader: KvReader, out: FrameBatch): void {
    for (const entry of this.fresh(this.coprocessor.sessions.wills, nowMs, reader)) {
      const { tenant, key } = entry;
      const instance = readOrdered53(key, key.length - 7);
      const will = reader.get(this.coprocessor.sessions.keys.ofInstance(tenant, KIND.WILL, instance));
      if (will === undefined) {
        this.done(INBOX_COMMAND.WILL_DONE, tenant, key);
        continue;
      }
      const stored = this.reader.over(will);
      const clientId = stored.text();
      const frame = this.begin(OP.INBOX_WILL, INBOX_COMMAND.WILL_DONE, entry, '', out);
      frame.text(tenant).text(clientId).u53(instance).raw(stored.bytes, stored.position, stored.end);
      out.end();
    }
  }

  announceEnded(reader: KvReader, out: FrameBatch): void {
    for (const entry of this.fresh(this.coprocessor.sessions.ended, 0, reader)) {
      const { tenant, key, restAt } = entry;
      const value = reader.get(key);
      if (value === undefined) continue;
      const instance = this.reader.over(value).u53();
      const clientId = utf8(key, restAt);
      const subscriptions = this.coprocessor.sessions.subscriptions({ tenant, instance }, reader);
      const name = nameOf(tenant, clientId);
      this.ending.set(name, []);
      const frame = this.begin(OP.INBOX_EXPIRED, INBOX_COMMAND.ENDED_DONE, entry, name, out);
      frame.text(tenant).text(clientId).u53(instance).u32(subscriptions.length);
      for (const subscription of subscriptions) writeSubscription(frame, subscription);
      out.end();
    }
  }

  /** Entries that are due and not being announced. */
  private fresh(index: DueIndex, nowMs: number, reader: KvReader): DueEntry[] {
    if (this.calls.size >= UNDERWAY_MAX || this.mqttPeers.length === 0) return [];
    const due: DueEntry[] = [];
    index.due(reader, nowMs, TENANTS_MAX, UNDERWAY_MAX * 2, due);
    return due.filter(({ key }) => !this.underway.has(latin1(key))).slice(0, UNDERWAY_MAX - this.calls.size);
  }

  private begin(op: number, done: number, entry: DueEntry, name: string, out: FrameBatch): ByteWriter {
    const peer = this.nextPeer();
    this.lastCallId = (this.lastCallId % 0x7fff_ffff) + 1;
    const callId = CALL_ID_BASE + this.lastCallId;
    this.calls.set(callId, { peer, done, tenant: entry.tenant, key: entry.key, name });
    this.underway.add(latin1(entry.key));
    return out.begin(peer, op, callId);
  }

  /** The next mqtt thread in turn. What one is asked that is just being replaced is asked again by `peerLost`. */
  private nextPeer(): number {
    this.lastPeer = (this.lastPeer + 1) % this.mqttPeers.length;
    return this.mqttPeers[this.lastPeer]!;
  }

  /** A thread has done what it was asked. False if the call is not one of these. */
  answered(peer: number, callId: number): boolean {
    const call = this.calls.get(callId);
    if (call === undefined || call.peer !== peer) return false;
    this.calls.delete(callId);
    this.underway.delete(latin1(call.key));
    this.done(call.done, call.tenant, call.key);
    this.unpark(call.name);
    return true;
  }

  private done(command: number, tenant: string, key: Uint8Array): void {
    this.host.enqueue(OWN_COMMAND, this.command.reset().u8(command).text(tenant).blob(key).copy());
  }

  private unpark(name: string): void {
    const parked = this.ending.get(name);
    if (parked === undefined) return;
    this.ending.delete(name);
    for (const { request, body } of parked) this.host.requeue(request, body);
  }

  isEnding(tenant: string, clientId: string): boolean {
    return this.ending.has(nameOf(tenant, clientId));
  }

  /** Keeps an ATTACH until the routes of the expired session are gone. */
  park(
    tenant: string,
    clientId: string,
    request: Request,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    this.ending
      .get(nameOf(tenant, clientId))!
      .push({ request, body: Buffer.from(bytes.subarray(start, end)) });
  }

  /** What it was asked is asked again at the next tick; who waited for it attaches and takes the rest over. */
  peerLost(peer: number): void {
    for (const [callId, call] of this.calls) {
      if (call.peer !== peer) continue;
      this.calls.delete(callId);
      this.underway.delete(latin1(call.key));
      this.unpark(call.name);
    }
    for (const [name, parked] of this.ending)
      this.ending.set(
        name,
        parked.filter(({ request }) => request.peer !== peer),
      );
  }
}

interface Announcement {
  readonly peer: number;
  /** The command that ends it. */
  readonly done: number;
  readonly tenant: string;
  readonly key: Uint8Array;
  readonly name: string;
}

interface Parked {
  readonly request: Request;
  readonly body: Uint8Array;
}

/** Apart from the numbers that a dist service in the same store uses. */
const CALL_ID_BASE = 0x8000_0000;
const UNDERWAY_MAX = 256;
const TENANTS_MAX = 512;

function nameOf(tenant: string, clientId: string): string {
  return `${tenant}\0${clientId}`;
}

function latin1(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1');
}
