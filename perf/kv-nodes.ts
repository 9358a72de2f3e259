/**
 * `npm run perf -- kv`, the part of real nodes: three of them, each the whole broker as it is started by an operator, and
 * a process that only calls their map (kv-peer.ts). What it asks goes through the main threads of two nodes and the rings
 * to their stores. The key space begins when it does by itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { askAdmin, findAdmin } from '../src/node/admin-client.js';
import { loadConfig } from '../src/node/config.js';
import type { RangesReport } from '../src/node/kv-view.js';
import { CLUSTER_KEY, ENVIRONMENT } from '../test/e2e/kv-member.js';
import { type ClusterFigures, freePort, Peer } from './kv-cluster.js';
import { at, VALUE_BYTES } from './kv-store.js';
import { median } from './statistics.js';
import { ROOT } from './targets.js';

const CLI = path.join(ROOT, 'dist', 'cli.js');
const NODES = 3;
const FORMED_MS = 60_000;
const LOOK_MS = 100;
const WINDOW = 4096;
const SMALL_WINDOW = 256;
const KEYS = 100_000;
const MANY = Number.MAX_SAFE_INTEGER;

class ProductNode {
  readonly name: string;
  private readonly settings: readonly string[];
  private readonly dataDir: string;
  private child: ChildProcess | undefined;

  constructor(name: string, dataDir: string, settings: readonly string[]) {
    this.name = name;
    this.dataDir = dataDir;
    this.settings = [`node.name=${name}`, `node.dataDir=${dataDir}`, ...settings];
  }

  start(): void {
    const args = this.settings.flatMap(setting => ['--set', setting]);
    this.child = spawn(process.execPath, [CLI, 'start', ...args], { stdio: 'ignore' });
  }

  /** The map's range as this node sees it; undefined while there is none, or no node. */
  async range(): Promise<RangesReport['ranges'][number] | undefined> {
    try {
      const admin = findAdmin(loadConfig({ set: [`node.dataDir=${this.dataDir}`], env: {} }), {});
      const { ranges } = await askAdmin<RangesReport>(admin, 'GET', '/kv/ranges');
      return ranges.find(({ service }) => service === 'map');
    } catch {
      return undefined;
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    this.child = undefined;
    const gone = new Promise(done => child.once('exit', done));
    child.kill(signal);
    await gone;
  }
}

/** Waits until all see three voters that live; gives the node that leads. */
async function formed(nodes: readonly ProductNode[]): Promise<ProductNode> {
  const endMs = performance.now() + FORMED_MS;
  for (;;) {
    const seen = await Promise.all(nodes.map(node => node.range()));
    const leaders = new Set(seen.map(range => range?.leader?.name));
    const isWhole = seen.every(
      range => range?.state === 'well' && range.members.filter(({ alive }) => alive).length === NODES,
    );
    const leader = nodes.find(({ name }) => leaders.has(`apply-0@${name}`));
    if (isWhole && leaders.size === 1 && leader !== undefined) return leader;
    if (performance.now() > endMs) throw new Error(`no three voters: ${JSON.stringify(seen)}`);
    await sleep(LOOK_MS);
  }
}

export async function measureNodes(
  rounds: number,
  seconds: number,
  failovers: number,
): Promise<Omit<ClusterFigures, 'lmdbSingleP50Ms'>> {
  const root = mkdtempSync(path.join(tmpdir(), 'shoal-perf-nodes-'));
  const ports = await Promise.all(Array.from({ length: 2 * NODES + 2 }, freePort));
  const seeds = ports.slice(0, 2).map(port => `127.0.0.1:${port}`);
  const nodes = Array.from({ length: NODES }, (_, index) => {
    const name = `n${index}`;
    return new ProductNode(name, path.join(root, name), [
      ...[`cluster.port=${ports[index]}`, `cluster.seeds=${seeds.join()}`, `cluster.env=${ENVIRONMENT}`],
      ...[`cluster.key=${CLUSTER_KEY}`, 'admin.port=0', 'rpc.port=0', 'metrics.enabled=false'],
      ...[`listeners.tcp.port=${ports[NODES + index]}`, 'listeners.ws.enabled=false', 'threads.pin=off'],
    ]);
  });
  const [port, rpcPort] = ports.slice(2 * NODES) as [number, number];
  const caller = new Peer({ name: 'caller', host: '127.0.0.1', port, rpcPort, seeds });
  try {
    for (const node of nodes) node.start();
    await caller.start();
    let leader = await formed(nodes);
    const ms = seconds * 1000;
    const wanted = { valueBytes: VALUE_BYTES, keys: KEYS, countMax: MANY, window: WINDOW, ms };
    await caller.tell('puts', wanted);
    const [rates, windows, alone, failoversMs]: number[][] = [[], [], [], []];
    for (let round = 0; round < rounds; round++) {
      const many = await caller.tell('puts', wanted);
      rates!.push((many.count * 1000) / many.ms);
      windows!.push(at((await caller.tell('puts', { ...wanted, window: SMALL_WINDOW })).waitsMs, 0.5));
      alone!.push(at((await caller.tell('puts', { ...wanted, window: 1 })).waitsMs, 0.5));
    }
    for (let round = 0; round < failovers; round++) {
      await sleep(1000 + Math.random() * 1000);
      const startMs = performance.now();
      await leader.end('SIGKILL');
      await caller.tell('puts', { ...wanted, window: 1, countMax: 1 });
      failoversMs!.push(performance.now() - startMs);
      leader.start();
      leader = await formed(nodes);
    }
    return {
      putsPerSecond: median(rates!),
      windowP50Ms: median(windows!),
      singleP50Ms: median(alone!),
      failoversMs: failoversMs!.sort((a, b) => a - b),
    };
  } finally {
    await caller.end();
    await Promise.all(nodes.map(node => node.end('SIGTERM')));
    rmSync(root, { recursive: true, force: true });
  }
}
