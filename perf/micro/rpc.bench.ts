/**
 * Calls within the process, and what stands between a call and its server. The goal for the in-process binding is a
 * million calls a second on one core; a run of "64 calls" is 64 of them.
 */
import Benchmark from 'benchmark';
import { hashText, mix32 } from '../../src/base/hash.js';
import type { Agent, AgentMember, SharedMap } from '../../src/overlay/agent.js';
import { ConsistentHash } from '../../src/rpc/balance/consistent-hash.js';
import { WeightedRandom } from '../../src/rpc/balance/weighted-random.js';
import { WeightedRoundRobin } from '../../src/rpc/balance/weighted-round-robin.js';
import { Rpc } from '../../src/rpc/rpc.js';
import { defineService, opaque, pipeline, unary } from '../../src/rpc/service.js';
import { BYTES, MALFORMED } from '../../src/rpc/wire.js';

const BURST = 64;
const PAYLOAD = Buffer.alloc(100, 'x');

const echo = defineService('echo', {
  say: unary({ request: opaque, response: opaque, idempotent: true, balance: 'weighted-round-robin' }),
  hashed: unary({ request: opaque, response: opaque, balance: 'consistent-hash', key: () => 'some key' }),
  pipe: pipeline({ request: opaque, response: opaque, balance: 'consistent-hash' }),
});

const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };
let state = 1;
const random = { u32: () => (state = mix32(state + 0x9e3779b9)) >>> 0 };
const silent = () => {};

/** A node by itself: what it registers it hears of. */
class LonelyAgent implements Agent {
  readonly name = 'rpc.echo';
  rpc: Rpc | undefined = undefined;
  private readonly map_: SharedMap = {
    name: 'traffic',
    get: () => undefined,
    set: () => true,
    delete: silent,
    keys: () => new Map<string, never>().keys(),
    ownerOf: () => undefined,
  };

  register(name: string, metadata: Uint8Array): void {
    const member: AgentMember = { host: 1, name, metadata, hlc: 1 };
    this.rpc!.onAgentOutputs([{ kind: 'member-joined', agent: this.name, member }]);
  }

  deregister(): void {}
  members = () => [];
  hosts = () => [];
  unicast = () => 'no-such-member' as const;
  multicast = () => [];
  broadcast = () => [];
  map = () => this.map_;
}

function lonelyRpc(soon: (run: () => void) => void): Rpc {
  const agent = new LonelyAgent();
  const rpc = new Rpc({
    self: 1,
    address: 'here:1',
    version: '1',
    env: { clock, random, log: { debug: silent, info: silent, warn: silent, error: silent } },
    transport: {
      open: () => {
        throw new Error('the benchmark stays within the process');
      },
    },
    overlay: { host: () => agent, unhost: silent },
    soon,
  });
  agent.rpc = rpc;
  rpc.serve(
    echo,
    {
      say: (request, reply) => reply.done(request),
      hashed: (request, reply) => reply.done(request),
      pipe: () => ({ request: (request, reply) => reply.done(request) }),
    },
    { id: 's1' },
  );
  return rpc;
}

/** The turn ends when the benchmark says so. */
function addCalls(benchmarks: Benchmark.Suite): void {
  const turns: (() => void)[] = [];
  const client = lonelyRpc(run => turns.push(run)).client(echo);
  const endTurn = () => {
    for (let run = turns.pop(); run !== undefined; run = turns.pop()) run();
  };
  endTurn();
  let answers = 0;
  const count = () => {
    answers++;
  };
  const options = { tenant: 'acme' };
  benchmarks.add('in process: one call, one turn', () => {
    client.say.call(PAYLOAD, options, count);
    endTurn();
  });
  benchmarks.add(`in process: ${BURST} calls in a turn`, () => {
    for (let i = 0; i < BURST; i++) client.say.call(PAYLOAD, options, count);
    endTurn();
  });
  benchmarks.add(`in process: ${BURST} calls in a turn, consistent hash`, () => {
    for (let i = 0; i < BURST; i++) client.hashed.call(PAYLOAD, options, count);
    endTurn();
  });
  const pipe = client.pipe.open({ key: 'k' });
  benchmarks.add(`in process: ${BURST} requests of a pipeline in a turn`, () => {
    for (let i = 0; i < BURST; i++) pipe.send(PAYLOAD, count);
    endTurn();
  });
  benchmarks.on('complete', () => {
    if (answers === 0) throw new Error('nothing was answered');
  });
}

function addPromises(benchmarks: Benchmark.Suite): void {
  const client = lonelyRpc(queueMicrotask).client(echo);
  benchmarks.add(`in process: ${BURST} calls by promise`, {
    defer: true,
    fn: async (deferred: { resolve(): void }) => {
      // Many bursts, since a deferred run costs the benchmark itself some microseconds.
      for (let burst = 0; burst < 16; burst++) {
        const asked: Promise<unknown>[] = [];
        for (let i = 0; i < BURST; i++) asked.push(client.say.ask(PAYLOAD));
        await Promise.all(asked);
      }
      deferred.resolve();
    },
  });
}

/** For comparison: a ring of points, as many for each unit of weight. */
class HashRing {
  private readonly points: Uint32Array;
  private readonly owners: Int32Array;

  constructor(ids: readonly string[], pointsEach: number) {
    const all = ids.flatMap((id, owner) =>
      Array.from({ length: pointsEach }, (_, at) => ({ point: hashText(`${id}#${at}`, 1) >>> 0, owner })),
    );
    all.sort((a, b) => a.point - b.point);
    this.points = Uint32Array.from(all, ({ point }) => point);
    this.owners = Int32Array.from(all, ({ owner }) => owner);
  }

  pick(key: string): number {
    const wanted = hashText(key, 2) >>> 0;
    let [from, to] = [0, this.points.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.points[middle]! < wanted) from = middle + 1;
      else to = middle;
    }
    return this.owners[from === this.owners.length ? 0 : from]!;
  }
}

function addBalance(benchmarks: Benchmark.Suite): void {
  const keys = Array.from({ length: 1_024 }, (_, i) => `tenant/client-${i}`);
  let next = 0;
  for (const count of [3, 30, 300]) {
    const ids = Array.from({ length: count }, (_, i) => `server-${i}`);
    const weights = ids.map((_, i) => 1 + (i % 3));
    const hash = new ConsistentHash(ids, weights);
    const ring = new HashRing(ids, 100);
    const roundRobin = new WeightedRoundRobin(weights, 0);
    const weightedRandom = new WeightedRandom(weights);
    benchmarks.add(`pick of ${count}: consistent hash`, () => hash.pick(keys[next++ & 1_023]!, -1));
    benchmarks.add(`pick of ${count}: ring of 100 points each`, () => ring.pick(keys[next++ & 1_023]!));
    benchmarks.add(`pick of ${count}: round robin`, () => roundRobin.pick());
    benchmarks.add(`pick of ${count}: random`, () => weightedRandom.pick(random));
    benchmarks.add(`build for ${count}: consistent hash`, () => new ConsistentHash(ids, weights));
    benchmarks.add(`build for ${count}: ring of 100 points each`, () => new HashRing(ids, 100));
  }
}

function addFrames(benchmarks: Benchmark.Suite): void {
  const bodies = Array.from({ length: 64 }, () => PAYLOAD);
  const answers = bodies.map(body => ({ status: 0, body }));
  const frame = BYTES.packRequests(bodies);
  const answered = BYTES.packAnswers(answers);
  benchmarks.add('write a frame of 64 requests', () => BYTES.packRequests(bodies));
  benchmarks.add('read a frame of 64 requests', () => {
    if (BYTES.unpackRequests(frame, 4_096) === MALFORMED) throw new Error('the benchmark is wrong');
  });
  benchmarks.add('write a frame of 64 answers', () => BYTES.packAnswers(answers));
  benchmarks.add('read a frame of 64 answers', () => BYTES.unpackAnswers(answered, 4_096));
}

export function suite(): Benchmark.Suite {
  const benchmarks = new Benchmark.Suite('rpc');
  addCalls(benchmarks);
  addPromises(benchmarks);
  addBalance(benchmarks);
  addFrames(benchmarks);
  return benchmarks;
}
