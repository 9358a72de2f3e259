import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { TargetName } from './scenarios.js';

/** The project's directory, seen from dist/perf. */
export const ROOT = path.resolve(import.meta.dirname, '..', '..');
const NATIVE = path.join(ROOT, 'native-bench', 'build');
export const LOAD = path.join(NATIVE, 'load');

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 10_000;

/** A server under measurement; `stop` ends it and removes its directory. */
export interface Running {
  readonly pid: number;
  readonly tcpPort: number;
  readonly wsPort: number;
  stop(): Promise<void>;
}

interface Ports {
  readonly tcp: number;
  readonly ws: number;
  readonly metrics: number;
}

interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  /** Ports that must accept before the server counts as started. */
  readonly awaits: readonly number[];
}

function launchShoalMq(directory: string, ports: Ports): Launch {
  const settings = [
    `listeners.tcp.port=${ports.tcp}`,
    `listeners.ws.port=${ports.ws}`,
    `metrics.port=${ports.metrics}`,
    `node.dataDir=${path.join(directory, 'data')}`,
  ];
  return {
    command: process.execPath,
    args: [path.join(ROOT, 'dist', 'cli.js'), 'start', ...settings.flatMap(s => ['--set', s])],
    awaits: [ports.tcp, ports.ws],
  };
}

function launchMosquitto(directory: string, ports: Ports): Launch {
  const file = path.join(directory, 'mosquitto.conf');
  // All else is Debian's default; a queue of 1,000 would drop messages of the QoS 1 rows.
  const lines = [
    'allow_anonymous true',
    'max_queued_messages 0',
    `listener ${ports.tcp} 127.0.0.1`,
    `listener ${ports.ws} 127.0.0.1`,
    'protocol websockets',
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  return { command: 'mosquitto', args: ['-c', file], awaits: [ports.tcp, ports.ws] };
}

function launchFloor(_directory: string, ports: Ports): Launch {
  return {
    command: path.join(NATIVE, 'floor'),
    args: ['--port', String(ports.tcp)],
    awaits: [ports.tcp],
  };
}

const LAUNCHERS: Readonly<Record<TargetName, (directory: string, ports: Ports) => Launch>> = {
  shoalmq: launchShoalMq,
  mosquitto: launchMosquitto,
  floor: launchFloor,
};

/** Builds the load generator and the floor; throws with the compiler's words when that fails. */
export function buildNative(): void {
  const made = spawnSync('make', ['-s', '-C', path.join(ROOT, 'native-bench')], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`make -C native-bench failed:\n${made.error ?? made.stderr}`);
}

/** A one-line version, or undefined when the target is not there to be measured. */
export function targetVersion(name: TargetName): string | undefined {
  if (name === 'floor') return existsSync(path.join(NATIVE, 'floor')) ? 'native-bench' : undefined;
  if (name === 'mosquitto') {
    const help = spawnSync('mosquitto', ['-h'], { encoding: 'utf8' });
    return help.error === undefined ? /version (\S+)/.exec(help.stdout)?.[1] : undefined;
  }
  const entry = path.join(ROOT, 'dist', 'cli.js');
  if (!existsSync(entry)) return undefined;
  return execFileSync(process.execPath, [entry, 'version'], { encoding: 'utf8' }).trim().split('\n')[0];
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}

function accepts(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function sleep(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms));
}

function ended(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function stop(child: ChildProcess, directory: string): Promise<void> {
  if (!ended(child)) {
    const exit = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exit;
    clearTimeout(timer);
  }
  rmSync(directory, { recursive: true, force: true });
}

/** Starts a target on free ports with a directory of its own, and waits until it accepts connections. */
export async function startTarget(name: TargetName): Promise<Running> {
  const directory = mkdtempSync(path.join(os.tmpdir(), `shoalmq-perf-${name}-`));
  const ports = { tcp: await freePort(), ws: await freePort(), metrics: await freePort() };
  const launch = LAUNCHERS[name](directory, ports);
  const logFile = path.join(directory, 'log');
  const log = openSync(logFile, 'w');
  const child = spawn(launch.command, launch.args, { cwd: directory, stdio: ['ignore', log, log] });
  closeSync(log);
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  const failure = new Promise<never>((_, reject) => child.once('error', reject));
  failure.catch(() => undefined);
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (const port of launch.awaits) {
    while (!(await Promise.race([accepts(port), failure]))) {
      if (ended(child) || Date.now() > deadline) {
        const words = readFileSync(logFile, 'utf8').trim().slice(-2000);
        await stop(child, directory);
        throw new Error(`${name} did not start:\n${words}`);
      }
      await sleep(50);
    }
  }
  return {
    pid: child.pid!,
    tcpPort: ports.tcp,
    wsPort: ports.ws,
    stop: () => stop(child, directory),
  };
}
