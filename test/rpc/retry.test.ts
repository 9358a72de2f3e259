import { describe, expect, it } from 'vitest';
import type { RpcResult } from '../../src/rpc/failure.js';
import { bank, handlers, kinds } from './bank.js';
import { type Node, World } from './world.js';

/** Calls that are tried again because it is certain that nothing of them was begun; and when. */

const PAYMENT = { key: 'k', value: 1 };
/** As long as it takes until a broken connection is tried every ten seconds only. */
const LONG_MS = 30_000;

function setUp(seed: number) {
  const world = new World(seed);
  const caller = world.addNode();
  const paid: string[] = [];
  const client = caller.rpc.client(bank);
  const serve = (id: string): Node => {
    const node = world.addNode();
    const all = handlers({
      pay: (_request, reply) => {
        paid.push(id);
        reply.done(null);
      },
      at: (_request, reply) => reply.done(id),
      turn: (_request, reply) => reply.done(id),
    });
    node.rpc.serve(bank, all, { id });
    return node;
  };
  const results: RpcResult<unknown>[] = [];
  const done = (result: RpcResult<unknown>) => void results.push(result);
  return { world, caller, client, paid, serve, results, done };
}

/** Refuses connections, and has done so for a long time. */
function shutOut(world: World, caller: Node, node: Node): void {
  world.network.refusing.add(node.address);
  caller.rpc.view('bank').connect();
  world.run(10);
  world.network.breakAll(node, 'now');
  world.run(LONG_MS);
}

describe('a call that is not idempotent', () => {
  it('goes to another server when the first could not be reached', () => {
    const { world, client, paid, serve, results, done } = setUp(1);
    const [s1] = [serve('s1'), serve('s2')];
    world.run(100);
    world.network.refusing.add(s1.address);
    for (let i = 0; i < 20; i++) client.pay.call(PAYMENT, {}, done);
    world.run(200);
    expect(kinds(results)).toEqual(Array(20).fill('ok'));
    expect(paid).toEqual(Array(20).fill('s2'));
  });

  it('goes to another server when the first takes nothing new', () => {
    const { world, caller, client, paid, serve, results, done } = setUp(2);
    serve('s2');
    const goes = world.addNode();
    const never = () => expect.unreachable('it goes');
    const s1 = goes.rpc.serve(bank, handlers({ pay: never }), { id: 's1' });
    world.run(100);
    caller.rpc.view('bank').connect();
    world.run(10);
    s1.drain({ graceMs: 0, timeoutMs: 1_000 }, () => undefined);
    // Before the news of that arrives.
    for (let i = 0; i < 20; i++) client.pay.call(PAYMENT, {}, done);
    world.run(500);
    expect(kinds(results)).toEqual(Array(20).fill('ok'));
    expect(paid).toEqual(Array(20).fill('s2'));
  });

  it('waits for a server until its deadline, and is then unavailable', () => {
    const { world, caller, client, paid, serve, results, done } = setUp(3);
    const s1 = serve('s1');
    world.run(100);
    shutOut(world, caller, s1);
    client.pay.call(PAYMENT, { deadlineMs: 300 }, done);
    client.pay.call(PAYMENT, { deadlineMs: 5_000 }, done);
    world.run(1_000);
    expect(kinds(results)).toEqual(['unavailable']);
    world.network.refusing.clear();
    world.run(3_000);
    expect([kinds(results), paid]).toEqual([['unavailable', 'ok'], ['s1']]);
  });

  it('is not sent again when its outcome is not known', () => {
    const { world, caller, client, serve, results, done } = setUp(4);
    const s1 = serve('s1');
    serve('s2');
    world.run(100);
    caller.rpc.view('bank').connect();
    world.run(10);
    world.freeze(s1);
    for (let i = 0; i < 20; i++) client.pay.call(PAYMENT, {}, done);
    world.run(100);
    const hanging = 20 - results.length;
    expect(hanging).toBeGreaterThan(0);
    world.kill(s1);
    world.run(1_000);
    expect(kinds(results).filter(kind => kind === 'unknown-outcome')).toHaveLength(hanging);
  });
});

describe('a server whose connection could not be made for a long time', () => {
  it.each(['at', 'turn'] as const)('is tried at once when a call wants it (%s)', method => {
    const { world, caller, client, serve, results, done } = setUp(5);
    const s1 = serve('s1');
    world.run(100);
    shutOut(world, caller, s1);
    world.network.refusing.clear();
    const sinceMs = world.nowMs;
    client[method].call('s1', {}, done);
    world.runUntil(() => results.length > 0, 5_000);
    expect(results).toEqual([{ kind: 'ok', value: 's1' }]);
    expect(world.nowMs - sinceMs).toBeLessThan(200);
  });

  it('is tried once a second at the most, however many calls want it', () => {
    const { world, caller, client, serve, done } = setUp(6);
    const s1 = serve('s1');
    world.run(100);
    shutOut(world, caller, s1);
    const [channel] = world.network.channels;
    const connect = channel!.connect.bind(channel);
    let attempts = 0;
    channel!.connect = () => {
      attempts++;
      connect();
    };
    for (let ms = 0; ms < 5_000; ms += 10) {
      client.at.call('s1', { deadlineMs: 100 }, done);
      world.run(10);
    }
    expect(attempts).toBeGreaterThanOrEqual(4);
    expect(attempts).toBeLessThanOrEqual(6);
  });
});
