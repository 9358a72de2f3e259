import { setTimeout as sleep } from 'node:timers/promises';
import { ByteReader } from '../base/bytes.js';
import type { Env } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import { OP } from '../contract/contract.js';
import { accountKey, decodeReplica } from '../kv/balance/account-codec.js';
import { Board, type Publication } from '../kv/balance/board.js';
import { decodeAnswer, encodeOrder } from '../kv/balance/order.js';
import { kvService, serverIdOf } from '../kv/remote/service.js';
import { StoreLinks } from '../kv/remote/store-links.js';
import type { AgentOutput } from '../overlay/agent.js';
import { type RpcResult, rpcFailure } from '../rpc/failure.js';
import type { AgentHost, Rpc, RunningServer } from '../rpc/rpc.js';
import { KvAccess, KvMap } from './kv-access.js';
import type { KvBegun } from './kv-begun.js';
import { type KvStanding, KvStoreThread, type RelayWire } from './kv-store-thread.js';

/** What connects the stores of this node with others. */
export interface KvCluster {
  readonly rpc: Rpc;
  readonly overlay: AgentHost;
  /** The overlay has something to send: have it driven. */
  overlayUsed(): void;
}

/** Of a node that is in no cluster, and never looks for one: its stores see themselves and begin nothing. */
export const LONE_STANDING: KvStanding = { isSettled: false, self: 1, hosts: new Set([1]) };

interface Uplink extends KvCluster {
  readonly links: StoreLinks;
  readonly map: KvMap;
  readonly access: KvAccess;
}

interface OwnStore {
  readonly thread: KvStoreThread;
  server: RunningServer | undefined;
}

/**
 * Main's side of the replicated storage: the stores are threads of this node, and what they say to other nodes and hear
 * from them goes through here as bytes that nobody opens (contract/kv-relay.ts).
 *
 * | what | way |
 * | --- | --- |
 * | frames of stores | ring → StoreLinks → stream `frames` of the other's server → ring; straight to the ring in the same node |
 * | attempts of callers | stream `calls` → KV_CALL → the thread; KV_ANSWERS back. Main numbers the callers |
 * | orders | `steer` → KV_STEER with a callId → its reply. By ring alone for a store of this node |
 * | accounts and rules | KV_PUBLISH → map `stores` of agent `kv` → KV_HEARD at every store thread, and the board here |
 *
 * Each store thread is a server of `kv` from its KV_OPEN to its death, under an id that is its store's: it lasts as long
 * as the data, so others find the successor of a thread, and of a process, where they expect it.
 *
 * Without a cluster, and in a node that has left one or was put out, the map is one of this node alone, so that its own
 * stores can be looked at; there are no servers, no links, and no calls.
 *
 * Limits: see kv-store-thread.ts for what goes to a thread. What a store sends waits where its stream is full, up to the
 * bound of StoreLinks; its answers hold up the reading of the caller that does not take them.
 */
export class KvRelay implements Closable {
  /** All stores of the cluster, and their ranges. */
  readonly board: Board;
  private readonly env: Env;
  private readonly wire: RelayWire;
  private readonly byPeer = new Map<number, OwnStore>();
  private readonly byStore = new Map<number, OwnStore>();
  private readonly reader = new ByteReader();
  private readonly callers = { last: 0 };
  /** The shared map of a node that is in no cluster. */
  private readonly lone = new Map<string, Uint8Array>();
  private standing: KvStanding | undefined;
  private begun: KvBegun | undefined;
  /** Ranges of the shared map whose service is known here. */
  private readonly known = new Set<number>();
  private uplink: Uplink | undefined;

  /** `standing`: as at {@link standingIs}; undefined while it is not known yet, and stores wait for it. */
  constructor(env: Env, wire: RelayWire, standing?: KvStanding) {
    this.env = env;
    this.wire = wire;
    this.board = new Board(env.clock);
    if (standing !== undefined) this.standingIs(standing);
  }

  /** Stores of this node that are open now. */
  get ownStores(): readonly number[] {
    return [...this.byStore.keys()];
  }

  /** For calls of this node's own; undefined without a cluster. */
  get access(): KvAccess | undefined {
    return this.uplink?.access;
  }

  /** Frames that were dropped: from this node to others, and from others to its threads. */
  get dropped(): { readonly out: number; readonly in: number } {
    let within = 0;
    for (const { thread } of this.byPeer.values()) within += thread.dropped;
    return { out: this.uplink?.links.dropped ?? 0, in: within };
  }

  // -- The cluster -------------------------------------------------------------------------------------------

  /** The node's services are open: its stores are served from now on. */
  join(cluster: KvCluster): void {
    const { rpc, overlay } = cluster;
    const { env, board } = this;
    // What a broken stream says the stores find out themselves.
    const links = new StoreLinks(rpc.client(kvService), () => undefined);
    const map = new KvMap(overlay, board, keys => this.changed(keys));
    const access = new KvAccess({ env, rpc, board });
    this.uplink = { ...cluster, links, map, access };
    this.noteBegun(map.keys());
    for (const own of this.byPeer.values()) {
      this.serve(own);
      own.thread.hear(map.keys());
    }
  }

  /** The underlay's view, or what this node is in it, has changed. */
  standingIs(standing: KvStanding): void {
    this.standing = standing;
    this.board.hostsAre(standing.hosts);
    for (const { thread } of this.byPeer.values()) this.tellStanding(thread);
    this.access?.changed();
  }

  private tellStanding(thread: KvStoreThread): void {
    if (this.standing !== undefined) thread.standingIs({ ...this.standing, begun: this.begunServices });
  }

  /** Services of which this node has ever seen a range with something in it. */
  get begunServices(): ReadonlySet<number> {
    return this.begun?.all ?? NONE;
  }

  /** What was seen to have begun is kept there; stores that open afterwards are told. */
  remember(begun: KvBegun): void {
    this.begun = begun;
  }

  /** To be told of everything; what is not of the stores' agent is passed over. */
  onAgentOutput(output: AgentOutput): void {
    this.uplink?.map.onAgentOutput(output);
  }

  /** This node is in the cluster no more: nobody is served, and its stores see themselves alone. */
  part(standing: KvStanding): void {
    this.leave();
    this.standingIs(standing);
  }

  private leave(): void {
    const { uplink } = this;
    if (uplink === undefined) return;
    for (const own of this.byPeer.values()) {
      own.server?.close();
      own.server = undefined;
    }
    for (const key of uplink.map.keys()) this.lone.set(key, uplink.map.get(key)!);
    this.uplink = undefined;
    uplink.access.close();
    uplink.links.close();
    uplink.map.close();
    uplink.overlayUsed();
  }

  private serve(own: OwnStore): void {
    const { thread } = own;
    own.server = this.uplink?.rpc.serve(kvService, thread.handlers(), { id: serverIdOf(thread.store) });
  }

  // -- The shared map ----------------------------------------------------------------------------------------

  /** Entries of the shared map are to be so. */
  publish(changes: readonly Publication[]): void {
    const { uplink, lone, board } = this;
    if (uplink !== undefined) {
      uplink.map.publish(changes);
      uplink.overlayUsed();
      return;
    }
    for (const { key, bytes } of changes) {
      if (bytes === undefined) lone.delete(key);
      else lone.set(key, bytes);
      board.hear(key, bytes);
    }
    this.changed(changes.map(({ key }) => key));
  }

  private changed(keys: readonly string[]): void {
    this.noteBegun(keys);
    for (const { thread } of this.byPeer.values()) thread.hear(keys);
    this.access?.changed();
  }

  /** Each range is looked at once. */
  private noteBegun(keys: Iterable<string>): void {
    const { begun, known } = this;
    if (begun === undefined) return;
    for (const key of keys) {
      const range = accountKey(key)?.range ?? 0;
      if (range === 0 || known.has(range)) continue;
      const bytes = this.entryOf(key);
      const account = bytes === undefined ? undefined : decodeReplica(bytes);
      // Ids of own ranges are none of the cluster's, and what nothing was written to may begin anew.
      if (account === undefined || account.sole || account.pristine) continue;
      if (known.size >= KNOWN_MAX) known.clear();
      known.add(range);
      if (!begun.add(account.boundary.start[0]!)) continue;
      for (const { thread } of this.byPeer.values()) this.tellStanding(thread);
    }
  }

  private readonly entryOf = (key: string): Uint8Array | undefined => {
    return this.uplink === undefined ? this.lone.get(key) : this.uplink.map.get(key);
  };

  // -- Store threads -----------------------------------------------------------------------------------------

  /** A frame of a store thread. */
  onFrame(peer: number, bytes: Uint8Array, start: number, end: number): void {
    const reader = this.reader.over(bytes, start, end);
    const op = reader.u8();
    const callId = reader.u32();
    if (op === OP.KV_OPEN) {
      this.open(peer, reader.f64());
      return;
    }
    const thread = this.byPeer.get(peer)?.thread;
    // What a thread has still said that is counted out already.
    if (thread === undefined) return;
    if (op === OP.KV_FRAME) this.route(reader);
    else if (op === OP.KV_ANSWERS) thread.answers(reader);
    else if (op === OP.KV_CALLER) thread.callerWants(reader);
    else if (op === OP.KV_PUBLISH) this.publish(publications(reader));
    else if (op === OP.REPLY) thread.steered(callId, reader);
  }

  private open(peer: number, store: number): void {
    this.peerLost(peer);
    const thread = new KvStoreThread({ peer, store }, this.wire, this.callers, this.entryOf);
    const own: OwnStore = { thread, server: undefined };
    this.byPeer.set(peer, own);
    this.byStore.set(store, own);
    this.serve(own);
    this.tellStanding(thread);
    thread.hear(this.uplink === undefined ? this.lone.keys() : this.uplink.map.keys());
  }

  private route(reader: ByteReader): void {
    const store = reader.f64();
    const frame = reader.raw(reader.remaining);
    const own = this.byStore.get(store);
    if (own !== undefined) own.thread.frame(frame);
    // A stream keeps what it is given, and this is a ring's.
    else this.uplink?.links.send(store, Buffer.from(frame));
  }

  /** The thread of a store died: its callers are told, and nobody finds it until its successor opens. */
  peerLost(peer: number): void {
    const own = this.byPeer.get(peer);
    if (own === undefined) return;
    this.byPeer.delete(peer);
    if (this.byStore.get(own.thread.store) === own) this.byStore.delete(own.thread.store);
    own.thread.close();
    own.server?.close();
  }

  /** The ring to a thread has room again. */
  drained(peer: number): void {
    this.byPeer.get(peer)?.thread.drained();
  }

  // -- Orders ------------------------------------------------------------------------------------------------

  /** Gives a store an order, once. It is never rejected. */
  steer(store: number, order: Uint8Array): Promise<RpcResult<Uint8Array>> {
    const own = this.byStore.get(store);
    if (own !== undefined) return new Promise(resolve => own.thread.steer(order, resolve));
    const { uplink } = this;
    if (uplink !== undefined) return uplink.rpc.client(kvService).steer.ask({ store, order });
    const failure = rpcFailure('server-not-found', 'this node is in no cluster, and has no such store');
    return Promise.resolve(failure);
  }

  /** Has the stores of this node hand over what they lead, and waits for it, but not for what nobody can take. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.uplink === undefined) return;
    const endMs = this.env.clock.monotonicMs() + timeoutMs;
    await Promise.all(this.ownStores.map(store => this.drainStore(store, endMs)));
  }

  private async drainStore(store: number, endMs: number): Promise<void> {
    const patience = new AbortController();
    const waitMs = Math.max(0, endMs - this.env.clock.monotonicMs());
    const tooLong = sleep(waitMs, undefined, { signal: patience.signal }).catch(() => undefined);
    while (this.env.clock.monotonicMs() < endMs) {
      const result = await Promise.race([this.steer(store, DRAIN), tooLong]);
      // Whatever is not under way will not be done by saying it again.
      if (result?.kind !== 'ok' || decodeAnswer(result.value)?.kind !== 'begun') break;
      await sleep(DRAIN_LOOK_MS);
    }
    patience.abort();
  }

  close(): void {
    this.leave();
    for (const peer of [...this.byPeer.keys()]) this.peerLost(peer);
  }
}

const DRAIN = encodeOrder({ kind: 'drain' });
const DRAIN_LOOK_MS = 50;

const NONE: ReadonlySet<number> = new Set();
const KNOWN_MAX = 65_536;

function publications(reader: ByteReader): Publication[] {
  const changes: Publication[] = [];
  for (let left = reader.u32(); left > 0; left--) {
    const key = reader.text();
    const isThere = reader.u8() === 1;
    const bytes = reader.blob();
    // The map keeps it, and this is a ring's.
    changes.push({ key, bytes: isThere ? Buffer.from(bytes) : undefined });
  }
  return changes;
}
