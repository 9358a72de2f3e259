/** A broker in a namespace: the process, its log read as news of its cluster, and its administration port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { dirname, join, resolve } from 'node:path';
import type { MembersReport } from '../../../src/node/cluster-view.js';
import type { Finding } from '../../../src/node/finding.js';
import type { Network, Place } from './network.js';

export const CLI = resolve(process.env.SHOALMQ_CLI ?? 'dist/cli.js');
export const CLUSTER_PORT = 4800;
const ADMIN_PORT = 9465;
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
/** The doctor tries ports that may be silent. */
const ANSWER_TIMEOUT_MS = 10_000;
const LOG_LINES_MAX = 200;

/** What a node says of another in its log, by the words that it uses. */
const NEWS = {
  'a host is in the cluster': 'joined',
  'a host is lost: it does not answer any more; it is looked for': 'failed',
  'a host has left the cluster': 'left',
  'a host is gone: another process lives at its address': 'replaced',
  'a host was evicted by an operator; it stays out until its process starts again': 'evicted',
} as const;

export interface News {
  /** Wall clock; it is the same for all. */
  readonly atMs: number;
  readonly kind: (typeof NEWS)[keyof typeof NEWS];
  /** Name of whom it is about. */
  readonly host: string;
}

export class NetnsNode {
  readonly name: string;
  readonly place: Place;
  /** Since its process started, which may be one of several. */
  news: News[] = [];
  private readonly network: Network;
  private readonly settings: readonly string[];
  private child: ChildProcess | undefined;
  private exited: Promise<void> = Promise.resolve();
  private lines: string[] = [];
  private rest = '';

  constructor(network: Network, name: string, place: Place, seeds: readonly string[]) {
    this.network = network;
    this.name = name;
    this.place = place;
    const set = {
      'node.name': name,
      'node.dataDir': this.dataDir,
      'cluster.host': place.ip,
      'cluster.port': CLUSTER_PORT,
      'cluster.insecure': true,
      'cluster.seeds': seeds.map(ip => `${ip}:${CLUSTER_PORT}`).join(','),
      'admin.host': place.ip,
      'admin.port': ADMIN_PORT,
      // As little besides the cluster as there can be: five of them share the machine.
      'threads.mqtt': 1,
      'threads.match': 1,
      'threads.apply': 1,
      'threads.pin': 'off',
      'listeners.ws.enabled': false,
      'metrics.enabled': false,
      'sys.intervalSeconds': 0,
      'storage.durability': 'async',
      'log.format': 'json',
    };
    this.settings = Object.entries(set).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  }

  get isRunning(): boolean {
    return this.child !== undefined;
  }

  private get dataDir(): string {
    return join(this.network.files, this.name);
  }

  /** Until it has opened its ports. */
  async start(): Promise<void> {
    const args = ['netns', 'exec', this.place.namespace, process.execPath, CLI, 'start', ...this.settings];
    const env = { ...process.env, SHOALMQ_CLUSTER__KEY: `the secret of ${this.network.bridge}` };
    const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.child = child;
    this.news = [];
    const gone = new Promise<void>(done => child.once('exit', () => done()));
    this.exited = gone.then(() => {
      if (this.child === child) this.child = undefined;
    });
    const announced = new Promise<void>(done => {
      child.stdout.on('data', (bytes: Buffer) => {
        this.keep(bytes.toString());
        if (bytes.includes('of the cluster')) done();
      });
    });
    child.stderr.on('data', (bytes: Buffer) => this.read(bytes.toString()));
    const guard = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
    const isReady = await Promise.race([announced.then(() => true), gone.then(() => false)]);
    clearTimeout(guard);
    if (!isReady) throw new Error(`${this.name} did not start:\n${this.log()}`);
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.child?.kill(signal);
  }

  /** Dies where it stands. */
  async kill9(): Promise<void> {
    this.child?.kill('SIGKILL');
    await this.exited;
  }

  /** In order, with a goodbye. */
  async stop(): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    child.kill('SIGTERM');
    const guard = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(guard);
  }

  // -- What it says ------------------------------------------------------------------------------------------

  private read(text: string): void {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop()!;
    for (const line of lines) {
      this.keep(line);
      if (!line.startsWith('{')) continue;
      const { msg, time, host } = JSON.parse(line) as { msg?: string; time: number; host?: string };
      const kind = NEWS[msg as keyof typeof NEWS];
      if (kind !== undefined) this.news.push({ atMs: time, kind, host: host! });
    }
  }

  private keep(text: string): void {
    this.lines.push(text.trimEnd());
    if (this.lines.length > LOG_LINES_MAX) this.lines = this.lines.slice(-LOG_LINES_MAX);
  }

  log(): string {
    return this.lines.map(line => `  | ${line}`).join('\n');
  }

  members(): Promise<MembersReport> {
    return this.ask('GET', '/cluster/members');
  }

  async findings(): Promise<string[]> {
    const { findings } = await this.ask<{ findings: Finding[] }>('GET', '/cluster/doctor');
    return findings.map(({ what }) => what);
  }

  async evict(name: string): Promise<void> {
    await this.ask('POST', '/cluster/evict', { name });
  }

  /** Through the relay. */
  private ask<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    const { ip } = this.place;
    const token = readFileSync(join(this.dataDir, 'admin.token'), 'utf8').trim();
    return new Promise((done, fail) => {
      const request = http.request(
        {
          socketPath: join(this.network.files, `${ip}.sock`),
          method,
          path,
          agent: false,
          timeout: ANSWER_TIMEOUT_MS,
          headers: { Host: `${ip}:${ADMIN_PORT}`, Authorization: `Bearer ${token}` },
        },
        response => {
          const parts: Buffer[] = [];
          response.on('data', part => parts.push(part));
          response.on('error', fail);
          response.on('end', () => {
            const text = Buffer.concat(parts).toString();
            if (response.statusCode === 200) done(JSON.parse(text) as T);
            else fail(new Error(`${this.name} answers ${path} with ${response.statusCode} ${text}`));
          });
        },
      );
      request.on('error', fail);
      request.on('timeout', () => request.destroy(new Error(`${this.name} does not answer ${path}`)));
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

/** The way to the administration ports of all hosts, while it is open. */
export class Relay {
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.child = child;
  }

  static async open({ bridge, files }: Network, ips: readonly string[]): Promise<Relay> {
    const script = join(dirname(CLI), 'test/e2e/netns/relay.js');
    const args = ['netns', 'exec', bridge, process.execPath, script, files, String(ADMIN_PORT), ...ips];
    const child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    await new Promise<void>((done, fail) => {
      child.stdout.once('data', () => done());
      child.once('exit', code => fail(new Error(`the relay ended with ${code}`)));
    });
    return new Relay(child);
  }

  async close(): Promise<void> {
    const gone = new Promise<void>(done => this.child.once('exit', () => done()));
    this.child.kill('SIGTERM');
    await gone;
  }
}
