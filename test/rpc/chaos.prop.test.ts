import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RpcResult } from '../../src/rpc/failure.js';
import type { Caller, PipelineHandler } from '../../src/rpc/handler.js';
import type { RunningServer } from '../../src/rpc/rpc.js';
import { bank, handlers } from './bank.js';
import { type Node, World } from './world.js';

type Entry = { key: string; value: number };

const DEADLINE_MS = 1_500;

/** One request of the test, and everything that happened to it. */
interface Asked {
  readonly atMs: number;
  readonly answers: { readonly atMs: number; readonly result: RpcResult<unknown> }[];
  /** Servers that began it, in their order. */
  readonly carriedOut: string[];
}

/** Load on services that come and go over connections that break, all from one seed. */
class Chaos {
  readonly world: World;
  readonly asked: Asked[] = [];
  /** By pipeline key: values as they were begun, whoever did it. */
  readonly begun = new Map<string, number[]>();
  private readonly servers = new Map<string, { node: Node; server: RunningServer }>();
  private readonly clients: Node[] = [];
  private nextServer = 1;

  constructor(seed: number) {
    this.world = new World(seed, { delayMs: 5, gossipMs: 30, detectionMs: 700 });
    this.clients.push(this.world.addNode(), this.world.addNode());
    for (let i = 0; i < 3; i++) this.start(this.world.addNode());
    this.start(this.clients[0]!);
    this.world.run(200);
  }

  private start(node: Node): void {
    const id = `s${this.nextServer++}`;
    const { world } = this;
    const carryOut = (value: number, answer: () => void) => {
      this.asked[value]?.carriedOut.push(id);
      const slowness = world.random.below(10);
      // Some answer at once, some late, a few never.
      if (slowness < 5) answer();
      else if (slowness < 9 || !world.random.chance(0.2)) world.after(world.random.below(60), answer);
    };
    const open = (_caller: Caller): PipelineHandler<Entry, number> => ({
      request: ({ key, value }, reply) => {
        const values = this.begun.get(key) ?? [];
        this.begun.set(key, values);
        values.push(value);
        this.asked[value]?.carriedOut.push(id);
        if (world.random.chance(0.7)) reply.done(value);
        else world.after(world.random.below(40), () => reply.done(value));
      },
    });
    const all = handlers({
      of: (request, reply) => carryOut(Number(request), () => reply.done(request)),
      turn: (request, reply) => carryOut(Number(request), () => reply.done(request)),
      pay: ({ value }, reply) => carryOut(value, () => reply.done(null)),
      put: open,
      log: open,
    });
    this.servers.set(id, { node, server: node.rpc.serve(bank, all, { id }) });
  }

  /** Something goes wrong, or right again. */
  disturb(): void {
    const { world } = this;
    const dice = world.random.below(12);
    const running = [...this.servers];
    const [id, some] = running[world.random.below(running.length)] ?? [];
    if (dice < 4) world.network.breakSome();
    else if (dice < 6 && some !== undefined && !this.clients.includes(some.node)) {
      world.kill(some.node);
      for (const [other, { node }] of running) if (node === some.node) this.servers.delete(other);
    } else if (dice < 8 && id !== undefined) {
      this.servers.delete(id);
      some!.server.drain({ graceMs: world.random.below(2) * 50, timeoutMs: 400 }, () => {});
    } else if (dice < 9 && some !== undefined) {
      world.network.refusing.add(some.node.address);
      world.after(300, () => world.network.refusing.delete(some.node.address));
    } else if (this.servers.size < 6) {
      this.start(dice < 11 ? world.addNode() : this.clients[world.random.below(2)]!);
    }
  }

  private track(): { value: number; done: (result: RpcResult<unknown>) => void } {
    const value = this.asked.length;
    const asked: Asked = { atMs: this.world.nowMs, answers: [], carriedOut: [] };
    this.asked.push(asked);
    return { value, done: result => asked.answers.push({ atMs: this.world.nowMs, result }) };
  }

  run(forMs: number, load: (client: Node, track: Chaos['track']) => void, disturbMs: number): void {
    const { world } = this;
    for (let ms = 0; ms < forMs; ms += 2) {
      for (const client of this.clients) load(client, () => this.track());
      if (disturbMs > 0 && world.random.below(disturbMs) < 2) this.disturb();
      world.run(2);
    }
    world.run(DEADLINE_MS + 10);
  }

  /** What must hold for every call whatever happens. */
  check(isIdempotent: boolean): void {
    for (const { atMs, answers, carriedOut } of this.asked) {
      expect(answers).toHaveLength(1);
      const [answer] = answers;
      expect(answer!.atMs).toBeLessThanOrEqual(atMs + DEADLINE_MS + 1);
      const { kind } = answer!.result;
      if (kind === 'ok') expect(carriedOut.length).toBeGreaterThan(0);
      if (kind === 'aborted' || kind === 'throttled' || kind === 'server-not-found')
        expect(carriedOut).toEqual([]);
      if (kind === 'unavailable' && !isIdempotent) expect(carriedOut).toEqual([]);
      if (!isIdempotent) expect(carriedOut.length).toBeLessThanOrEqual(1);
    }
  }

  /** What was given before a caller was told of a doubt, and stands behind the doubtful one, was not done. */
  checkDoubt(values: readonly number[]): void {
    let doubtToldMs = Number.NEGATIVE_INFINITY;
    for (const value of values) {
      const { atMs, answers } = this.asked[value]!;
      const { kind } = answers[0]!.result;
      if (atMs < doubtToldMs) expect(kind).not.toBe('ok');
      if (kind === 'unknown-outcome') doubtToldMs = answers[0]!.atMs;
    }
  }

  kindOf(value: number): string {
    return this.asked[value]!.answers[0]!.result.kind;
  }

  count(kind: string): number {
    return this.asked.filter(({ answers }) => answers[0]!.result.kind === kind).length;
  }
}

const seeds = fc.integer({ min: 0, max: 0x7fff_ffff });
const some = { numRuns: 15 };

describe('under breaks, crashes, drains and refusals', () => {
  it('every unary call is answered once, by its deadline, with the truth', () => {
    fc.assert(
      fc.property(seeds, fc.boolean(), (seed, isIdempotent) => {
        const chaos = new Chaos(seed);
        chaos.run(
          800,
          ({ rpc }, track) => {
            const client = rpc.client(bank);
            const { value, done } = track();
            const options = { deadlineMs: DEADLINE_MS };
            if (!isIdempotent) client.pay.call({ key: '', value }, options, done);
            else if (value % 2 === 0) client.of.call(String(value), options, done);
            else client.turn.call(String(value), options, done);
          },
          60,
        );
        chaos.check(isIdempotent);
        expect(chaos.count('ok')).toBeGreaterThan(chaos.asked.length / 4);
      }),
      some,
    );
  });

  it.each([false, true])(
    'a pipeline (idempotent: %s) answers all, in order, and never begins one behind a doubtful one',
    isIdempotent => {
      fc.assert(
        fc.property(seeds, seed => {
          const chaos = new Chaos(seed);
          const given = new Map<string, number[]>();
          const pipelines = new Map<
            string,
            { send(request: Entry, done: (result: RpcResult<number>) => void): void }
          >();
          chaos.run(
            800,
            ({ rpc, id }, track) => {
              const key = `${id}-${chaos.world.random.below(3)}`;
              const client = rpc.client(bank);
              const pipeline =
                pipelines.get(key) ??
                (isIdempotent ? client.log : client.put).open({ key, deadlineMs: DEADLINE_MS });
              pipelines.set(key, pipeline);
              const { value, done } = track();
              given.set(key, [...(given.get(key) ?? []), value]);
              pipeline.send({ key, value }, done);
            },
            60,
          );
          chaos.check(isIdempotent);
          for (const key of pipelines.keys()) {
            const begun = chaos.begun.get(key) ?? [];
            if (isIdempotent) {
              // First times come in the order of the requests; again comes only what was not answered.
              const first = begun.filter((value, at) => begun.indexOf(value) === at);
              expect(first).toEqual([...first].sort((a, b) => a - b));
            } else {
              // One in doubt may still have been on its way when its caller was told so.
              const certain = begun.filter(value => chaos.kindOf(value) === 'ok');
              expect(certain).toEqual([...certain].sort((a, b) => a - b));
              chaos.checkDoubt(given.get(key)!);
            }
          }
          expect(chaos.count('ok')).toBeGreaterThan(chaos.asked.length / 4);
        }),
        some,
      );
    },
  );
});

it('in peace nothing fails', () => {
  const chaos = new Chaos(1);
  chaos.run(
    500,
    ({ rpc }, track) => {
      const { value, done } = track();
      rpc.client(bank).turn.call(String(value), { deadlineMs: DEADLINE_MS }, done);
    },
    0,
  );
  const late = chaos.count('deadline');
  expect(chaos.count('ok') + late).toBe(chaos.asked.length);
  // Those that the handlers never answer.
  expect(late).toBeLessThan(chaos.asked.length / 20);
});
