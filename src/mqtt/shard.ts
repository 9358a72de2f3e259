import { ByteReader } from '../base/bytes.js';
import type { Env, Log } from '../base/env.js';
import {
  CONNECTIONS,
  type CounterBlock,
  MATCH_CACHE_ENTRIES,
  MATCH_CACHE_HITS,
  MATCH_CACHE_MISSES,
  PENDING_BYTES,
  SESSIONS,
  SOCKET_WRITES,
  TAKEOVERS,
  TRANSPORT_INDEX,
  WILLS,
} from '../base/metrics.js';
import { OP, STATUS } from '../contract/contract.js';
import { Message, readMessage } from '../contract/message.js';
import { type Authenticator, type Authorizer, permitAll } from '../plugin/plugin.js';
import { type HashKeys, hashBytes } from '../topic/hash.js';
import type { TopicLimits } from '../topic/topic.js';
import { BrokerPublisher } from './broker-publisher.js';
import { Caller, type Wire } from './caller.js';
import { REASON } from './codec/packet.js';
import { Connection } from './connection.js';
import { depart, type Farewell } from './departure.js';
import type { Features, Limits, ShardOptions } from './mqtt.js';
import { Outbox } from './outbox.js';
import type { Outlet } from './outlet.js';
import { Publication } from './publication.js';
import { type Links, Router } from './router.js';
import { Sender } from './sender.js';
import type { Session } from './session.js';
import type { Gatherer, Peer, PeerHandler } from './transport.js';

/** Each connection is looked at once in this many ticks. */
const TICKS_PER_ROUND = 10;

/**
 * One mqtt shard: all connections and sessions of one thread, and what other threads tell it. It is driven from
 * outside: `accept` and the peers' bytes, `onFrame` for each frame, `flushTurn` at the end of each turn that asked
 * for it, `tick` ten times a second.
 */
export class Shard {
  readonly log: Log;
  readonly limits: Limits;
  readonly topicLimits: TopicLimits;
  readonly features: Features;
  readonly links: Links;
  readonly counters: CounterBlock;
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  readonly takeConnect: () => boolean;
  /** Nobody needs to be asked. */
  readonly permitsAll: boolean;
  readonly caller: Caller;
  readonly outbox: Outbox;
  readonly sender: Sender;
  readonly router: Router;
  readonly broker: BrokerPublisher;
  /** Filled anew for each PUBLISH that need not wait. */
  fast = new Publication();
  private readonly env: Env;
  private readonly wire: Wire;
  private readonly keys: HashKeys;
  private readonly schedule: () => void;
  private readonly connections: Connection[] = [];
  private readonly byId = new Map<number, Connection>();
  /** Connections that have ended and whose client ids are not let go yet, with those who wait for that. */
  private readonly leaving = new Map<number, (() => void)[]>();
  private readonly outlets = new Map<number, Outlet>();
  private readonly heldForRing: Connection[] = [];
  private finished: Outlet[] = [];
  private gatherers: Gatherer[] = [];
  private isTurnEnding = false;
  private lastId = 0;
  private ticks = 0;
  private readonly reader = new ByteReader();
  private readonly message = new Message();
  private draining = false;

  constructor(options: ShardOptions) {
    const { env, limits, wire, counters, links } = options;
    this.env = env;
    this.log = env.log;
    this.limits = limits;
    this.topicLimits = {
      levelsMax: limits.topicLevelsMax,
      levelBytesMax: limits.topicLevelBytesMax,
      topicBytesMax: limits.topicBytesMax,
    };
    this.features = options.features;
    this.links = links;
    this.wire = wire;
    this.counters = counters;
    this.keys = options.keys;
    this.authenticator = options.authenticator;
    this.authorizer = options.authorizer;
    this.takeConnect = options.takeConnect;
    this.permitsAll = options.authorizer === permitAll;
    this.schedule = options.schedule;
    this.caller = new Caller(wire, env.random.u32());
    this.outbox = new Outbox(this.schedule);
    this.sender = new Sender(this.outbox, counters);
    this.sender.nowMs = env.clock.wallMs();
    const wallMs = () => this.wallMs();
    this.router = new Router(links, this.caller, counters, this.keys, limits.topicCacheEntriesMax, wallMs);
    this.broker = new BrokerPublisher(this.router);
  }

  // -- connections -------------------------------------------------------------------------------------------

  readonly accept = (peer: Peer): PeerHandler => {
    this.lastId = (this.lastId % 0xffff_ffff) + 1;
    const connection = new Connection(this, peer, this.lastId);
    connection.place = this.connections.push(connection) - 1;
    this.byId.set(connection.id, connection);
    this.counters.values[CONNECTIONS + TRANSPORT_INDEX[peer.transport]]! += 1;
    if (this.draining) connection.close(); // its TLS or WebSocket handshake ended after the listener had closed
    return connection;
  };

  get connectionCount(): number {
    return this.connections.length;
  }

  /** The connection is closed. */
  forget(connection: Connection): void {
    const last = this.connections.pop()!;
    if (last !== connection) {
      this.connections[connection.place] = last;
      last.place = connection.place;
    }
    this.byId.delete(connection.id);
    this.counters.values[CONNECTIONS + TRANSPORT_INDEX[connection.remote.transport]]! -= 1;
  }

  sessionOpened(session: Session): void {
    const { outlet } = session;
    if (outlet !== null) this.outlets.set(outlet.instance, outlet);
    session.opened = true;
    this.counters.values[SESSIONS + (outlet === null ? 0 : 1)]! += 1;
  }

  /** The session's connection ended: its client id is let go when nothing of it is left here. */
  depart(session: Session, farewell: Farewell): void {
    const { outlet, tenant, clientId, connection } = session;
    if (outlet !== null && this.outlets.get(outlet.instance) === outlet) this.outlets.delete(outlet.instance);
    if (session.opened) this.counters.values[SESSIONS + (outlet === null ? 0 : 1)]! -= 1;
    this.leaves(connection.id);
    depart(session, farewell, () => this.letGo(tenant.name, clientId, connection.id));
  }

  /** The connection has ended but still owns its client id: who kicks it now waits for `letGo`. */
  leaves(connection: number): void {
    if (!this.leaving.has(connection)) this.leaving.set(connection, []);
  }

  /** Nothing of a connection's session is left here. */
  letGo(tenant: string, clientId: string, connection: number): void {
    this.caller.begin(OP.DICT_RELEASE, null).text(tenant).text(clientId).u32(connection);
    this.caller.send(this.links.main);
    const waiting = this.leaving.get(connection) ?? [];
    this.leaving.delete(connection);
    for (const done of waiting) done();
  }

  assignClientId(): string {
    let id = 'shoal-';
    for (let i = 0; i < 4; i++) id += this.env.random.u32().toString(36).padStart(7, '0');
    return id;
  }

  sourceKeyOf(clientId: string): number {
    const bytes = Buffer.from(clientId, 'utf8');
    return hashBytes(this.keys, bytes, 0, bytes.length) >>> 0;
  }

  logClient(connection: Connection, fields: object, message: string): void {
    const { remoteAddress, remotePort, transport } = connection.remote;
    const clientId = connection.session?.clientId;
    this.log.info({ ...fields, clientId, remoteAddress, remotePort, transport }, message);
  }

  // -- time --------------------------------------------------------------------------------------------------

  monotonicMs(): number {
    return this.env.clock.monotonicMs();
  }

  /** Wall clock when the work at hand began; a clock reading per message would cost as much as its decoding. */
  wallMs(): number {
    return this.sender.nowMs;
  }

  /** Work begins: bytes, frames or a tick. Monotonic milliseconds. */
  beginTurn(): number {
    this.sender.nowMs = this.env.clock.wallMs();
    return this.env.clock.monotonicMs();
  }

  /** Keep-alive and connect time-outs: a part of the connections each time. Gauges. */
  tick(): void {
    const nowMs = this.beginTurn();
    const { connections } = this;
    const part = this.ticks++ % TICKS_PER_ROUND;
    // Backwards, since a connection that is closed is replaced by the last one.
    for (let i = connections.length - 1; i >= 0; i--) {
      const connection = connections[i];
      if (connection === undefined || connection.id % TICKS_PER_ROUND !== part) continue;
      const silentMs = nowMs - connection.heardMs;
      if (connection.session === null) {
        if (silentMs > this.limits.connectTimeoutMs) connection.onConnectTimeout();
      } else if (connection.isHeld) {
        connection.heardMs = nowMs; // we do not listen, so silence says nothing
      } else if (connection.silenceMsMax > 0 && silentMs > connection.silenceMsMax) {
        connection.fail(
          REASON.keepAliveTimeout,
          'MQTT-3.1.2-22',
          'nothing came for one and a half times the keep-alive',
        );
      }
    }
    if (part === 0) this.readGauges();
    this.endTurn();
  }

  private readGauges(): void {
    const { values } = this.counters;
    let hits = 0;
    let misses = 0;
    let entries = 0;
    for (const { topics } of this.router.allTenants) {
      hits += topics.hits;
      misses += topics.misses;
      entries += topics.size;
    }
    let pending = 0;
    for (const { blocked, peer } of this.connections)
      if (blocked && peer !== null) pending += peer.pendingBytes;
    values[MATCH_CACHE_HITS] = hits;
    values[MATCH_CACHE_MISSES] = misses;
    values[MATCH_CACHE_ENTRIES] = entries;
    values[PENDING_BYTES] = pending;
    values[SOCKET_WRITES] = this.outbox.writes;
  }

  // -- turns -------------------------------------------------------------------------------------------------

  /** Something was done whose output is to leave at the turn's end. */
  endTurn(): void {
    if (!this.isTurnEnding) this.schedule();
  }

  /** A transport has bytes that belong to this turn and are handed over at its end. */
  awaitGathered(gatherer: Gatherer): void {
    this.gatherers.push(gatherer);
    this.schedule();
  }

  flushTurn(): void {
    this.sender.nowMs = this.env.clock.wallMs();
    const { gatherers } = this;
    if (gatherers.length > 0) {
      this.gatherers = [];
      this.isTurnEnding = true;
      for (const gatherer of gatherers) gatherer.deliverGathered();
      this.isTurnEnding = false;
    }
    const { finished } = this;
    if (finished.length > 0) {
      this.finished = [];
      for (const outlet of finished) outlet.flushFinished();
    }
    this.outbox.flush();
  }

  /** The outlet has finished messages that the inbox is to be told of at the turn's end. */
  reportFinished(outlet: Outlet): void {
    this.finished.push(outlet);
    this.schedule();
  }

  /** The fast publication is kept by somebody: another takes its place. */
  replaceFast(): void {
    this.fast = new Publication();
    this.outbox.received.keep();
  }

  // -- other threads -----------------------------------------------------------------------------------------

  /** A ring to another thread is full. */
  get congested(): boolean {
    return this.wire.congested;
  }

  /** Reading from this client stops until the rings have room. */
  holdReader(connection: Connection): void {
    if (connection.holdForRing()) this.heldForRing.push(connection);
  }

  /** A ring that was full has room again. */
  onDrained(): void {
    if (this.congested) return;
    for (const connection of this.heldForRing.splice(0)) connection.releaseFromRing();
  }

  /** A frame from another thread; the bytes are valid during the call only. */
  onFrame(peer: number, bytes: Buffer, start: number, end: number): void {
    const op = bytes[start]!;
    if (op === OP.REPLY) {
      this.caller.onReply(peer, bytes, start + 1, end);
      return;
    }
    const reader = this.reader.over(bytes, start + 1, end);
    const callId = reader.u32();
    switch (op) {
      case OP.SHARD_PUBLISH:
        return this.onForwarded(reader);
      case OP.INBOX_MESSAGES:
        return this.onMessages(reader);
      case OP.DIST_INVALIDATE:
        return this.onInvalidate(peer, callId, reader);
      case OP.SHARD_SHARED:
        return this.router.shared.onOffer(peer, callId, reader);
      case OP.DICT_KICK:
        return this.onKick(peer, callId, reader);
      case OP.INBOX_WILL:
        return this.onWill(peer, callId, reader);
      case OP.INBOX_ROUTES:
        return this.onRoutes(peer, callId, reader);
      case OP.SHARD_ANNOUNCE:
        return this.broker.publish(
          this.router.tenant(reader.text()),
          Publication.of(readMessage(reader, this.message)),
        );
      default:
        this.log.error({ op, peer }, 'a frame of an unknown kind was dropped');
    }
  }

  private onForwarded(reader: ByteReader): void {
    const tenant = this.router.tenant(reader.text());
    const publication = Publication.of(readMessage(reader, this.message));
    const { topicBytes } = publication;
    publication.topic = this.router.topicOf(tenant, topicBytes, 0, topicBytes.length);
    this.router.deliverLocals(publication, publication.topic, null);
  }

  private onMessages(reader: ByteReader): void {
    const outlet = this.outlets.get(reader.u53());
    const owner = reader.u32();
    if (outlet?.owner === owner) outlet.onMessages(reader);
  }

  private onInvalidate(peer: number, callId: number, reader: ByteReader): void {
    const tenant = this.router.tenant(reader.text());
    for (let n = reader.u32(); n > 0; n--) this.router.invalidate(tenant, reader.text());
    if (callId === 0) return;
    this.caller.beginReply(callId, STATUS.OK);
    this.caller.send(peer);
  }

  private onKick(peer: number, callId: number, reader: ByteReader): void {
    reader.text();
    reader.text();
    const id = reader.u32();
    const life = this.caller.lifeOf(peer);
    const done = () => this.caller.reply(peer, life, callId, STATUS.OK);
    const connection = this.byId.get(id);
    if (connection !== undefined) {
      this.counters.values[TAKEOVERS]! += 1;
      this.leaves(id);
      this.leaving.get(id)!.push(done);
      connection.takenOver();
      return;
    }
    const waiting = this.leaving.get(id);
    if (waiting === undefined) done();
    else waiting.push(done);
  }

  private onWill(peer: number, callId: number, reader: ByteReader): void {
    const tenant = this.router.tenant(reader.text());
    reader.text();
    reader.u53();
    const publication = Publication.of(readMessage(reader, this.message));
    publication.publishedAtMs = this.wallMs();
    publication.replyPeer = peer;
    publication.replyLife = this.caller.lifeOf(peer);
    publication.replyCall = callId;
    this.counters.values[WILLS]! += 1;
    this.broker.publish(tenant, publication);
  }

  private onRoutes(peer: number, callId: number, reader: ByteReader): void {
    const tenant = this.router.tenant(reader.text());
    const clientId = reader.text();
    reader.u53();
    const life = this.caller.lifeOf(peer);
    this.router.routes.settle(tenant, clientId, reader, this.topicLimits, stored =>
      this.caller.reply(peer, life, callId, stored ? STATUS.OK : STATUS.UNAVAILABLE),
    );
  }

  /** The thread behind a mesh peer died; its successor is in place already. */
  peerLost(peer: number): void {
    if (peer === this.links.dist) {
      this.router.routes.repeatAll(this.router.allTenants);
      this.router.invalidateAll();
    }
    this.caller.peerLost(peer);
    if (peer === this.links.inbox)
      for (const outlet of [...this.outlets.values()]) outlet.session.onStoreLost();
    if (peer === this.links.main) for (const connection of [...this.connections]) connection.close();
    this.onDrained();
    this.endTurn();
  }

  // -- the end -----------------------------------------------------------------------------------------------

  /** Ends all connections: MQTT 5 clients are told 0x8B; wills are published as the setting says. */
  drain(farewell: Farewell): void {
    if (this.draining) return;
    this.draining = true;
    for (const connection of [...this.connections])
      connection.disconnect(REASON.serverShuttingDown, 'the server shuts down', farewell);
    this.endTurn();
  }

  /** An invariant broke: nothing of this shard may be trusted, so its sockets close without a word to it. */
  halt(): void {
    for (const connection of this.connections) connection.halt();
  }

  /** Nothing is under way any more. */
  get idle(): boolean {
    return this.connections.length === 0 && this.caller.waitingCount === 0 && this.broker.pendingCount === 0;
  }
}
