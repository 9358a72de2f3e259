import { describe, expect, it } from 'vitest';
import type { RpcResult } from '../../src/rpc/failure.js';
import type { Caller, PipelineHandler, Reply } from '../../src/rpc/handler.js';
import { bank, handlers, kinds } from './bank.js';
import { type Node, World } from './world.js';

type Entry = { key: string; value: number };

/** What servers carried out, in their order. */
class Ledger {
  readonly done: { server: string; key: string; value: number }[] = [];

  values(key: string): number[] {
    return this.done.filter(each => each.key === key).map(({ value }) => value);
  }
}

function serve(node: Node, id: string, ledger: Ledger, slowMs = 0, world?: World) {
  const open = (_caller: Caller): PipelineHandler<Entry, number> => ({
    request({ key, value }, reply) {
      ledger.done.push({ server: id, key, value });
      if (slowMs === 0) reply.done(value);
      else world!.after(slowMs * (0.5 + world!.random.below(100) / 100), () => reply.done(value));
    },
  });
  return node.rpc.serve(bank, handlers({ put: open, log: open }), { id });
}

describe.each(['own process', 'other node'])('a pipeline to the %s', where => {
  const setUp = (seed: number, slowMs = 0) => {
    const world = new World(seed);
    const caller = world.addNode();
    const callee = where === 'own process' ? caller : world.addNode();
    const ledger = new Ledger();
    const client = caller.rpc.client(bank);
    serve(callee, 's1', ledger, slowMs, world);
    world.run(100);
    return { world, ledger, client };
  };

  it('keeps requests and answers in order, however long each takes', () => {
    const { world, ledger, client } = setUp(1, 10);
    const pipeline = client.put.open({ key: 'k' });
    const results: RpcResult<number>[] = [];
    const sent = Array.from({ length: 500 }, (_, i) => i);
    for (const value of sent) {
      pipeline.send({ key: 'k', value }, result => results.push(result));
      if (value % 50 === 0) world.run(3);
    }
    world.run(5_000);
    expect(results).toEqual(sent.map(value => ({ kind: 'ok', value })));
    expect(ledger.values('k')).toEqual(sent);
    pipeline.close();
    world.run(100);
    expect(pipeline.depth).toBe(0);
  });

  it('says throttled at once past its depth, and closed after its end', () => {
    const { client, world } = setUp(2, 10);
    const pipeline = client.put.open({ key: 'k', depthMax: 10 });
    const results: RpcResult<number>[] = [];
    for (let value = 0; value < 12; value++)
      pipeline.send({ key: 'k', value }, result => results.push(result));
    expect(kinds(results)).toEqual(['throttled', 'throttled']);
    pipeline.close();
    pipeline.send({ key: 'k', value: 13 }, result => results.push(result));
    expect(kinds(results).slice(2)).toEqual(['aborted']);
    world.run(1_000);
    expect(kinds(results).slice(3)).toEqual(Array(10).fill('ok'));
  });

  it('answers by the deadline when the handler does not, and goes on behind it', () => {
    const world = new World(3);
    const caller = world.addNode();
    const callee = where === 'own process' ? caller : world.addNode();
    const replies: Reply<number>[] = [];
    callee.rpc.serve(
      bank,
      handlers({ put: () => ({ request: (_request, reply) => void replies.push(reply) }) }),
      { id: 's1' },
    );
    const client = caller.rpc.client(bank);
    world.run(100);
    const pipeline = client.put.open({ key: 'k', deadlineMs: 200 });
    const results: RpcResult<number>[] = [];
    pipeline.send({ key: 'k', value: 1 }, result => results.push(result));
    world.run(100);
    pipeline.send({ key: 'k', value: 2 }, result => results.push(result));
    world.run(101);
    expect(kinds(results)).toEqual(['deadline']);
    for (const reply of replies) reply.done(5);
    world.run(20);
    expect(results.slice(1)).toEqual([{ kind: 'ok', value: 5 }]);
  });

  it('refuses a request that is too large, and only that', () => {
    const world = new World(4);
    const caller = world.addNode();
    const callee = world.addNode();
    serve(callee, 's1', new Ledger());
    const client = caller.rpc.client(bank);
    world.run(100);
    const pipeline = client.put.open({ key: 'k' });
    const results: RpcResult<number>[] = [];
    pipeline.send({ key: 'x'.repeat(5_000_000), value: 1 }, result => results.push(result));
    pipeline.send({ key: 'k', value: 2 }, result => results.push(result));
    world.run(100);
    expect(kinds(results)).toEqual(['aborted', 'ok']);
  });
});

describe('a pipeline that moves', () => {
  const setUp = (seed: number, slowMs = 0) => {
    const world = new World(seed);
    const nodes = [world.addNode(), world.addNode(), world.addNode()];
    const ledger = new Ledger();
    const client = nodes[0]!.rpc.client(bank);
    const servers = [
      serve(nodes[1]!, 's1', ledger, slowMs, world),
      serve(nodes[2]!, 's2', ledger, slowMs, world),
    ];
    world.run(100);
    return { world, nodes, ledger, client, servers };
  };

  it('with a drain: nothing fails, nothing is done twice or out of order', () => {
    const { world, ledger, client, servers } = setUp(5, 5);
    const pipelines = Array.from({ length: 8 }, (_, i) => client.put.open({ key: `k${i}` }));
    const results: RpcResult<number>[] = [];
    let value = 0;
    for (let ms = 0; ms < 1_000; ms++) {
      if (ms === 500) servers[0]!.drain({ graceMs: 0, timeoutMs: 2_000 }, () => {});
      pipelines.forEach((pipeline, i) => {
        pipeline.send({ key: `k${i}`, value }, result => results.push(result));
      });
      value++;
      world.run(1);
    }
    world.run(2_000);
    expect(results).toHaveLength(8_000);
    expect(new Set(kinds(results))).toEqual(new Set(['ok']));
    for (let i = 0; i < 8; i++)
      expect(ledger.values(`k${i}`)).toEqual(Array.from({ length: 1_000 }, (_, at) => at));
    expect(new Set(pipelines.map(({ target }) => target))).toEqual(new Set(['s2']));
    expect(ledger.done.some(({ server }) => server === 's1')).toBe(true);
  });

  it('with the rules: what is under way is finished first', () => {
    const world = new World(6);
    const nodes = [world.addNode(), world.addNode(), world.addNode()];
    const ledger = new Ledger();
    const open = (id: string) => () => ({
      request({ key, value }: Entry, reply: Reply<number>) {
        ledger.done.push({ server: id, key, value });
        world.after(20, () => reply.done(value));
      },
    });
    nodes[1]!.rpc.serve(bank, handlers({ put: open('s1') }), { id: 's1', groups: ['red'] });
    nodes[2]!.rpc.serve(bank, handlers({ put: open('s2') }), { id: 's2', groups: ['blue'] });
    const client = nodes[0]!.rpc.client(bank);
    nodes[2]!.rpc.view('bank').setTraffic('', { red: 1 });
    world.run(100);
    const pipeline = client.put.open({ tenant: 'acme', key: 'k' });
    const results: RpcResult<number>[] = [];
    for (let value = 0; value < 100; value++) {
      if (value === 50) nodes[2]!.rpc.view('bank').setTraffic('ac', { blue: 3 });
      pipeline.send({ key: 'k', value }, result => results.push(result));
      world.run(5);
    }
    world.run(1_000);
    expect(kinds(results)).toEqual(Array(100).fill('ok'));
    expect(ledger.values('k')).toEqual(Array.from({ length: 100 }, (_, at) => at));
    const by = ledger.done.map(({ server }) => server);
    expect(by).toEqual([...by].sort());
    expect(new Set(by)).toEqual(new Set(['s1', 's2']));
  });

  it.each([false, true])(
    'with a crash (idempotent: %s): each request has a true answer, in order',
    isIdempotent => {
      const { world, nodes, ledger, client } = setUp(7, 5);
      const caller = isIdempotent ? client.log : client.put;
      const keys = Array.from({ length: 6 }, (_, i) => `k${i}`);
      const pipelines = keys.map(key => caller.open({ key }));
      const victim = nodes[1]!;
      const results = new Map(keys.map(key => [key, [] as RpcResult<number>[]]));
      for (let value = 0; value < 600; value++) {
        if (value === 300) world.kill(victim);
        pipelines.forEach((pipeline, i) => {
          pipeline.send({ key: keys[i]!, value }, result => results.get(keys[i]!)!.push(result));
        });
        world.run(1);
      }
      world.run(15_000);
      for (const key of keys) {
        const answers = results.get(key)!;
        expect(answers).toHaveLength(600);
        if (isIdempotent) expect(answers).toEqual(answers.map((_, value) => ({ kind: 'ok', value })));
        const carriedOut = new Set(ledger.values(key));
        answers.forEach((answer, value) => {
          if (answer.kind === 'ok') expect(carriedOut.has(value)).toBe(true);
          if (answer.kind === 'aborted' || answer.kind === 'unavailable')
            expect(carriedOut.has(value)).toBe(false);
        });
      }
      const all = [...results.values()].flat();
      const failed = kinds(all).filter(kind => kind !== 'ok');
      if (!isIdempotent) expect(new Set(failed)).toEqual(new Set(['unknown-outcome', 'aborted']));
    },
  );

  it('gives up a server that hangs, and tells so', () => {
    const { world, nodes, client } = setUp(8);
    const pipeline = client.log.open({ key: 'k', deadlineMs: 20_000 });
    const results: RpcResult<number>[] = [];
    pipeline.send({ key: 'k', value: 1 }, result => results.push(result));
    world.run(50);
    const target = pipeline.target === 's1' ? nodes[1]! : nodes[2]!;
    world.freeze(target);
    pipeline.send({ key: 'k', value: 2 }, result => results.push(result));
    world.run(3_900);
    expect(kinds(results)).toEqual(['ok']);
    world.run(200);
    expect(kinds(results)).toEqual(['ok', 'ok']);
  });

  it('tells that there is no server, but waits for one that it had', () => {
    const world = new World(9);
    const nodes = [world.addNode(), world.addNode()];
    const client = nodes[0]!.rpc.client(bank);
    const pipeline = client.put.open({ key: 'k' });
    const results: RpcResult<number>[] = [];
    const done = (result: RpcResult<number>) => results.push(result);
    pipeline.send({ key: 'k', value: 1 }, done);
    world.run(10);
    expect(kinds(results)).toEqual(['server-not-found']);
    const ledger = new Ledger();
    const server = serve(nodes[1]!, 's1', ledger);
    world.run(100);
    pipeline.send({ key: 'k', value: 2 }, done);
    world.run(100);
    server.close();
    world.run(100);
    pipeline.send({ key: 'k', value: 3 }, done);
    world.run(1_000);
    expect(kinds(results)).toEqual(['server-not-found', 'ok']);
    serve(nodes[1]!, 's2', ledger);
    world.run(100);
    expect(kinds(results)).toEqual(['server-not-found', 'ok', 'ok']);
  });
});
