/**
 * A broker process for a suite: its own data directory, its own ports on 127.0.0.1, its log kept and printed
 * when a test fails. By default the one built into `dist/`; with `E2E_PEER=mosquitto` Debian's mosquitto, to
 * tell a fault of a test from a fault of ours.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { type Certificates, makeCertificates, removeCertificates } from './certificates.js';
import { cutAllClients, sleep } from './client/client.js';
import type { Target, Transport } from './client/wire.js';
import { mosquittoConfig } from './peer-mosquitto.js';

export type Settings = Readonly<Record<string, string | number | boolean>>;

export interface BrokerOptions {
  /** Configuration keys as for `--set`. */
  readonly set?: Settings;
  /** Listeners to open; TCP only by default. */
  readonly transports?: readonly Transport[];
  /** Files that the process may have open. */
  readonly openFilesMax?: number;
  /** Environment variables besides our own. */
  readonly env?: Readonly<Record<string, string>>;
}

export const PEER = process.env.E2E_PEER ?? 'shoalmq';

const CLI = resolve(process.env.SHOALMQ_CLI ?? 'dist/cli.js');
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 15_000;
const START_ATTEMPTS = 4;
const LOG_LINES_MAX = 300;
/** For a broker to let go of what its clients had. */
const CALM_TIMEOUT_MS = 6000;
/** Threads of libuv's pool, which come when they are first needed; each may bring a descriptor or two. */
const LAZY_THREADS = 4;
const LAZY_FILES = 8;
const PORT_FIRST = 10_000;
const PORT_LAST = 32_000;

/** A port that nobody listens on, outside the range that the kernel hands to outgoing connections. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = PORT_FIRST + Math.floor(Math.random() * (PORT_LAST - PORT_FIRST));
    const free = await new Promise<boolean>(done => {
      const server = net.createServer();
      server.once('error', () => done(false));
      server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
    });
    if (free) return port;
  }
  throw new Error('no free port found');
}

/** GET on 127.0.0.1. */
export function get(port: number, path: string): Promise<{ status: number; type: string; body: string }> {
  return new Promise((done, fail) => {
    const request = http.get({ host: '127.0.0.1', port, path, agent: false, timeout: 5000 }, response => {
      const parts: Buffer[] = [];
      response.on('data', part => parts.push(part));
      response.on('end', () =>
        done({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          body: Buffer.concat(parts).toString(),
        }),
      );
    });
    request.on('error', fail);
    request.on('timeout', () => request.destroy(new Error(`no answer from ${path}`)));
  });
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Broker implements Target {
  readonly host = '127.0.0.1';
  ports: Partial<Record<Transport, number>> = {};
  metricsPort = 0;
  ca = '';
  certificates!: Certificates;
  dataDir = '';
  process: ChildProcess | undefined;
  /** What the process held when it was ready. */
  private atStart: Holdings | undefined;
  exited: Promise<Exit> | undefined;
  readonly options: BrokerOptions;
  private lines: string[] = [];

  constructor(options: BrokerOptions = {}) {
    this.options = options;
  }

  /** Chooses ports, directory and certificates, then starts. */
  async start(): Promise<void> {
    const transports = this.options.transports ?? ['tcp'];
    this.dataDir = mkdtempSync(join(tmpdir(), 'shoalmq-e2e-'));
    if (transports.includes('tls') || transports.includes('wss')) {
      this.certificates = makeCertificates();
      this.ca = this.certificates.ca;
    }
    for (let attempt = 1; ; attempt++) {
      for (const transport of transports) this.ports[transport] = await freePort();
      this.metricsPort = await freePort();
      try {
        return await this.launch();
      } catch (error) {
        // Between the choice and the start another suite may have taken the port.
        if (attempt === START_ATTEMPTS || !String(error).includes('SHOAL_LISTEN_IN_USE')) throw error;
      }
    }
  }

  /** The command line keys in effect. */
  settings(): Settings {
    const set: Record<string, string | number | boolean> = {
      'node.dataDir': join(this.dataDir, 'data'),
      'metrics.port': this.metricsPort,
      'log.format': 'json',
      // Brokers of several suites run at once.
      'threads.pin': 'off',
    };
    for (const transport of ['tcp', 'tls', 'ws', 'wss'] as const) {
      const port = this.ports[transport];
      set[`listeners.${transport}.enabled`] = port !== undefined;
      if (port === undefined) continue;
      set[`listeners.${transport}.port`] = port;
      if (transport !== 'tls' && transport !== 'wss') continue;
      set[`listeners.${transport}.certFile`] = this.certificates.certFile;
      set[`listeners.${transport}.keyFile`] = this.certificates.keyFile;
      if (transport === 'tls') set['listeners.tls.caFile'] = this.certificates.caFile;
    }
    return { ...set, ...this.options.set };
  }

  /** The settings as arguments of `shoalmq start`, with some replaced. */
  startArguments(replaced: Settings = {}): string[] {
    const settings = { ...this.settings(), ...replaced };
    return ['start', ...Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])];
  }

  private command(): [string, string[]] {
    const settings = this.settings();
    if (PEER === 'mosquitto') {
      const file = join(this.dataDir, 'mosquitto.conf');
      mkdirSync(join(this.dataDir, 'data'), { recursive: true });
      writeFileSync(file, mosquittoConfig(settings));
      return ['/usr/sbin/mosquitto', ['-c', file]];
    }
    const started = [process.execPath, CLI, ...this.startArguments()];
    const { openFilesMax } = this.options;
    if (openFilesMax === undefined) return [started[0]!, started.slice(1)];
    return ['/bin/sh', ['-c', `ulimit -n ${openFilesMax} && exec "$@"`, 'sh', ...started]];
  }

  /** Starts the process on the directory and the ports that are chosen already. */
  async launch(): Promise<void> {
    const [file, args] = this.command();
    const env = { ...process.env, ...this.options.env };
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.process = child;
    this.exited = new Promise(done => child.once('exit', (code, signal) => done({ code, signal })));
    this.exited.then(exit => {
      if (this.process === child) this.process = undefined;
      this.keep(`[exit code ${exit.code}, signal ${exit.signal}]`);
    });
    child.stdout!.on('data', (bytes: Buffer) => this.keep(bytes.toString()));
    child.stderr!.on('data', (bytes: Buffer) => this.keep(bytes.toString()));
    await this.ready(child);
    this.atStart = holdings(child.pid!);
  }

  private async ready(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline) {
      if (child.exitCode !== null || child.signalCode !== null) break;
      if (await this.isReady()) return;
      await sleep(25);
    }
    child.kill('SIGKILL');
    throw new Error(`the broker did not become ready:\n${this.log()}`);
  }

  private async isReady(): Promise<boolean> {
    if (PEER === 'mosquitto') {
      return new Promise(done => {
        const socket = net.connect(this.ports.tcp ?? 0, this.host);
        socket.once('connect', () => socket.destroy()).once('error', () => done(false));
        socket.once('close', hadError => done(!hadError));
      });
    }
    return get(this.metricsPort, '/readyz').then(
      answer => answer.status === 200,
      () => false,
    );
  }

  private keep(text: string): void {
    for (const line of text.split('\n')) if (line !== '') this.lines.push(line);
    if (this.lines.length > LOG_LINES_MAX) this.lines = this.lines.slice(-LOG_LINES_MAX);
  }

  /** The sum over threads of the metric's values whose labels match. */
  async metric(name: string, labels = /(?:)/): Promise<number> {
    const { body } = await get(this.metricsPort, '/metrics');
    let sum = 0;
    for (const [, found, value] of body.matchAll(new RegExp(`^${name}(\\{.*\\})? (\\S+)$`, 'gm')))
      if (labels.test(found ?? '')) sum += Number(value);
    return sum;
  }

  log(): string {
    return this.lines.map(line => `  | ${line}`).join('\n');
  }

  clearLog(): void {
    this.lines = [];
  }

  /**
   * With all clients gone, the broker has to come to hold what it held when it was ready: no connection, no session
   * of one, no more sockets, files and threads.
   */
  async expectCalm(): Promise<void> {
    const { process: child, atStart } = this;
    if (child === undefined || atStart === undefined || PEER !== 'shoalmq') return;
    const excess = async () => {
      const now = holdings(child.pid!);
      return {
        connections: await this.metric('shoalmq_connections'),
        sessions: await this.metric('shoalmq_sessions', /kind="(transient|persistent_online)"/),
        sockets: Math.max(0, now.sockets - atStart.sockets),
        files: Math.max(0, now.files - atStart.files - LAZY_FILES),
        threads: Math.max(0, now.threads - atStart.threads - LAZY_THREADS),
      };
    };
    const deadline = Date.now() + CALM_TIMEOUT_MS;
    let found = await excess();
    while (Object.values(found).some(count => count !== 0) && Date.now() < deadline) {
      await sleep(50);
      found = await excess();
    }
    const nothing = { connections: 0, sessions: 0, sockets: 0, files: 0, threads: 0 };
    expect(found, 'left in the broker when all clients were gone').toEqual(nothing);
  }

  /** SIGTERM; yields how the process ended, and kills it when it does not. */
  async stop(): Promise<Exit> {
    const child = this.process;
    if (child === undefined) return { code: 0, signal: null };
    child.kill('SIGTERM');
    const guard = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    const exit = await this.exited!;
    clearTimeout(guard);
    return exit;
  }

  /** Dies where it stands. */
  async kill9(): Promise<void> {
    this.process?.kill('SIGKILL');
    await this.exited;
  }

  /** An orderly stop and a start on the same directory and ports. */
  async restart(): Promise<void> {
    const exit = await this.stop();
    if (exit.code !== 0) throw new Error(`stop ended with ${exit.code} ${exit.signal}:\n${this.log()}`);
    await this.launch();
  }

  /** Removes what the suite has written, unless `E2E_KEEP` asks to keep it for a look at it. */
  removeFiles(): void {
    if (process.env.E2E_KEEP !== undefined) return;
    if (this.dataDir !== '') rmSync(this.dataDir, { recursive: true, force: true });
    if (this.certificates !== undefined) removeCertificates(this.certificates);
  }
}

/** What a process holds. */
interface Holdings {
  readonly sockets: number;
  readonly files: number;
  readonly threads: number;
}

function holdings(pid: number): Holdings {
  let sockets = 0;
  const descriptors = readdirSync(`/proc/${pid}/fd`);
  for (const descriptor of descriptors) {
    try {
      if (readlinkSync(`/proc/${pid}/fd/${descriptor}`).startsWith('socket:')) sockets++;
    } catch {
      // closed since it was listed
    }
  }
  const threads = readdirSync(`/proc/${pid}/task`).length;
  return { sockets, files: descriptors.length - sockets, threads };
}

/** Runs the command to its end, as for a broker that cannot start. */
export function runCli(args: string[], input = ''): Promise<Exit & { stdout: string; stderr: string }> {
  return new Promise(done => {
    const child = spawn(process.execPath, [CLI, ...args], { stdio: 'pipe' });
    const parts = { stdout: '', stderr: '' };
    child.stdout.on('data', bytes => {
      parts.stdout += bytes;
    });
    child.stderr.on('data', bytes => {
      parts.stderr += bytes;
    });
    const guard = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
    child.once('close', (code, signal) => {
      clearTimeout(guard);
      done({ code, signal, ...parts });
    });
    child.stdin.end(input);
  });
}

/**
 * A broker for the tests of the surrounding block. After each test all connections are cut, after the last the broker
 * has to hold no more than at its start, and to exit with 0 on SIGTERM.
 */
export function useBroker(options: BrokerOptions = {}): Broker {
  const broker = new Broker(options);
  beforeAll(() => broker.start(), START_TIMEOUT_MS + 5000);
  afterEach(context => {
    cutAllClients();
    if (context.task.result?.state === 'fail') console.error(`broker log:\n${broker.log()}`);
    broker.clearLog();
  });
  afterAll(
    async () => {
      cutAllClients();
      const calm = await broker.expectCalm().catch(error => error as Error);
      const exit = await broker.stop();
      const log = broker.log();
      broker.removeFiles();
      expect(exit, `the broker ends in order on SIGTERM\n${log}`).toEqual({ code: 0, signal: null });
      if (calm !== undefined) throw calm;
    },
    STOP_TIMEOUT_MS + CALM_TIMEOUT_MS + 5000,
  );
  return broker;
}
