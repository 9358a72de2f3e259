/**
 * `npm run perf -- kv`, the part of several stores: each a process (kv-peer.ts) with underlay, overlay, rpc, LMDB on the
 * same disk, durability flush; nothing is set that is not the default but when the key space begins. Callers are in the
 * process that leads, as a broker's would be, except for the failover's, which is in one that lives on.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KvMemberSettings } from '../test/e2e/kv-member.js';
import type { PeerCommands, PeerSeen, PutsWanted } from './kv-peer.js';
import { at, Plain, singles, VALUE_BYTES } from './kv-store.js';
import { median } from './statistics.js';

const PEER = path.join(import.meta.dirname, 'kv-peer.js');
const FORMED_MS = 60_000;
const LOOK_MS = 50;
const WINDOW = 4096;
const SMALL_WINDOW = 256;
const KEYS = 100_000;
/** JSON has no infinity. */
const MANY = Number.MAX_SAFE_INTEGER;
const STATE_VALUE_BYTES = 1000;
const DIVIDED_MS = 120_000;
const QUIET_MS = 60_000;
/** For what the stores have published of it. */
const SETTLE_MS = 5_000;
const SNAPSHOT_MS_MAX = 300_000;
const PART_BYTES = 256 * 1024;
const DISK_MS = 30_000;

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise(done => server.once('listening', done));
  const { port } = server.address() as { port: number };
  await new Promise(done => server.close(done));
  return port;
}

/** A process of kv-peer.ts. */
export class Peer {
  private readonly settings: KvMemberSettings;
  private child: ChildProcess | undefined;
  private readonly waiting = new Map<number, (value: never) => void>();
  private number = 0;

  constructor(settings: KvMemberSettings) {
    this.settings = settings;
  }

  async start(): Promise<void> {
    const child = fork(PEER, [JSON.stringify(this.settings)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.child = child;
    await new Promise<void>(done => {
      child.on('message', ({ number, value }: { number: number; value: never }) => {
        if (number === 0) done();
        this.waiting.get(number)?.(value);
        this.waiting.delete(number);
      });
      child.once('exit', code => {
        if (this.child === child) throw new Error(`a process of the measurement ended with ${code}`);
      });
    });
  }

  /** One that dies meanwhile does not answer. */
  tell<K extends keyof PeerCommands>(
    name: K,
    input: PeerCommands[K]['with'],
  ): Promise<PeerCommands[K]['gives']> {
    const number = ++this.number;
    return new Promise(done => {
      this.waiting.set(number, done);
      this.child!.send({ number, name, input });
    });
  }

  /** It ends by itself, and writes its profile where this one was started with `--cpu-prof`. */
  async end(): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    this.child = undefined;
    const gone = new Promise(done => child.once('exit', done));
    child.disconnect();
    await gone;
  }

  async kill9(): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    this.child = undefined;
    const gone = new Promise(done => child.once('exit', done));
    child.kill('SIGKILL');
    await gone;
  }
}

class Cluster {
  readonly peers: readonly Peer[];
  readonly root: string;

  private constructor(root: string, peers: readonly Peer[]) {
    this.root = root;
    this.peers = peers;
  }

  static async make(count: number): Promise<Cluster> {
    const root = mkdtempSync(path.join(tmpdir(), 'shoal-perf-kv-'));
    const ports = await Promise.all(Array.from({ length: 2 * count }, freePort));
    const seeds = ports.slice(0, 2).map(port => `127.0.0.1:${port}`);
    const peers = Array.from({ length: count }, (_, index) => {
      const name = `s${index}`;
      const [port, rpcPort] = [ports[index]!, ports[count + index]!];
      const data = path.join(root, name);
      return new Peer({
        name,
        host: '127.0.0.1',
        port,
        rpcPort,
        seeds,
        data,
        rules: { bootstrapAfterMs: 1000 },
      });
    });
    return new Cluster(root, peers);
  }

  /** Waits for so many voters in agreement; gives the one that leads. */
  async formed(peers: readonly Peer[], voters: number, withinMs = FORMED_MS): Promise<Peer> {
    const endMs = performance.now() + withinMs;
    for (;;) {
      const seen: PeerSeen[] = await Promise.all(peers.map(peer => peer.tell('look', {})));
      const leading = peers.filter((_, index) => seen[index]!.leads);
      const voting = seen.filter(one => one.voters === voters && !one.changing).length;
      if (leading.length === 1 && voting === voters) return leading[0]!;
      if (performance.now() > endMs) throw new Error(`no ${voters} voters: ${JSON.stringify(seen)}`);
      await sleep(LOOK_MS);
    }
  }

  /** Waits until all stores have so many ranges, and all of these are quiet. */
  async quiet(ranges: number): Promise<void> {
    const endMs = performance.now() + QUIET_MS;
    for (;;) {
      const seen = await Promise.all(this.peers.map(peer => peer.tell('look', {})));
      if (seen.every(({ awake, replicas }) => awake === 0 && replicas >= ranges)) break;
      if (performance.now() > endMs) throw new Error(`not quiet: ${JSON.stringify(seen)}`);
      await sleep(1000);
    }
    await sleep(SETTLE_MS);
  }

  /** The share of a core that each process uses, on the average. */
  async cpu(seconds: number): Promise<number> {
    const looks = () => Promise.all(this.peers.map(peer => peer.tell('look', {})));
    const startMs = performance.now();
    const before = await looks();
    await sleep(seconds * 1000);
    const after = await looks();
    const usedUs = after.reduce((sum, { cpuUs }, index) => sum + cpuUs - before[index]!.cpuUs, 0);
    return usedUs / 1000 / (performance.now() - startMs) / this.peers.length;
  }

  async close(): Promise<void> {
    await Promise.all(this.peers.map(peer => peer.end()));
    rmSync(this.root, { recursive: true, force: true });
  }
}

export interface ClusterFigures {
  readonly putsPerSecond: number;
  /** Of puts of which `SMALL_WINDOW` are under way together. */
  readonly windowP50Ms: number;
  /** Of puts one after another. */
  readonly singleP50Ms: number;
  readonly lmdbSingleP50Ms: number;
  /** From the kill of the leader's process to the first answer of another store. */
  readonly failoversMs: readonly number[];
}

export async function measureCluster(
  rounds: number,
  seconds: number,
  failovers: number,
): Promise<ClusterFigures> {
  const cluster = await Cluster.make(3);
  const plain = new Plain(path.join(cluster.root, 'plain'), 'ordered');
  const ms = seconds * 1000;
  try {
    await Promise.all(cluster.peers.map(peer => peer.start()));
    let leader = await cluster.formed(cluster.peers, 3);
    const wanted: PutsWanted = { valueBytes: VALUE_BYTES, keys: KEYS, countMax: MANY, window: WINDOW, ms };
    await leader.tell('puts', wanted);
    const rates: number[] = [];
    const windows: number[] = [];
    const alone: number[] = [];
    const plainAlone: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const many = await leader.tell('puts', wanted);
      rates.push((many.count * 1000) / many.ms);
      windows.push(at((await leader.tell('puts', { ...wanted, window: SMALL_WINDOW })).waitsMs, 0.5));
      alone.push(at((await leader.tell('puts', { ...wanted, window: 1 })).waitsMs, 0.5));
      plainAlone.push(at(singles(plain, ms), 0.5));
    }
    const failoversMs: number[] = [];
    for (let round = 0; round < failovers; round++) {
      await sleep(1000 + Math.random() * 1000);
      const other = cluster.peers.find(peer => peer !== leader)!;
      const startMs = performance.now();
      await leader.kill9();
      await other.tell('puts', { ...wanted, window: 1, countMax: 1 });
      failoversMs.push(performance.now() - startMs);
      await leader.start();
      leader = await cluster.formed(cluster.peers, 3);
    }
    return {
      putsPerSecond: median(rates),
      windowP50Ms: median(windows),
      singleP50Ms: median(alone),
      lmdbSingleP50Ms: median(plainAlone),
      failoversMs: failoversMs.sort((a, b) => a - b),
    };
  } finally {
    await plain.engine.close();
    await cluster.close();
  }
}

export interface IdleFigures {
  /** Shares of a core that each process needs on the average: with one quiet range of three replicas, and with many. */
  readonly one: number;
  readonly many: number;
}

/** All stores lead as many of the ranges, so no balancer has anything to do. */
export async function measureIdleCluster(count: number, seconds: number): Promise<IdleFigures> {
  const cluster = await Cluster.make(3);
  const { peers } = cluster;
  try {
    await Promise.all(peers.map(peer => peer.start()));
    await cluster.formed(peers, 3);
    await cluster.quiet(1);
    const one = await cluster.cpu(seconds);
    const wanted = { count, withinMs: DIVIDED_MS };
    const divided = await Promise.all(peers.map(peer => peer.tell('divide', wanted)));
    if (divided.some(have => have < count)) throw new Error(`only ${divided} ranges were made`);
    await cluster.quiet(count);
    while ((await Promise.all(peers.map(peer => peer.tell('spread', {})))).some(given => given > 0))
      await cluster.quiet(count);
    return { one, many: await cluster.cpu(seconds) };
  } finally {
    await cluster.close();
  }
}

export interface TravelFigures {
  readonly seconds: number;
  /** Of puts one after another while the states travel. */
  readonly longestMs: number;
  readonly p50Ms: number;
  /** The longest commit of a record on the same disk while two others commit what a part of a state has, as fast as they can. */
  readonly diskLongestMs: number;
}

/** A range of one voter is filled; then its store gets two more, which need all of it. */
export async function measureTravels(megabytes: number): Promise<TravelFigures> {
  const cluster = await Cluster.make(3);
  const [first, second, third] = cluster.peers;
  try {
    await first!.start();
    await second!.start();
    const leader = await cluster.formed([first!, second!], 1);
    const count = Math.ceil((megabytes * 1e6) / STATE_VALUE_BYTES);
    const state = { valueBytes: STATE_VALUE_BYTES, keys: count, countMax: count, ms: SNAPSHOT_MS_MAX };
    await leader.tell('puts', { ...state, window: WINDOW });
    const startMs = performance.now();
    await third!.start();
    const whole = cluster.formed(cluster.peers, 3, SNAPSHOT_MS_MAX).then(() => performance.now() - startMs);
    let longestMs = 0;
    const p50s: number[] = [];
    let tookMs: number | undefined;
    void whole.then(
      ms => {
        tookMs = ms;
      },
      () => undefined,
    );
    while (tookMs === undefined) {
      const { waitsMs } = await leader.tell('puts', { ...state, countMax: MANY, window: 1, ms: 500 });
      longestMs = Math.max(longestMs, waitsMs.at(-1)!);
      p50s.push(at(waitsMs, 0.5));
      if (performance.now() - startMs > SNAPSHOT_MS_MAX) await whole;
    }
    await cluster.quiet(1);
    const ms = DISK_MS;
    const [commits] = await Promise.all([
      leader.tell('commit', { bytes: VALUE_BYTES, ms }),
      ...cluster.peers
        .filter(peer => peer !== leader)
        .map(peer => peer.tell('commit', { bytes: PART_BYTES, ms })),
    ]);
    return { seconds: tookMs / 1000, longestMs, p50Ms: median(p50s), diskLongestMs: commits!.at(-1)! };
  } finally {
    await cluster.close();
  }
}
