import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Env } from '../base/env.js';
import { type Closable, Scope } from '../base/scope.js';
import { WatchedFile } from '../plugin/io/watched-file.js';
import { UnderlayDriver } from '../underlay/io/driver.js';
import type { Address, HostId, HostRecord } from '../underlay/message.js';
import { DEFAULT_TIMING } from '../underlay/timing.js';
import { type HostEvent, Underlay } from '../underlay/underlay.js';
import { advertisedAddress } from './cluster-address.js';
import { readClusterKeys, readClusterTls } from './cluster-config.js';
import { diagnose, type Finding } from './cluster-doctor.js';
import { clusterMetrics } from './cluster-metrics.js';
import { reach, worthReaching } from './cluster-reach.js';
import { type MembersReport, membersReport, type Standing } from './cluster-view.js';
import type { Config } from './config.js';
import type { CollectedMetric } from './prometheus.js';
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

/** A goodbye takes about a second; a node that stops does not wait longer for it than this, nor than half its time. */
const LEAVE_MS_MAX = 4_000;

/** When a node that is still alone first says so, and how often then. */
const ALONE_FIRST_MS = 10_000;
const ALONE_EACH_MS = 60_000;

/** Ready to start; nothing is bound yet. Throws SHOAL_CLUSTER_KEY, SHOAL_CLUSTER_ADDRESS, SHOAL_TLS_CERTIFICATE. */
export async function makeCluster(config: Config, env: Env): Promise<Cluster> {
  const keys = readClusterKeys(config);
  return new Cluster(config, env, keys, await advertisedAddress(config, env.log));
}

/**
 * This node as a host of its cluster: the underlay's machine and driver, what an operator asks of them, and the events
 * in plain words in the log.
 *
 * A node that was evicted, or has left, goes on serving its own clients, alone: the operator's word is about the
 * cluster, not about the clients, and whoever wants the process to end has a signal for that.
 */
export class Cluster implements Closable {
  readonly metrics: readonly CollectedMetric[];
  private readonly config: Config;
  private readonly env: Env;
  private readonly machine: Underlay;
  private readonly driver: UnderlayDriver;
  private readonly counts = new Map<string, number>();
  private readonly files = new Scope();
  private standing: Standing = 'member';
  private isStarted = false;
  private leaving: Promise<void> | undefined;
  private aloneTimer: NodeJS.Timeout | undefined;

  constructor(config: Config, env: Env, keys: readonly string[], address: Address) {
    const { cluster, node } = config;
    const tls = readClusterTls(config);
    this.config = config;
    this.env = env;
    this.machine = new Underlay(
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
    this.driver = new UnderlayDriver(
      {
        machine: this.machine,
        env,
        environment: cluster.env,
        sockets: { host: cluster.host, port: cluster.port, ...(tls === undefined ? {} : { tls }) },
        keys,
        seeds: cluster.seeds,
      },
      // No layer above uses payloads and other maps yet.
      { event: event => this.onEvent(event), payload: () => undefined, crdt: () => undefined },
    );
    this.metrics = clusterMetrics({
      machine: this.machine,
      driver: this.driver,
      events: this.counts,
      standing: () => this.standing,
    });
  }

  get address(): Address {
    return this.machine.self.address;
  }

  /** Binds the port and begins to look for the others. Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED. */
  async start(): Promise<void> {
    await this.driver.start();
    this.isStarted = true;
    await this.watchCertificates();
    this.aloneTimer = setTimeout(() => this.sayIfAlone(), ALONE_FIRST_MS);
    const { env, seeds } = this.config.cluster;
    this.env.log.info(
      { address: this.address, env, seeds, id: this.machine.self.id },
      'the cluster port is open',
    );
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

  /** Certificates that are renewed on disk are taken for connections from then on. */
  private async watchCertificates(): Promise<void> {
    const { tls } = this.config.cluster;
    for (const file of [tls.certFile, tls.keyFile, tls.caFile]) {
      if (file === undefined) continue;
      const renew = () => this.driver.renewTls(readClusterTls(this.config)!);
      this.files.own(await WatchedFile.open(file, renew, this.env.log));
    }
  }

  // -- For the operator --------------------------------------------------------------------------------------

  members(): MembersReport {
    const { machine, config, standing, env } = this;
    return membersReport(machine, config.cluster.env, standing, env.clock.wallMs());
  }

  /** Tries the TCP ports of those that look ill, so it may take some seconds. */
  async doctor(): Promise<Finding[]> {
    const { machine, driver } = this;
    const known = {
      report: this.members(),
      probeIntervalMs: this.config.cluster.probeIntervalMs,
      seeds: driver.seeds(),
      seedStates: machine.seedStates(),
      refusals: machine.refusals(),
      staleRefused: driver.counters.refusedStale,
    };
    return diagnose({ ...known, reached: await reach(worthReaching(known)) });
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
    const patience = new AbortController();
    const timeoutMs = Math.min(LEAVE_MS_MAX, this.config.shutdown.timeoutMs / 2);
    const tooLong = sleep(timeoutMs, undefined, { signal: patience.signal }).catch(() => undefined);
    await Promise.race([this.driver.leave(), tooLong]);
    patience.abort();
    this.standing = 'left';
    await this.driver.close();
    this.env.log.info({ address: this.address }, 'this node has left the cluster');
  }

  async close(): Promise<void> {
    clearTimeout(this.aloneTimer);
    await this.files.close();
    await this.leave();
    await this.driver.close();
  }

  // -- Events ------------------------------------------------------------------------------------------------

  private onEvent(event: HostEvent): void {
    const name = event.kind === 'gone' ? `gone_${event.reason}` : event.kind.replace('-', '_');
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    const { log } = this.env;
    if (event.kind === 'self-evicted') {
      this.standing = 'evicted';
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
