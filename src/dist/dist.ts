import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { ByteWriter as Writer } from '../base/bytes.js';
import { STATUS } from '../contract/contract.js';
import { type Receiver, ROUTE_RESULT, type Route, readRoute, writeRoute } from '../contract/dist.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import { BY_TENANT, type Grouping, KeySample } from '../kv/key-sample.js';
import { kindAt, rawText, SERVICE, tenantKey, tenantOf, utf8 } from '../kv/keys.js';
import type { Boundary, Coprocessor, RangeHints } from '../kv/range.js';
import type { HashKeys } from '../topic/hash.js';
import { RouteTable, Widths } from './route-table.js';

/**
 * Room `dist`: which receivers a topic has. The coprocessor here owns the routes of a key range: on disk for
 * their life, in memory (`RouteTable`, one trie per tenant) for matching. `service.ts` stands before it and
 * keeps the promise about SUBACK.
 *
 * Invariants
 * - Memory holds exactly the routes of the range; `reset` builds it from the entries, `load` and `unload` follow
 *   single entries. A mutation never reads the engine, so writes may be held back (see service.ts).
 * - Routes to shards are transient: after a crash of the node they mean nothing, so PURGE_NODE drops them at
 *   start, and they ask for no flush. Routes to inboxes live as long as the persistent session does.
 * - Every change that lets any topic match otherwise is reported in the outcome of its command.
 *
 * Entries: `d tenant 0 r filter 0 group 0 ordered receiver` → options, subscription id, members.
 * Receiver: 1 shard(u16, big-endian) node, or 2 client id.
 *
 * Commands (u8 first; outcome in brackets)
 *   ADD          tenant, u32 n, n × Route      [u8 STATUS, u32 n, n × u8 ROUTE_RESULT, u32 c, c × changed filter]
 *   REMOVE       tenant, u32 n, n × Route      [the same]
 *   PURGE_SHARD  node, u16 shard               [u32 t, t × (tenant, u32 c, c × changed filter)]
 *   PURGE_NODE   node                          [the same]
 * Query
 *   MATCH        tenant, topic                 [u8 STATUS, u32 n, n × Route]
 *
 * Limits: `limits.sharedGroupMembersMax` members in a group of one filter. A match answers with all of its
 * routes in one frame, so a filter with 100,000 persistent subscribers costs megabytes per cache miss.
 * Cost: an add takes 4 µs, a match 3 µs with its frame, a route with a filter of its own 255 bytes of memory
 * (perf/micro/store.bench.ts).
 *
 * Division: a range may be divided between two tenants, or where that would leave one side small between two filters of a
 * tenant. The routes of a filter are in one range, so what is said about it (whether a group is full, whether a change
 * changes anything) is said there. Nothing is stored about a range as a whole. Whoever asks for a topic asks all ranges
 * that have routes of its tenant and puts the answers together, and whoever purges tells all ranges; service.ts speaks to
 * one, and is to learn that before its range has neighbours.
 *
 * Difference from BifroMQ: its dist workers match against the KV store with per-tenant caches before it and let
 * a SUBACK go while caches are stale; here the index is wholly in memory and a SUBACK waits for all caches.
 */
export const DIST_COMMAND = { ADD: 1, REMOVE: 2, PURGE_SHARD: 3, PURGE_NODE: 4 } as const;

const KIND_ROUTE = 0x72;
const RECEIVER_SHARD = 1;
const RECEIVER_INBOX = 2;

/** What is stored of a route beside its key. */
const VALUE_BYTES = 9;
/** The largest match counts for so many calls of `hints`, and for twice as many at most. */
const MATCH_WINDOW = 60;

/** All routes of a filter. */
const BY_FILTER: Grouping = key => key.indexOf('\0', BY_TENANT(key)) + 1;

export class DistCoprocessor implements Coprocessor {
  private tables = new Map<string, RouteTable>();
  private widths = new Widths();
  private readonly sample = new KeySample([BY_TENANT, BY_FILTER]);
  /** Of keys and values. */
  private bytes = 0;
  /** Routes of the largest match in this window, and in the one before. */
  private largestMatch = 0;
  private formerMatch = 0;
  private windowCalls = 0;
  private readonly hashKeys: HashKeys;
  private readonly groupMembersMax: number;
  private readonly key = new Writer(256);
  private readonly value = new Writer(16);
  private readonly matched: Route[] = [];
  /** One object per shard of the cluster, shared by its routes. */
  private readonly shards = new Map<string, Receiver>();
  private changed: string[] = [];

  constructor(hashKeys: HashKeys, groupMembersMax: number) {
    this.hashKeys = hashKeys;
    this.groupMembersMax = groupMembersMax;
  }

  /** Routes in the range. */
  get size(): number {
    let size = 0;
    for (const table of this.tables.values()) size += table.size;
    return size;
  }

  query(input: ByteReader, _reader: KvReader, output: ByteWriter): void {
    const table = this.tables.get(input.text());
    const { matched } = this;
    matched.length = 0;
    table?.match(input.text(), matched);
    if (matched.length > this.largestMatch) this.largestMatch = matched.length;
    output.u8(STATUS.OK).u32(matched.length);
    for (const route of matched) writeRoute(output, route);
    matched.length = 0;
  }

  mutate(input: ByteReader, writer: KvSink, output: ByteWriter): void {
    const command = input.u8();
    if (command === DIST_COMMAND.ADD || command === DIST_COMMAND.REMOVE) {
      this.changeRoutes(command === DIST_COMMAND.ADD, input, writer, output);
      return;
    }
    const node = input.text();
    const shard = command === DIST_COMMAND.PURGE_SHARD ? input.u16() : -1;
    this.purge(node, shard, writer, output);
  }

  private changeRoutes(adding: boolean, input: ByteReader, writer: KvSink, output: ByteWriter): void {
    const tenant = input.text();
    const count = input.u32();
    const changed = this.changed;
    changed.length = 0;
    output.u8(STATUS.OK).u32(count);
    for (let i = 0; i < count; i++) {
      const route = this.intern(readRoute(input));
      output.u8(adding ? this.add(tenant, route, writer) : this.remove(tenant, route, writer));
    }
    output.u32(changed.length);
    for (const filter of changed) output.text(filter);
  }

  private add(tenant: string, route: Route, writer: KvSink): number {
    const table = this.table(tenant);
    const { size } = table;
    const { result, changed } = table.add(route, this.groupMembersMax);
    if (changed) {
      this.value.reset().u8(route.options).u32(route.subscriptionId).u32(route.members);
      const key = this.keyOf(tenant, route);
      writer.put(key, this.value.view());
      if (table.size > size) this.count(key);
      this.changed.push(route.filter);
    }
    return result;
  }

  private remove(tenant: string, route: Route, writer: KvSink): number {
    const table = this.tables.get(tenant);
    if (!table?.remove(route)) return ROUTE_RESULT.NONE;
    if (table.size === 0) this.tables.delete(tenant);
    this.drop(this.keyOf(tenant, route), writer);
    this.changed.push(route.filter);
    return ROUTE_RESULT.OK;
  }

  private drop(key: Uint8Array, writer: KvSink): void {
    this.discount(key);
    writer.remove(key);
  }

  private count(key: Uint8Array): void {
    this.bytes += key.length + VALUE_BYTES;
    this.sample.put(key, key.length + VALUE_BYTES);
  }

  private discount(key: Uint8Array): void {
    this.bytes -= key.length + VALUE_BYTES;
    this.sample.remove(key);
  }

  private purge(node: string, shard: number, writer: KvSink, output: ByteWriter): void {
    const tenants = [...this.tables];
    output.u32(tenants.length);
    for (const [tenant, table] of tenants) {
      const gone = table.select(
        ({ receiver }) =>
          receiver.kind === 'shard' && receiver.node === node && (shard < 0 || receiver.shard === shard),
      );
      for (const route of gone) {
        table.remove(route);
        this.drop(this.keyOf(tenant, route), writer);
      }
      if (table.size === 0) this.tables.delete(tenant);
      output.text(tenant).u32(gone.length);
      for (const route of gone) output.text(route.filter);
    }
  }

  finish(_writer: KvWriter): void {
    // Every command writes what it changes.
  }

  reset(boundary: Boundary, reader: KvReader): void {
    this.tables = new Map();
    this.widths = new Widths();
    this.bytes = 0;
    this.largestMatch = 0;
    this.formerMatch = 0;
    this.sample.reset(boundary, true);
    reader.scan(boundary.start, boundary.end, (key, value) => {
      this.load(key, value);
      return true;
    });
  }

  /** Takes one entry into memory. */
  load(key: Uint8Array, value: Uint8Array): void {
    const view = Buffer.from(value.buffer, value.byteOffset, value.length);
    const route = routeOfKey(key);
    route.options = view[0]!;
    route.subscriptionId = view.readUInt32LE(1);
    route.members = view.readUInt32LE(5);
    const table = this.table(tenantOf(key));
    const { size } = table;
    table.add(this.intern(route), Number.POSITIVE_INFINITY);
    if (table.size > size) this.count(key);
  }

  /** Drops one entry from memory. */
  unload(key: Uint8Array): void {
    const tenant = tenantOf(key);
    const table = this.tables.get(tenant);
    if (!table?.remove(routeOfKey(key))) return;
    this.discount(key);
    if (table.size === 0) this.tables.delete(tenant);
  }

  /**
   * Receivers: the most routes that a filter has, or that a topic has had in the last one or two minutes in which it
   * was asked for; a route to a shard counts once however many sessions are behind it.
   */
  hints(reader: KvReader): RangeHints {
    const fanOut = Math.max(this.widths.widest, this.largestMatch, this.formerMatch);
    if (++this.windowCalls >= MATCH_WINDOW) {
      this.windowCalls = 0;
      this.formerMatch = this.largestMatch;
      this.largestMatch = 0;
    }
    return this.sample.hints(reader, this.bytes, fanOut);
  }

  private table(tenant: string): RouteTable {
    let table = this.tables.get(tenant);
    if (table === undefined) this.tables.set(tenant, (table = new RouteTable(this.hashKeys, this.widths)));
    return table;
  }

  private intern(route: Route): Route {
    const { receiver } = route;
    if (receiver.kind === 'inbox') return route;
    const name = `${receiver.shard}/${receiver.node}`;
    const known = this.shards.get(name);
    if (known === undefined) this.shards.set(name, receiver);
    else route.receiver = known;
    return route;
  }

  private keyOf(tenant: string, route: Route): Uint8Array {
    const key = tenantKey(this.key, SERVICE.DIST, tenant, KIND_ROUTE);
    rawText(key, route.filter).u8(0);
    rawText(key, route.group)
      .u8(0)
      .u8(route.ordered ? 1 : 0);
    const { receiver } = route;
    if (receiver.kind === 'inbox') return rawText(key.u8(RECEIVER_INBOX), receiver.clientId).view();
    const { shard, node } = receiver;
    return rawText(
      key
        .u8(RECEIVER_SHARD)
        .u8(shard >>> 8)
        .u8(shard & 255),
      node,
    ).view();
  }
}

/** What a dist mutation needs of a writer: it never reads. */
export type KvSink = Pick<KvWriter, 'put' | 'remove'>;

function routeOfKey(key: Uint8Array): Route {
  const filterAt = kindAt(key) + 1;
  const groupAt = key.indexOf(0, filterAt) + 1;
  const orderedAt = key.indexOf(0, groupAt) + 1;
  const receiver: Receiver =
    key[orderedAt + 1] === RECEIVER_INBOX
      ? { kind: 'inbox', clientId: utf8(key, orderedAt + 2) }
      : {
          kind: 'shard',
          shard: (key[orderedAt + 2]! << 8) | key[orderedAt + 3]!,
          node: utf8(key, orderedAt + 4),
        };
  return {
    filter: utf8(key, filterAt, groupAt - 1),
    group: utf8(key, groupAt, orderedAt - 1),
    ordered: key[orderedAt] === 1,
    receiver,
    options: 0,
    subscriptionId: 0,
    members: 0,
  };
}
