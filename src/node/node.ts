/**
 * Room `node`: puts the modules together. This file is a whole broker on one machine.
 *
 *   config*.ts, security.ts    what is wanted, and whether it is safe to serve so
 *   thread-plan.ts, threads.ts how many threads, on which CPUs; one thread through all its lives
 *   mqtt-worker.ts             a thread that owns connections; listeners.ts opens its sockets
 *   store-worker.ts            a thread that owns ranges: routes (match), sessions and retained messages (apply)
 *   kv-thread.ts, kv-host.ts, kv-desk.ts, load-meter.ts   what makes its ranges a store of the cluster
 *   cluster*.ts                this node as a host of its cluster, and what an operator sees and does there
 *   kv-relay.ts, kv-store-thread.ts   what the stores of this node and those of others say to each other, by way of main
 *   kv-standing.ts, kv-begun.ts   when this node's stores may change anything, and begin something; kv-access.ts: calls
 *   kv-view.ts, kv-*routes.ts, kv-*commands.ts, kv-doctor.ts, kv-probe.ts, kv-rules.ts   what an operator sees of the storage, and does there
 *   rpc-*.ts, node-service.ts, peers.ts   the services of this node; what nodes ask each other about themselves
 *   service*.ts, traffic.ts    what an operator sees of services, and which servers get whose calls
 *   finding.ts, doctor-calls.ts   what the doctor says, and what it says of calls
 *   admin*.ts, http.ts         the local port for that: token, server, client
 *   listener-watch.ts, descriptors.ts  how many clients may come, and who is told when they may not
 *   metrics-server.ts, sys-topics.ts, vitals.ts, ring-metrics.ts   what can be watched
 *
 * Main thread: the data directory's lock and lineage, worker threads, session directory, cluster, metrics, `$SYS`.
 * Worker threads, in the mesh by index: main 0, then mqtt, match and apply threads. It starts from the bottom (stores,
 * then the cluster, then mqtt threads, then their listeners), and stops from the top: clients are sent away, then the
 * other hosts hear a goodbye.
 *
 * A node that an operator evicts from the cluster goes on serving its own clients, alone. The word is about the cluster:
 * nothing that its clients were promised depends on other nodes, and a process that ends would be started again by its
 * supervisor, which is how an evicted node comes back.
 *
 * Invariants
 * - Main handles control messages and the session directory's frames, never a PUBLISH.
 * - A listener is opened only when every thread below it serves, and every listener is closed before any store is.
 * - The ports of TCP and TLS belong to main (shared-port.ts), so a shard's death closes no port; clients wait in the
 *   kernel's queue for the successor.
 * - Whatever `start` opened is owned by one Scope, and closed in reverse also when `start` fails half-way.
 *
 * A thread that dies is started again with fresh rings. All others are told by `peer-replaced`: what they waited for
 * from it is lost, asked again, or ends in closed connections, so that nothing is acknowledged that is not kept.
 * A thread that dies more than RESTARTS_MAX times in a minute makes the node unhealthy; it is tried again each second.
 */
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { Piscina } from 'piscina';
import type { Env, Log } from '../base/env.js';
import { ShoalError } from '../base/errors.js';
import {
  CONNECTIONS,
  CONNECTIONS_MAX,
  CounterBlock,
  LOOP_UTILIZATION,
  THREAD_RESTARTS,
  total,
} from '../base/metrics.js';
import { type Closable, Scope } from '../base/scope.js';
import { DataDir } from '../kv/io/data-dir.js';
import { Lineage } from '../kv/io/lineage.js';
import { admissionMemory, vacate } from '../mqtt/admission.js';
import { openSharedPort, type SharedPort } from '../mqtt/io/shared-port.js';
import type { Links } from '../mqtt/router.js';
import { openAuth } from '../plugin/io/auth.js';
import { SessionDict } from '../session-dict/session-dict.js';
import { AsyncBell } from '../shard/io/async-bell.js';
import { TurnLoop } from '../shard/io/loop.js';
import { createMesh, Mesh, type MeshMemory } from '../shard/mesh.js';
import { formatAddress } from '../underlay/io/address.js';
import { openAdminServer } from './admin-server.js';
import { announceUrl, renewToken } from './admin-token.js';
import { type Cluster, makeCluster, type NodeLoad } from './cluster.js';
import { isClustered } from './cluster-config.js';
import { clusterRoutes } from './cluster-routes.js';
import type { Config } from './config.js';
import { allowedCpus } from './cpus.js';
import { connectionsThatFit, watchDescriptors } from './descriptors.js';
import { listenerHint, reachable } from './hint.js';
import type { HttpListener } from './http.js';
import { KvBegun } from './kv-begun.js';
import { kvMetrics } from './kv-metrics.js';
import { examineKv } from './kv-probe.js';
import { KvRelay, LONE_STANDING } from './kv-relay.js';
import { kvRoutes } from './kv-routes.js';
import { RulesKeeper } from './kv-rules.js';
import { type NodeStatus, openMetricsServer } from './metrics-server.js';
import type { AdmissionInput, Opened } from './mqtt-worker.js';
import { sampleRings } from './ring-metrics.js';
import { isLoopback, LISTENER_KINDS, type ListenerKind } from './security.js';
import { serviceRoutes } from './service-routes.js';
import { SysTopics } from './sys-topics.js';
import { planThreads, type ThreadPlan } from './thread-plan.js';
import { openPool, type Role, Thread } from './threads.js';
import { packageVersion } from './version.js';
import { startVitals, type Vitals } from './vitals.js';

/** A broker that accepts clients. */
export interface RunningNode {
  readonly listeners: readonly {
    readonly kind: ListenerKind;
    readonly host: string;
    readonly port: number;
    /** How to try it. */
    readonly hint: string;
  }[];
  /** Port of the metrics server; 0 when it is off. */
  readonly metricsPort: number;
  /** Where other hosts of the cluster reach this one; undefined when it is in none. */
  readonly clusterAddress: string | undefined;
  /** Sends clients away, flushes storage, ends all threads. */
  stop(): Promise<void>;
}

const CLOCK = { wallMs: () => Date.now(), monotonicMs: () => performance.now() };
const RANDOM = { u32: () => randomBytes(4).readUInt32LE(0) };
const MAIN = 0;
const TRANSPORTS = LISTENER_KINDS.length;
const SAMPLE_MS = 1000;
const RESTARTS_MAX = 5;
const RESTART_WINDOW_MS = 60_000;
const RESTART_DELAY_MS = 1000;

/** Starts a node; throws a ShoalError, with everything closed again, when it cannot serve. */
export async function startNode(config: Config, log: Log): Promise<RunningNode> {
  const node = new Node(config, log);
  try {
    return await node.start();
  } catch (error) {
    await node.abort();
    throw error;
  }
}

class Node {
  private readonly config: Config;
  private readonly log: Log;
  private readonly scope = new Scope();
  private readonly plan: ThreadPlan;
  private readonly memory: MeshMemory;
  private admission: AdmissionInput;
  private readonly mesh: Mesh;
  private readonly loop: TurnLoop;
  private readonly dict: SessionDict;
  private readonly relay: KvRelay;
  private readonly threads: Thread[] = [];
  private readonly pools: Piscina[] = [];
  private readonly block = new CounterBlock();
  private readonly hashSeed = randomBytes(4).readInt32LE(0);
  private readonly deaths = new Map<Thread, number[]>();
  private readonly down = new Set<string>();
  private opened: readonly Opened[] = [];
  private readonly shared = new Map<ListenerKind, SharedPort>();
  /** The apply thread is to have all routes told to the match thread again. */
  private remaking = false;
  private ready = false;
  private stopping: Promise<void> | undefined;
  private cluster: Cluster | undefined;
  private readonly env: Env;

  constructor(config: Config, log: Log) {
    this.config = config;
    this.log = log;
    this.plan = planThreads(config.threads, allowedCpus());
    const { mqtt, match, apply } = this.plan;
    const { connectionsMax } = config.limits;
    this.admission = { memory: admissionMemory(mqtt), connectionsMax, descriptorsAreFewer: false };
    this.memory = createMesh(1 + mqtt + match + apply);
    const part = this.memory.part(MAIN);
    this.mesh = new Mesh(part, new AsyncBell(part), (peer, bytes, start, end) => {
      // The other threads are stores, which have no sessions.
      if (peer <= mqtt) this.dict.onFrame(peer, bytes, start, end);
      else this.relay.onFrame(peer, bytes, start, end);
    });
    this.dict = new SessionDict((peer, bytes, start, end) => void this.mesh.send(peer, bytes, start, end));
    this.loop = new TurnLoop(this.mesh, () => undefined);
    this.scope.own({ close: () => this.mesh.close() });
    this.scope.own({ close: () => this.loop.close() });
    this.env = { clock: CLOCK, log, random: RANDOM };
    this.relay = this.scope.own(this.makeRelay());
  }

  private makeRelay(): KvRelay {
    const { mesh } = this;
    const wire = {
      send: (peer: number, bytes: Uint8Array, start: number, end: number) => {
        mesh.send(peer, bytes, start, end);
        this.loop.schedule();
      },
      congested: (peer: number) => mesh.port(peer)?.congested ?? false,
      depthBytes: (peer: number) => mesh.port(peer)?.depthBytes ?? 0,
    };
    mesh.onDrained = peer => this.relay.drained(peer);
    return new KvRelay(this.env, wire, isClustered(this.config) ? undefined : LONE_STANDING);
  }

  async start(): Promise<RunningNode> {
    const { config, scope, log, env } = this;
    scope.own(new DataDir(config.node.dataDir));
    if (isClustered(config)) this.relay.remember(new KvBegun(config.node.dataDir, log));
    const isTold = () => !isClustered(config) || this.relay.access !== undefined;
    scope.own(new RulesKeeper(config.node.dataDir, this.relay, log, isTold));
    const lineage = scope.own(new Lineage(config.node.dataDir, 'apply-0', 'match-0'));
    // Read once here, so that a bad file is one error and not one per thread.
    await (await openAuth(config, env)).close();
    const vitals = scope.own(startVitals(this.block));
    scope.own(watchDescriptors(log));
    const sampling = setInterval(() => sampleRings(this.mesh, this.block), SAMPLE_MS);
    scope.own({ close: () => clearInterval(sampling) });
    const cluster = isClustered(config)
      ? scope.own(await makeCluster(config, env, () => this.loadOf(vitals), this.relay))
      : undefined;
    this.cluster = cluster;
    const metrics = config.metrics.enabled ? scope.own(await this.openMetrics()) : undefined;
    this.open('mqtt', this.plan.mqtt, 1);
    this.open('match', this.plan.match, 1 + this.plan.mqtt);
    this.open('apply', this.plan.apply, 1 + this.plan.mqtt + this.plan.match);
    const settled = lineage.remake ? this.remakeRoutes() : undefined;
    await Promise.all(this.with('match', 'apply').map(thread => this.launch(thread)));
    lineage.begun();
    this.remaking = false;
    await cluster?.start();
    if (config.admin.enabled === true) await this.openAdmin();
    this.limitConnections();
    await Promise.all(this.with('mqtt').map(thread => this.launch(thread)));
    if (settled !== undefined) await this.unlessDead(settled);
    await this.openShared();
    for (const thread of this.with('mqtt')) this.opened = await this.listen(thread);
    scope.own(this.startSys());
    this.ready = true;
    return {
      listeners: this.opened.map(({ kind, host, port }) => ({
        kind,
        host,
        port,
        hint: listenerHint(config, kind, host, port),
      })),
      metricsPort: metrics?.port ?? 0,
      clusterAddress: cluster?.address,
      stop: () => (this.stopping ??= this.stop()),
    };
  }

  /** Connections must run out before descriptors do; see `ListenerCounters.acceptErrors`. */
  private limitConnections(): void {
    const { connectionsMax } = this.config.limits;
    const fitting = connectionsThatFit(this.plan.mqtt);
    this.admission = {
      ...this.admission,
      connectionsMax: Math.min(connectionsMax, fitting),
      descriptorsAreFewer: fitting < connectionsMax,
    };
    this.block.values[CONNECTIONS_MAX] = this.admission.connectionsMax;
  }

  // -- threads -----------------------------------------------------------------------------------------------

  private open(role: Role, count: number, firstPeer: number): void {
    const pool = openPool(role, count);
    this.pools.push(pool);
    for (let i = 0; i < count; i++) this.threads.push(new Thread(role, i, firstPeer + i, pool, this.log));
  }

  private with(...roles: Role[]): Thread[] {
    return this.threads.filter(({ role }) => roles.includes(role));
  }

  private async launch(thread: Thread): Promise<void> {
    await thread.start(this.inputOf(thread));
    thread.ended.then(
      end => this.onEnd(thread, end.kind === 'failed' ? `${end.code}: ${end.message}` : 'it ended'),
      error => this.onEnd(thread, error),
    );
  }

  private inputOf(thread: Thread): object {
    const { config, hashSeed } = this;
    const part = this.memory.part(thread.peer);
    const cpu = this.plan.cpuOf(thread.peer);
    if (thread.role === 'mqtt')
      return { config, hashSeed, part, cpu, admission: this.admission, links: this.linksOf(thread.index) };
    const mqttPeers = this.with('mqtt').map(({ peer }) => peer);
    const tellRoutes = this.remaking;
    return { config, hashSeed, part, cpu, role: thread.role, index: thread.index, mqttPeers, tellRoutes };
  }

  /**
   * Resolves when the match thread has all routes; before, a message for a session may not find it. 20,000 sessions of two
   * subscriptions each took 6 s on 2 cores.
   */
  private remakeRoutes(): Promise<void> {
    const { dataDir } = this.config.node;
    this.log.warn(
      { dataDir },
      'match-0 is not of one age with apply-0: its routes are made again from there',
    );
    this.remaking = true;
    const [apply] = this.with('apply');
    return new Promise(resolve => {
      apply!.onReport = report => report.kind === 'routes-settled' && resolve();
    });
  }

  /** Waits for something that never comes when a thread dies. */
  private async unlessDead(settled: Promise<void>): Promise<void> {
    const deaths = this.threads.map(async ({ name, ended }) => {
      await ended;
      throw new Error(`thread ${name} ended before the node was ready`);
    });
    await Promise.race([settled, ...deaths]);
  }

  private linksOf(shard: number): Links {
    const [match] = this.with('match');
    const [apply] = this.with('apply');
    return {
      node: this.config.node.name,
      shard,
      shards: this.with('mqtt').map(({ peer }) => peer),
      main: MAIN,
      dist: match!.peer,
      inbox: apply!.peer,
      retain: apply!.peer,
    };
  }

  /** Binds the ports of TCP and TLS here, so that they outlive any shard; WebSockets share theirs by themselves. */
  private async openShared(): Promise<void> {
    const { listeners } = this.config;
    for (const kind of ['tcp', 'tls'] as const) {
      if (!listeners[kind].enabled) continue;
      const port = await openSharedPort(kind, listeners[kind].host, listeners[kind].port);
      if (port !== undefined) this.shared.set(kind, this.scope.own(port));
    }
  }

  /** A descriptor of its own for one shard, for each shared port. */
  private async descriptors(): Promise<Opened[]> {
    const opened: Opened[] = [];
    for (const [kind, shared] of this.shared) {
      const { host } = this.config.listeners[kind];
      opened.push({ kind, host, port: shared.port, fd: await shared.descriptor() });
    }
    return opened;
  }

  private async listen(thread: Thread): Promise<readonly Opened[]> {
    const answer = thread.next('listening', 'listen-failed');
    const others = this.opened.filter(({ kind }) => !this.shared.has(kind));
    thread.send({ kind: 'listen', opened: [...(await this.descriptors()), ...others] });
    const died = thread.ended.then(() => {
      throw new Error(`thread ${thread.name} ended before it listened`);
    });
    const report = await Promise.race([answer, died]);
    if (report.kind === 'listen-failed') throw new ShoalError(report.code, report.message);
    return this.opened.length > 0 ? this.opened : report.opened;
  }

  private onEnd(thread: Thread, error: unknown): void {
    if (this.stopping !== undefined || !this.ready) return;
    this.log.error({ thread: thread.name, err: error }, 'a thread died and is started again');
    this.block.values[THREAD_RESTARTS]! += 1;
    this.down.add(thread.name);
    this.restart(thread).catch(failure => {
      this.log.error({ thread: thread.name, err: failure }, 'the thread does not start');
      setTimeout(() => this.onEnd(thread, failure), RESTART_DELAY_MS).unref();
    });
  }

  /** The successor gets fresh rings; everybody else is told before it starts. */
  private async restart(thread: Thread): Promise<void> {
    thread.bury();
    this.relay.peerLost(thread.peer);
    if (thread.role === 'mqtt') vacate(this.admission.memory, thread.index);
    const nowMs = performance.now();
    const recent = (this.deaths.get(thread) ?? []).filter(atMs => nowMs - atMs < RESTART_WINDOW_MS);
    this.deaths.set(thread, [...recent, nowMs]);
    if (recent.length > 0) await new Promise(resolve => setTimeout(resolve, RESTART_DELAY_MS));
    this.memory.renew(thread.peer);
    this.mesh.replace(thread.peer, this.memory.link(MAIN, thread.peer));
    this.dict.peerLost(thread.peer);
    this.loop.schedule();
    for (const other of this.threads) {
      if (other === thread) continue;
      other.send({
        kind: 'peer-replaced',
        peer: thread.peer,
        link: this.memory.link(other.peer, thread.peer),
      });
    }
    await this.launch(thread);
    if (thread.role === 'mqtt') await this.listen(thread);
    this.down.delete(thread.name);
    this.log.info({ thread: thread.name }, 'the thread runs again');
  }

  // -- watching ----------------------------------------------------------------------------------------------

  private openMetrics(): Promise<HttpListener> {
    const { host, port } = this.config.metrics;
    const threads = () => [
      { thread: 'main', block: this.block },
      ...this.threads.map(({ name, block }) => ({ thread: name, block })),
    ];
    const more = this.cluster === undefined ? [] : [...this.cluster.metrics, ...kvMetrics(this.relay)];
    return openMetricsServer({ host, port, threads, status: () => this.status(), more });
  }

  private loadOf(vitals: Vitals): NodeLoad {
    const blocks = [this.block, ...this.threads.map(({ block }) => block)];
    return {
      connections: total(blocks, CONNECTIONS, TRANSPORTS),
      utilization: Math.max(...blocks.map(({ values }) => values[LOOP_UTILIZATION]!)),
      loopDelayMs: vitals.loopDelayMs(),
    };
  }

  private async openAdmin(): Promise<void> {
    const { config, scope, log, cluster } = this;
    const { host, port } = config.admin;
    const { dataDir } = config.node;
    const token = renewToken(dataDir);
    const { relay } = this;
    const { clock } = this.env;
    const kv = kvRoutes(relay, clock);
    const examine = () => examineKv(relay, clock);
    const routes = new Map([...clusterRoutes(cluster, examine), ...serviceRoutes(cluster), ...kv]);
    const server = scope.own(await openAdminServer({ host, port, token, routes }));
    if (!isLoopback(host)) log.warn({ host }, 'the token of the administration port travels in the clear');
    scope.own(announceUrl(dataDir, `http://${formatAddress(reachable(host), server.port)}`));
  }

  private status(): NodeStatus {
    const reasons = [...this.down].map(name => `thread ${name} is down`);
    const healthy = ![...this.deaths.values()].some(times => times.length > RESTARTS_MAX);
    if (this.stopping !== undefined) reasons.push('the node is stopping');
    else if (!this.ready) reasons.push('the node is starting');
    return { healthy, ready: reasons.length === 0, reasons };
  }

  private startSys(): Closable {
    const { intervalSeconds } = this.config.sys;
    if (intervalSeconds === 0) return { close: () => undefined };
    const topics = new SysTopics(packageVersion(), Date.now());
    const [shard] = this.with('mqtt');
    const publish = () => {
      const blocks = [this.block, ...this.threads.map(({ block }) => block)];
      topics.publish(blocks, Date.now(), (bytes, end) => void this.mesh.send(shard!.peer, bytes, 0, end));
      this.loop.schedule();
    };
    publish();
    const timer = setInterval(publish, intervalSeconds * 1000);
    return { close: () => clearInterval(timer) };
  }

  // -- the end -----------------------------------------------------------------------------------------------

  private async stop(): Promise<void> {
    const shards = this.with('mqtt');
    // One that is dead, or dies now, has nothing to drain.
    const drained = shards.map(shard =>
      Promise.race([shard.next('drained'), shard.ended]).catch(() => undefined),
    );
    for (const shard of shards) shard.send({ kind: 'drain' });
    await Promise.all(drained);
    await this.cluster?.leave();
    await this.abort();
  }

  /** Ends all threads, top first, and closes everything. */
  async abort(): Promise<void> {
    this.stopping ??= Promise.resolve();
    await Promise.all(this.with('mqtt').map(thread => thread.stop()));
    this.relay.close();
    await Promise.all(this.with('match', 'apply').map(thread => thread.stop()));
    await Promise.all(this.pools.map(pool => pool.destroy()));
    await this.scope.close();
  }
}
