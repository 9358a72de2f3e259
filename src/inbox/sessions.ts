import { type ByteReader, ByteWriter, ByteReader as Reader } from '../base/bytes.js';
import type { Subscription } from '../contract/inbox.js';
import { DueIndex } from '../kv/due-index.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import { BY_TENANT, hashOf, KeySample, type Reading } from '../kv/key-sample.js';
import { copyOf, firstKey, kindAt, localKey, prefixEnd, rawText, SERVICE, utf8 } from '../kv/keys.js';
import { type Boundary, wholeService } from '../kv/range.js';
import { DATA, InboxKeys, KIND } from './inbox-keys.js';
import { InstanceNumbers } from './instance-numbers.js';
import { Session } from './session.js';
import { SessionCache } from './session-cache.js';

const KIND_NUMBERS = 0x6e;

/** A session stands for its queue as well. Other entries are passed by, a tenant's queues at once. */
const SESSIONS: Reading = {
  sizeOf(key, value) {
    return key[kindAt(key)] === KIND.SESSION ? READ.read(VALUE.over(value)).heldBytes(key) : -1;
  },
  next(key) {
    const at = kindAt(key);
    const isAhead = key[at]! < KIND.SESSION;
    const next = copyOf(key, 0, isAhead ? at + 1 : at);
    // The sessions of the tenant, or the first tenant behind it.
    next[next.length - 1] = isAhead ? KIND.SESSION : 1;
    return next;
  },
};
const READ = new Session('', '');
const VALUE = new Reader();

/** What tells one life of a session from all others. */
interface Life {
  readonly tenant: string;
  readonly instance: number;
}

/** The sessions of a range: found, made, and written back once per transaction. */
export class Sessions {
  private readonly rangeId: number;
  readonly keys = new InboxKeys();
  readonly cache = new SessionCache();
  readonly sample = new KeySample([BY_TENANT], SESSIONS);
  readonly expiry = new DueIndex(SERVICE.INBOX, KIND.EXPIRY);
  readonly wills = new DueIndex(SERVICE.INBOX, KIND.WILL_DUE);
  readonly garbage = new DueIndex(SERVICE.INBOX, KIND.GARBAGE);
  /** Scratch of whoever makes an entry; each use overwrites the one before. */
  readonly value = new ByteWriter(1024);
  readonly reader = new Reader();
  boundary: Boundary = wholeService(SERVICE.INBOX);
  private numbers = InstanceNumbers.read(undefined);
  private numbersDirty = false;

  constructor(rangeId: number) {
    this.rangeId = rangeId;
  }

  /** Whether a division leaves both halves with numbers enough. */
  get canDivide(): boolean {
    return this.numbers.canDivide;
  }

  /** All subscriptions of a session. */
  subscriptions(session: Life, reader: KvReader): Subscription[] {
    const prefix = this.keys.data(session.tenant, session.instance).u8(DATA.FILTER).copy();
    const out: Subscription[] = [];
    reader.scan(prefix, prefixEnd(prefix), (key, value) => {
      const view = this.reader.over(value);
      out.push({ filter: utf8(key, prefix.length), options: view.u8(), subscriptionId: view.u32() });
      return true;
    });
    return out;
  }

  /** Whether it has subscriptions. */
  hasSubscriptions(session: Life, reader: KvReader): boolean {
    const prefix = this.keys.data(session.tenant, session.instance).u8(DATA.FILTER).copy();
    return firstKey(reader, prefix, prefixEnd(prefix)) !== undefined;
  }

  /** Keys of the changes whose routes are not known to be in effect, with the filters that they are about. */
  changes(session: Life, reader: KvReader): { key: Uint8Array; filters: string[] }[] {
    const start = copyOf(this.keys.change(session.tenant, session.instance, 0));
    const end = copyOf(this.keys.change(session.tenant, session.instance + 1, 0));
    const out: { key: Uint8Array; filters: string[] }[] = [];
    reader.scan(start, end, (key, value) => {
      const view = this.reader.over(value);
      const filters: string[] = [];
      for (let left = view.u32(); left > 0; left--) filters.push(view.text());
      out.push({ key: copyOf(key), filters });
      return true;
    });
    return out;
  }

  /** Whether {@link changes} has any. */
  isUnsettled(session: Life, reader: KvReader): boolean {
    const start = copyOf(this.keys.change(session.tenant, session.instance, 0));
    return firstKey(reader, start, this.keys.change(session.tenant, session.instance + 1, 0)) !== undefined;
  }

  /** Instance of the session of this client that ended and whose routes may still be there; 0 if there is none. */
  endedInstance(tenant: string, clientId: string, reader: KvReader): number {
    const ended = reader.get(this.keys.ended(tenant, clientId));
    return ended === undefined ? 0 : this.reader.over(ended).u53();
  }

  /** What dist is to be told of a session whose routes are in doubt; undefined when they are not. */
  routesInDoubt(
    tenant: string,
    clientId: string,
    instance: number,
    reader: KvReader,
  ): { gone: string[]; kept: Subscription[] } | undefined {
    const life = { tenant, instance };
    if (this.endedInstance(tenant, clientId, reader) === instance) {
      const gone = this.subscriptions(life, reader).map(({ filter }) => filter);
      return { gone, kept: [] };
    }
    if (this.byInstance(tenant, instance, reader)?.attached ?? true) return undefined;
    const filters = new Set(this.changes(life, reader).flatMap(change => change.filters));
    if (filters.size === 0) return undefined;
    const gone: string[] = [];
    const kept: Subscription[] = [];
    for (const filter of filters) {
      const value = reader.get(this.keys.filter(tenant, instance, filter));
      if (value === undefined) gone.push(filter);
      else {
        const view = this.reader.over(value);
        kept.push({ filter, options: view.u8(), subscriptionId: view.u32() });
      }
    }
    return { gone, kept };
  }

  /** Has the session written at the end of the transaction. */
  touch(session: Session): void {
    if (session.dirty) return;
    session.dirty = true;
    this.cache.dirty.push(session);
  }

  load(tenant: string, clientId: string, reader: KvReader): Session | undefined {
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

  /** The session that a command names: tenant, instance. */
  named(input: ByteReader, reader: KvReader): Session | undefined {
    const tenant = input.text();
    return this.byInstance(tenant, input.u53(), reader);
  }

  /** A new session with a new instance. */
  create(tenant: string, clientId: string, writer: KvWriter): Session {
    const session = new Session(tenant, clientId);
    session.instance = this.numbers.take();
    this.numbersDirty = true;
    writer.put(
      this.keys.ofInstance(tenant, KIND.INSTANCE, session.instance),
      rawText(this.value.reset(), clientId).view(),
    );
    this.cache.add(session);
    return session;
  }

  /** Removes its record; the rest of its entries stay. */
  remove(session: Session, writer: KvWriter): void {
    const key = this.keys.session(session.tenant, session.clientId);
    this.sample.remove(key);
    writer.remove(key);
    this.cache.drop(session);
  }

  /** Writes what changed. */
  finish(writer: KvWriter): void {
    for (const session of this.cache.dirty) {
      session.dirty = false;
      if (this.cache.isDropped(session)) continue;
      this.value.reset();
      session.write(this.value);
      const key = this.keys.session(session.tenant, session.clientId);
      if (session.hash < 0) session.hash = hashOf(key);
      if (this.sample.takes(session.hash)) this.sample.put(key, session.heldBytes(key));
      writer.put(key, this.value.view());
    }
    this.cache.dirty.length = 0;
    this.cache.trim();
    if (!this.numbersDirty) return;
    this.numbersDirty = false;
    this.writeNumbers(this.rangeId, this.numbers, writer);
  }

  reset(boundary: Boundary, reader: KvReader): void {
    this.boundary = boundary;
    for (const index of [this.expiry, this.wills, this.garbage]) index.reset(boundary);
    this.sample.reset(boundary);
    this.cache.clear();
    this.numbersDirty = false;
    this.numbers = this.readNumbers(this.rangeId, reader);
  }

  divide(child: number, writer: KvWriter): void {
    this.writeNumbers(child, this.numbers.divide(), writer);
    this.writeNumbers(this.rangeId, this.numbers, writer);
  }

  absorb(absorbed: number, writer: KvWriter): void {
    this.numbers.absorb(this.readNumbers(absorbed, writer));
    this.writeNumbers(this.rangeId, this.numbers, writer);
  }

  private readNumbers(range: number, reader: KvReader): InstanceNumbers {
    const record = reader.get(numbersKey(range));
    return InstanceNumbers.read(record === undefined ? undefined : this.reader.over(record));
  }

  private writeNumbers(range: number, numbers: InstanceNumbers, writer: KvWriter): void {
    writer.put(numbersKey(range), numbers.write(this.value.reset()).view());
  }
}

function numbersKey(range: number): Uint8Array {
  return localKey(new ByteWriter(16), SERVICE.INBOX, range, KIND_NUMBERS).view();
}
