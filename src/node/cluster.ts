import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../base/assert.js';
import type { Env } from '../base/env.js';
import { HybridClock } from '../base/hlc.js';
import { type Closable, Scope } from '../base/scope.js';
import { Overlay } from '../overlay/overlay.js';
import { WatchedFile } from '../plugin/io/watched-file.js';
import type { RpcResult } from '../rpc/failure.js';
import type { Reply } from '../rpc/handler.js';
import type { Rpc } from '../rpc/rpc.js';
import type { Directive } from '../rpc/traffic.js';
import { parseAddress } from '../underlay/io/address.js';
import { UnderlayDriver } from '../underlay/io/driver.js';
import type { Address, HostId, HostRecord } from '../underlay/message.js';
import { DEFAULT_TIMING } from '../underlay/timing.js';
import { type HostEvent, Underlay } from '../underlay/underlay.js';
import { advertisedAddress } from './cluster-address.js';
import { isWildcard, readClusterKeys, readTls } from './cluster-config.js';
import { diagnose, type Known } from './cluster-doctor.js';
import { clusterMetrics } from './cluster-metrics.js';
import { reach, worthReaching } from './cluster-reach.js';
import {
  hostsInView,
  type MembersReport,
  membersReport,
  type Standing,
  withAnswers,
} from './cluster-view.js';
import type { Config } from './config.js';
import { isDeaf, type Peers } from './doctor-calls.js';
import type { Finding } from './finding.js';
import type { KvRelay } from './kv-relay.js';
import { KvStandings } from './kv-standing.js';
import { FINDINGS_MAX, type NodeReport, nodeService, serverIdOf } from './node-service.js';
import { type Answers, askReports, knock, peersOf } from './peers.js';
import type { CollectedMetric } from './prometheus.js';
import { RpcHost } from './rpc-host.js';
import { overlayMetrics, rpcMetrics } from './rpc-metrics.js';
import { type ServicesReport, servicesReport } from './services-view.js';
import { changeTraffic, type TrafficChange, type TrafficReport, trafficReport } from './traffic.js';
import { packageVersion } from './version.js';

/** A host by its name, or by its id where several have the name. */
export type WantedHost = { readonly name: string } | { readonly id: HostId };

export type Evicted =
  | { readonly kind: 'evicted'; readonly host: HostName }
  | { readonly kind: 'ambiguous'; readonly hosts: readonly HostName[] }
  | { readonly kind: 'unknown' }
  /** This node is in no cluster any more. */
  | { readonly kind: 'out'; readonly standing: Standing };

export interface HostName {
  readonly id: HostId;
  readonly name: string;
  readonly address: Address;
}

/** What it was told about hosts, counted by kind: `joined`, `suspected`, `gone_failed` … */
export type EventCounts = ReadonlyMap<string, number>;

/** How busy this process is, for others. */
export type NodeLoad = Pick<NodeReport, 'connections' | 'loopDelayMs' | 'utilization'>;

/** What runs for others may go on so long when this node goes, nor longer than a quarter of its time. */
const DRAIN_MS_MAX = 1_500;

const NO_ANSWERS: Answers = new Map();

/** Hosts that do not answer calls and are looked at more closely. */
const DEAF_MAX = 32;

/** How long its stores may take to hand over what they lead, nor longer than a quarter of its time. */
const HAND_OVER_MS_MAX = 3_000;

/** A goodbye takes about a second; a node that stops does not wait longer for it than this, nor than half its time. */
const LEAVE_MS_MAX = 4_000;

/** When a node that is still alone first says so, and how often then. */
const ALONE_FIRST_MS = 10_000;
const ALONE_EACH_MS = 60_000;

/** Ready to start; nothing is bound yet. Throws SHOAL_CLUSTER_KEY, SHOAL_CLUSTER_ADDRESS, SHOAL_TLS_CERTIFICATE. */
export async function makeCluster(
  config: Config,
  env: Env,
  load: () => NodeLoad,
  relay: KvRelay,
): Promise<Cluster> {
  const keys = readClusterKeys(config);
  const address = await advertisedAddress(config, env.log);
  return new Cluster(config, env, { keys, address, load, relay });
}

interface ClusterParts {
  readonly keys: readonly string[];
  readonly address: Address;
  readonly load: () => NodeLoad;
  readonly relay: KvRelay;
}

/**
 * This node as a host of its cluster: the underlay's machine with the overlay on it and their driver, the services for
 * other nodes, what an operator asks of them, and the events in plain words in the log.
 *
 * A node that was evicted, or has left, goes on serving its own clients, alone: the operator's word is about the
 * cluster, not about the clients, and whoever wants the process to end has a signal for that.
 */
export class Cluster implements Closable {
  readonly metrics: readonly CollectedMetric[];
  private readonly config: Config;
  private readonly env: Env;
  private readonly load: () => NodeLoad;
  private readonly relay: KvRelay;
  private readonly standings: KvStandings;
  private readonly machine: Overlay;
  private readonly driver: UnderlayDriver;
  private readonly counts = new Map<string, number>();
  private readonly files = new Scope();
  /** Those that are in use. */
  private keys: readonly string[];
  private standing: Standing = 'member';
  private services: RpcHost | undefined;
  private isStarted = false;
  private leaving: Promise<void> | undefined;
  private aloneTimer: NodeJS.Timeout | undefined;

  constructor(config: Config, env: Env, { keys, address, load, relay }: ClusterParts) {
    const { cluster, node } = config;
    const tls = readTls(config, 'cluster');
    const clock = new HybridClock();
    this.config = config;
    this.env = env;
    this.load = load;
    this.relay = relay;
    this.keys = keys;
    const underlay = new Underlay(
      {
        id: newHostId(),
        name: node.name,
        address,
        version: packageVersion(),
        environment: cluster.env,
        timing: {
          ...DEFAULT_TIMING,
          probeIntervalMs: cluster.probeIntervalMs,
          probeTimeoutMs: cluster.probeTimeoutMs,
          seedRetryMs: Math.min(DEFAULT_TIMING.seedRetryMs, cluster.seedRetryMsMax),
          seedRetryMaxMs: cluster.seedRetryMsMax,
        },
      },
      env,
    );
    this.machine = new Overlay({
      underlay,
      env,
      clock,
      // All agents here are those of services and of stores.
      listener: output => {
        this.services?.onAgentOutput(output);
        relay.onAgentOutput(output);
      },
    });
    this.driver = new UnderlayDriver(
      {
        machine: this.machine,
        env,
        clock,
        environment: cluster.env,
        sockets: { host: cluster.host, port: cluster.port, ...(tls === undefined ? {} : { tls }) },
        keys,
        seeds: cluster.seeds,
      },
      // The overlay takes its payloads and maps on the way; nobody uses others yet.
      { event: event => this.onEvent(event), payload: () => undefined, crdt: () => undefined },
    );
    const { machine, driver, counts } = this;
    this.standings = new KvStandings(
      machine,
      () => driver.seeds(),
      env.clock,
      standing => relay.standingIs(standing),
    );
    this.metrics = [
      ...clusterMetrics({ machine, driver, events: counts, standing: () => this.standing }),
      ...overlayMetrics(machine),
      ...rpcMetrics(() => this.services),
    ];
  }

  get address(): Address {
    return this.machine.self.address;
  }

  /** Binds the ports and begins to look for the others. Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED. */
  async start(): Promise<void> {
    // Whoever finds this host can call it.
    const services = await this.openServices();
    await this.driver.start();
    this.isStarted = true;
    this.standings.look();
    await this.watchFiles();
    this.aloneTimer = setTimeout(() => this.sayIfAlone(), ALONE_FIRST_MS);
    const { env, seeds } = this.config.cluster;
    this.env.log.info(
      { address: this.address, rpc: services.address, env, seeds, id: this.machine.self.id },
      'the cluster port is open',
    );
  }

  private async openServices(): Promise<RpcHost> {
    const { config, env, machine } = this;
    const { host, port } = config.rpc;
    const own = parseAddress(machine.self.address)!.host;
    const isElsewhere = config.cluster.advertise !== undefined || isWildcard(host);
    const services = await RpcHost.open({
      self: machine.self.id,
      version: packageVersion(),
      env,
      host: host.replace(/^\[(.*)\]$/, '$1'),
      port,
      announcedHost: isElsewhere ? own : host,
      tls: readTls(config, 'rpc'),
      overlay: machine,
      overlayUsed: () => this.driver.act(() => undefined),
    });
    this.services = services;
    const id = serverIdOf(machine.self.id);
    const handlers = { report: (_: unknown, reply: Reply<NodeReport>) => reply.done(this.ownReport()) };
    services.own(services.rpc.serve(nodeService, handlers, { id, groups: config.rpc.groups }));
    const overlayUsed = () => this.driver.act(() => undefined);
    this.relay.join({ rpc: services.rpc, overlay: machine, overlayUsed });
    return services;
  }

  /** Hosts with another key are not answered at all, so nobody tells this one why it stays alone. */
  private sayIfAlone(): void {
    this.aloneTimer = setTimeout(() => this.sayIfAlone(), ALONE_EACH_MS);
    const { seeds } = this.config.cluster;
    const asked = this.machine.seedStates().filter(({ answeredMs, tries }) => answeredMs === 0 && tries > 1);
    if (this.standing !== 'member' || this.machine.hosts().length > 1 || asked.length === 0) return;
    this.env.log.warn(
      { seeds, asked: asked.length },
      'alone: no seed answers. It is not started, or UDP and TCP do not reach it, or it has another cluster.key; "shoalmq cluster doctor" looks closer',
    );
  }

  /** Certificates and keys that are renewed on disk are taken from then on. */
  private async watchFiles(): Promise<void> {
    const { keyFile, previousKeyFile } = this.config.cluster;
    for (const file of [keyFile, previousKeyFile]) {
      if (file === undefined) continue;
      this.files.own(await WatchedFile.open(file, () => this.renewKeys(), this.env.log));
    }
    const renewals = {
      cluster: () => this.driver.renewTls(readTls(this.config, 'cluster')!),
      rpc: () => this.services?.renewTls(readTls(this.config, 'rpc')!),
    };
    for (const section of ['cluster', 'rpc'] as const) {
      for (const file of Object.values(this.config[section].tls)) {
        if (file === undefined) continue;
        this.files.own(await WatchedFile.open(file, renewals[section], this.env.log));
      }
    }
  }

  private renewKeys(): void {
    const keys = readClusterKeys(this.config);
    if (keys.join('\n') === this.keys.join('\n')) return;
    this.driver.renewKeys(keys);
    this.keys = keys;
  }

  // -- For the operator --------------------------------------------------------------------------------------

  /** What this node knows by itself. */
  view(): MembersReport {
    const { machine, config, standing, env } = this;
    return membersReport(machine, config.cluster.env, standing, env.clock.wallMs());
  }

  /** The same with what the others say of themselves; those that do not answer take a second and a half. */
  async members(): Promise<MembersReport> {
    const answers = await this.ask();
    return withAnswers(this.view(), answers);
  }

  /** Asks the others, and tries the TCP ports of those that look ill, so it may take some seconds. */
  async doctor(): Promise<Finding[]> {
    const [asked, reached] = await Promise.all([this.ask(), reach(worthReaching(this.known()))]);
    const deaf = [...this.peers(asked)].filter(([, peer]) => isDeaf(peer)).slice(0, DEAF_MAX);
    // Others were tried just now.
    const refused = deaf.filter(([, { answer }]) => answer?.kind === 'unavailable');
    const [ports, again] = await Promise.all([
      reach(deaf.map(([, { address }]) => address!)),
      Promise.all(refused.map(([host, { address }]) => this.knock(host, address!))),
    ]);
    const answers = new Map([...asked, ...again]);
    const known = this.known();
    const report = withAnswers(known.report, answers);
    const peers = this.peers(answers);
    return diagnose({ ...known, report, peers, reached: new Map([...reached, ...ports]) });
  }

  private async knock(host: HostId, address: Address): Promise<[HostId, RpcResult<NodeReport>]> {
    return [host, await knock(this.services!.transport, host, address)];
  }

  async servicesReport(): Promise<ServicesReport> {
    const answers = await this.ask();
    const { machine, standing } = this;
    const hosts = hostsInView(machine, standing);
    return servicesReport({ report: this.view(), hosts, rpc: this.rpc, answers });
  }

  traffic(): TrafficReport {
    const { rpc } = this;
    return rpc === undefined ? { services: [] } : trafficReport(rpc);
  }

  /** To be asked of a member only: the directives of one that is out of the cluster are nobody's. */
  changeTraffic(
    service: string | undefined,
    prefix: string,
    weights: Directive['weights'] | undefined,
  ): TrafficChange {
    const { rpc } = this;
    assert(rpc !== undefined, 'a member has services');
    return changeTraffic(rpc, service, prefix, weights);
  }

  /** Undefined after leaving. */
  private get rpc(): Rpc | undefined {
    return this.standing === 'left' ? undefined : this.services?.rpc;
  }

  private known(): Known {
    const { machine, driver } = this;
    return {
      report: this.view(),
      probeIntervalMs: this.config.cluster.probeIntervalMs,
      seeds: driver.seeds(),
      seedStates: machine.seedStates(),
      refusals: machine.refusals(),
      staleRefused: driver.counters.refusedStale,
    };
  }

  /** All in the view, this node included. */
  private async ask(): Promise<Answers> {
    const { rpc, machine } = this;
    const self = machine.self.id;
    const own = [self, { kind: 'ok', value: this.ownReport() }] as const;
    if (rpc === undefined || this.standing !== 'member') return new Map([own]);
    const others = machine.hosts().map(({ record }) => record.id);
    const client = rpc.client(nodeService);
    return new Map([
      ...(await askReports(
        client,
        others.filter(id => id !== self),
      )),
      own,
    ]);
  }

  private peers(answers: Answers): Peers {
    const servers = this.rpc?.view(nodeService.name).servers() ?? [];
    const hosts = hostsInView(this.machine, this.standing).map(({ record }) => record.id);
    return peersOf(hosts, servers, answers);
  }

  /** Of what is known already: asking others here would go round in circles. */
  private ownReport(): NodeReport {
    const { machine, env } = this;
    const { id, name, version, startedMs } = machine.self;
    const memory = process.memoryUsage();
    const findings = diagnose({ ...this.known(), reached: new Map(), peers: this.peers(NO_ANSWERS) })
      .filter(({ severity }) => severity === 'wrong')
      .map(({ what }) => what);
    return {
      host: id,
      name,
      version,
      uptimeMs: Math.max(0, env.clock.wallMs() - startedMs),
      ...this.load(),
      heapBytes: memory.heapUsed,
      residentBytes: memory.rss,
      health: machine.healthScore(),
      findings: findings.slice(0, FINDINGS_MAX),
      findingsTotal: findings.length,
    };
  }

  evict(wanted: WantedHost): Evicted {
    if (this.standing !== 'member') return { kind: 'out', standing: this.standing };
    const all = this.machine.hosts().map(({ record }) => nameOf(record));
    const hosts = all.filter(({ name, id }) => ('id' in wanted ? id === wanted.id : name === wanted.name));
    const [host, ...others] = hosts;
    if (host === undefined) return { kind: 'unknown' };
    if (others.length > 0) return { kind: 'ambiguous', hosts };
    return this.driver.act(machine => machine.evict(host.id))
      ? { kind: 'evicted', host }
      : { kind: 'unknown' };
  }

  /** Says goodbye and is alone from then on. Resolves when the others were told, or after `LEAVE_MS_MAX`. */
  leave(): Promise<void> {
    if (!this.isStarted || this.standing === 'evicted') return Promise.resolve();
    this.leaving ??= this.sayGoodbye();
    return this.leaving;
  }

  private async sayGoodbye(): Promise<void> {
    await this.relay.drain(Math.min(HAND_OVER_MS_MAX, this.config.shutdown.timeoutMs / 4));
    this.partStores();
    await this.services?.drain(Math.min(DRAIN_MS_MAX, this.config.shutdown.timeoutMs / 4));
    const patience = new AbortController();
    const timeoutMs = Math.min(LEAVE_MS_MAX, this.config.shutdown.timeoutMs / 2);
    const tooLong = sleep(timeoutMs, undefined, { signal: patience.signal }).catch(() => undefined);
    await Promise.race([this.driver.leave(), tooLong]);
    patience.abort();
    this.standing = 'left';
    await this.driver.close();
    await this.services?.close();
    this.env.log.info({ address: this.address }, 'this node has left the cluster');
  }

  /** The stores of this node are of no cluster any more. */
  private partStores(): void {
    const { id } = this.machine.self;
    this.standings.close();
    this.relay.part({ isSettled: false, self: id, hosts: new Set([id]) });
  }

  async close(): Promise<void> {
    clearTimeout(this.aloneTimer);
    this.standings.close();
    await this.files.close();
    await this.leave();
    await this.driver.close();
    await this.services?.close();
  }

  // -- Events ------------------------------------------------------------------------------------------------

  private onEvent(event: HostEvent): void {
    const name = event.kind === 'gone' ? `gone_${event.reason}` : event.kind.replace('-', '_');
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    const { log } = this.env;
    this.standings.look();
    if (event.kind === 'self-evicted') {
      this.standing = 'evicted';
      this.partStores();
      const by = this.machine.hosts().find(({ record }) => record.id === event.by)?.record.name;
      log.error(
        { by, id: event.by },
        'this node was evicted from the cluster and serves its own clients alone from now on; restart it to come back',
      );
      return;
    }
    const host = fields(event.host);
    if (event.kind === 'joined') log.info(host, 'a host is in the cluster');
    else if (event.kind === 'updated') log.debug(host, 'a host has news of itself');
    else if (event.kind === 'suspected') log.debug(host, 'a host does not answer and is suspected');
    else if (event.kind === 'trusted') log.debug(host, 'a suspected host is well');
    else if (event.reason === 'failed')
      log.warn(host, 'a host is lost: it does not answer any more; it is looked for');
    else log.info(host, GONE_WORDS[event.reason]);
  }
}

const GONE_WORDS = {
  left: 'a host has left the cluster',
  replaced: 'a host is gone: another process lives at its address',
  evicted: 'a host was evicted by an operator; it stays out until its process starts again',
} as const;

function nameOf({ id, name, address }: HostRecord): HostName {
  return { id, name, address };
}

function fields({ id, name, address, version }: HostRecord) {
  return { host: name, address, id, version };
}

/** Uniform in [1, 2^53). */
function newHostId(): HostId {
  const id = Number(randomBytes(8).readBigUInt64BE() >> 11n);
  return id === 0 ? 1 : id;
}
