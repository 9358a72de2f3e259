import { describe, expect, it } from 'vitest';
import { CALL_BYTES_MAX } from '../../src/rpc/client.js';
import type { RpcResult } from '../../src/rpc/failure.js';
import { answering, type Reply } from '../../src/rpc/handler.js';
import { bank, handlers, kinds } from './bank.js';
import { type Node, World } from './world.js';

function collect<T>(): { results: RpcResult<T>[]; done: (result: RpcResult<T>) => void } {
  const results: RpcResult<T>[] = [];
  return { results, done: result => results.push(result) };
}

function serveTurn(node: Node, id: string, calls: string[] = []) {
  return node.rpc.serve(
    bank,
    handlers({
      turn: (_request, reply) => {
        calls.push(id);
        reply.done(id);
      },
      pay: (_request, reply) => {
        calls.push(id);
        reply.done(null);
      },
      at: (_request, reply) => reply.done(id),
      of: (_request, reply) => reply.done(id),
    }),
    { id },
  );
}

describe.each(['own process', 'other node'])('a unary call to the %s', where => {
  const setUp = () => {
    const world = new World(1);
    const caller = world.addNode();
    const callee = where === 'own process' ? caller : world.addNode();
    const client = caller.rpc.client(bank);
    return { world, caller, callee, client };
  };

  it('is answered, not before it has returned', () => {
    const { world, callee, client } = setUp();
    serveTurn(callee, 's1');
    world.run(100);
    const { results, done } = collect<string>();
    client.turn.call('x', {}, done);
    expect(results).toEqual([]);
    world.run(100);
    expect(results).toEqual([{ kind: 'ok', value: 's1' }]);
  });

  it('tells the handler whose it is and how long it waits', () => {
    const { world, callee, client } = setUp();
    const seen: unknown[] = [];
    callee.rpc.serve(
      bank,
      handlers({
        get: (request, reply) => {
          seen.push(request, reply.caller.tenant, reply.caller.deadlineMs);
          reply.done(7);
        },
      }),
      { id: 's1' },
    );
    world.run(100);
    const { results, done } = collect<number>();
    client.get.call('x', { tenant: 'acme', deadlineMs: 700 }, done);
    world.run(100);
    expect(results).toEqual([{ kind: 'ok', value: 7 }]);
    expect(seen).toEqual(['x', 'acme', 700]);
  });

  it('ends at its deadline, and its handler hears of that', () => {
    const { world, callee, client } = setUp();
    let late: Reply<number> | undefined;
    callee.rpc.serve(
      bank,
      handlers({
        get: (_request, reply) => {
          late = reply;
        },
      }),
      { id: 's1' },
    );
    world.run(100);
    const { results, done } = collect<number>();
    client.get.call('x', { deadlineMs: 300 }, done);
    world.run(299);
    expect([results, late?.isOver]).toEqual([[], false]);
    world.run(10);
    expect(kinds(results)).toEqual(['deadline']);
    expect(late?.isOver).toBe(true);
    late?.done(1);
    world.run(100);
    expect(results).toHaveLength(1);
  });

  it('can be cancelled: at once aborted, later unknown', () => {
    const { world, callee, client } = setUp();
    const replies: Reply<number>[] = [];
    callee.rpc.serve(bank, handlers({ get: (_request, reply) => void replies.push(reply) }), { id: 's1' });
    world.run(100);
    const { results, done } = collect<number>();
    const call = client.get.call('x', {}, done);
    world.run(50);
    call.cancel();
    world.run(50);
    expect(kinds(results)).toEqual(['unknown-outcome']);
    expect(replies.map(({ isOver }) => isOver)).toEqual([true]);
  });

  it('is refused when too many are under way there', () => {
    const { world, callee, client } = setUp();
    const held: Reply<number>[] = [];
    const serving = { id: 's1', limits: { callsMax: 3, streamsMax: 1 } };
    callee.rpc.serve(bank, handlers({ get: (_request, reply) => void held.push(reply) }), serving);
    world.run(100);
    const { results, done } = collect<number>();
    for (let i = 0; i < 5; i++) client.get.call('x', {}, done);
    world.run(50);
    expect(kinds(results)).toEqual(['throttled', 'throttled']);
    for (const reply of held) reply.done(1);
    world.run(50);
    expect(kinds(results).slice(2)).toEqual(['ok', 'ok', 'ok']);
  });
});

it('a method can be served and called by promises', async () => {
  const world = new World(1);
  const node = world.addNode();
  const get = answering(
    async (request: string): Promise<RpcResult<number>> =>
      request === 'x' ? { kind: 'ok', value: 1 } : { kind: 'throttled', detail: 'not now' },
  );
  node.rpc.serve(bank, handlers({ get }), { id: 's1' });
  const client = node.rpc.client(bank);
  const asked = [client.get.ask('x'), client.get.ask('y')];
  world.run(1);
  await new Promise(resolve => setImmediate(resolve));
  world.run(1);
  expect(await Promise.all(asked)).toEqual([
    { kind: 'ok', value: 1 },
    { kind: 'throttled', detail: 'not now' },
  ]);
});

describe('failures', () => {
  it('names what is missing', () => {
    const world = new World(2);
    const node = world.addNode();
    const client = node.rpc.client(bank);
    const { results, done } = collect<string>();
    client.turn.call('x', {}, done);
    client.at.call('s9', {}, done);
    world.run(10);
    expect(results).toEqual([
      { kind: 'server-not-found', detail: 'bank: no server is known' },
      { kind: 'server-not-found', detail: 'bank: no server s9 is known' },
    ]);
  });

  it('refuses what is too large before it is sent', () => {
    const world = new World(3);
    const [caller, callee] = [world.addNode(), world.addNode()];
    const client = caller.rpc.client(bank);
    const calls: string[] = [];
    serveTurn(callee, 's1', calls);
    world.run(100);
    const { results, done } = collect<null>();
    client.pay.call({ key: 'k'.repeat(100), value: 1 }, {}, done);
    client.pay.call({ key: 'k', value: 1 }, {}, done);
    world.run(100);
    expect(kinds(results)).toEqual(['aborted', 'ok']);
    expect(calls).toHaveLength(1);
  });

  it('refuses what is beyond the bound of bytes while a server takes nothing', () => {
    const request = 'x'.repeat(2_000_000);
    const taken = Math.floor(CALL_BYTES_MAX / 2_000_002) + 1;
    const world = new World(13);
    const [caller, callee] = [world.addNode(), world.addNode()];
    serveTurn(callee, 's1');
    const client = caller.rpc.client(bank);
    world.run(100);
    world.freeze(callee);
    const { results, done } = collect<string>();
    for (let i = 0; i < taken + 10; i++) client.turn.call(request, {}, done);
    world.run(1);
    expect(kinds(results)).toEqual(Array(10).fill('throttled'));
    callee.isFrozen = false;
    world.run(200);
    expect(results).toHaveLength(taken + 10);
    client.turn.call(request, {}, done);
    world.run(100);
    expect(results.at(-1)).toEqual({ kind: 'ok', value: 's1' });
  });

  it('does not ask again and again for an answer that is too large', () => {
    const world = new World(12);
    const [caller, callee] = [world.addNode(), world.addNode()];
    let calls = 0;
    const turn = (_request: string, reply: Reply<string>) => {
      calls++;
      reply.done('x'.repeat(5_000_000));
    };
    callee.rpc.serve(bank, handlers({ turn }), { id: 's1' });
    const client = caller.rpc.client(bank);
    world.run(100);
    const { results, done } = collect<string>();
    client.turn.call('x', {}, done);
    world.run(1_000);
    expect([kinds(results), calls]).toEqual([['unknown-outcome'], 3]);
  });

  it('takes hostile bytes for what they are', () => {
    const world = new World(4);
    const node = world.addNode();
    serveTurn(node, 's1');
    const failures: string[] = [];
    const context = { deadlineMs: 100, tenant: '', server: 's1' };
    const sink = {
      done: () => failures.push('done'),
      failed: ({ kind }: { kind: string }) => failures.push(kind),
    };
    const { endpoint } = node.rpc;
    endpoint.unary('bank/turn', Buffer.from([0xff]), context, sink);
    endpoint.unary('bank/nothing', Buffer.from([]), context, sink);
    endpoint.unary('bank/toString', Buffer.from([]), context, sink);
    endpoint.unary('', Buffer.from([]), context, sink);
    endpoint.unary('bank/turn', Buffer.from([]), { ...context, server: 's2' }, sink);
    endpoint.unary('bank/put', Buffer.from([]), context, sink);
    endpoint.unary('bank/pay', Buffer.alloc(65), context, sink);
    const refused = ['aborted', 'aborted', 'aborted', 'unavailable', 'unavailable', 'aborted', 'aborted'];
    expect(failures).toEqual(refused);
  });
});

describe('a server that goes', () => {
  const setUp = (seed: number) => {
    const world = new World(seed);
    const nodes = [world.addNode(), world.addNode(), world.addNode()];
    const calls: string[] = [];
    const client = nodes[0]!.rpc.client(bank);
    const servers = [serveTurn(nodes[1]!, 's1', calls), serveTurn(nodes[2]!, 's2', calls)];
    world.run(100);
    return { world, nodes, calls, client, servers };
  };

  it('by a crash: idempotent calls notice nothing, others are told the truth', () => {
    const { world, nodes, calls, client } = setUp(5);
    const turns = collect<string>();
    const pays = collect<null>();
    let asked = 0;
    for (let ms = 0; ms < 2_000; ms += 1) {
      if (ms === 1_000) world.kill(nodes[1]!);
      client.turn.call('x', {}, turns.done);
      client.pay.call({ key: 'k', value: 1 }, {}, pays.done);
      client.pay.call({ key: 'k', value: 1 }, {}, pays.done);
      asked++;
      world.run(1);
    }
    world.run(1_000);
    expect(kinds(turns.results)).toEqual(Array(asked).fill('ok'));
    expect(pays.results).toHaveLength(2 * asked);
    const failures = kinds(pays.results).filter(kind => kind !== 'ok');
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.length).toBeLessThan(10);
    for (const failure of failures) expect(['unknown-outcome', 'unavailable']).toContain(failure);
    expect(calls.filter(id => id === 's1').length).toBeGreaterThan(500);
  });

  it('by freezing: it is given up when the overlay says so', () => {
    const { world, nodes, client } = setUp(6);
    world.freeze(nodes[1]!);
    const { results, done } = collect<string>();
    for (let i = 0; i < 20; i++) client.turn.call('x', { deadlineMs: 8_000 }, done);
    world.run(3_900);
    expect(results).toHaveLength(10);
    world.run(200);
    expect(kinds(results)).toEqual(Array(20).fill('ok'));
  });

  it('and comes back: its connection is tried again, and calls come once it stands', () => {
    const { world, nodes, calls, client } = setUp(7);
    world.network.refusing.add(nodes[1]!.address);
    nodes[0]!.rpc.view('bank').connect();
    world.network.breakAll(nodes[1]!, 'now');
    world.run(3_000);
    const { results, done } = collect<string>();
    const { delivered } = world.network;
    for (let i = 0; i < 50; i++) client.turn.call('x', {}, done);
    world.run(100);
    expect(new Set(calls)).toEqual(new Set(['s2']));
    const [row] = nodes[0]!.rpc.view('bank').servers();
    expect(row!.brokenForMs).toBeGreaterThan(2_900);
    expect(world.network.delivered - delivered).toBe(50);
    world.network.refusing.clear();
    world.run(12_000);
    for (let i = 0; i < 50; i++) client.turn.call('x', {}, done);
    world.run(100);
    expect(new Set(calls)).toEqual(new Set(['s1', 's2']));
    expect(kinds(results)).toEqual(Array(100).fill('ok'));
  });

  it('by draining: new work goes elsewhere, what it has is finished, nothing fails', () => {
    const world = new World(8);
    const nodes = [world.addNode(), world.addNode(), world.addNode()];
    const held: Reply<number>[] = [];
    const client = nodes[0]!.rpc.client(bank);
    const slow = nodes[1]!.rpc.serve(bank, handlers({ get: (_request, reply) => void held.push(reply) }), {
      id: 's1',
    });
    world.run(100);
    const { results, done } = collect<number>();
    client.get.call('x', {}, done);
    world.run(50);
    nodes[2]!.rpc.serve(bank, handlers({ get: (_request, reply) => reply.done(2) }), { id: 's2' });
    const ends: boolean[] = [];
    slow.drain({ graceMs: 100, timeoutMs: 5_000 }, isFinished => ends.push(isFinished));
    world.run(60);
    for (let i = 0; i < 10; i++) client.get.call('x', {}, done);
    world.run(1_000);
    expect(kinds(results)).toEqual(Array(10).fill('ok'));
    expect([held.length, ends]).toEqual([1, []]);
    held[0]!.done(1);
    world.run(50);
    expect([results.at(-1), ends]).toEqual([{ kind: 'ok', value: 1 }, [true]]);
    expect(
      nodes[0]!.rpc
        .view('bank')
        .servers()
        .map(({ announcement }) => announcement.id),
    ).toEqual(['s2']);
  });

  it('by draining: everybody who asks for it is told, also when it is over', () => {
    const world = new World(12);
    const node = world.addNode();
    const server = node.rpc.serve(bank, handlers({}), { id: 's1' });
    const ends: string[] = [];
    server.drain({ graceMs: 10, timeoutMs: 500 }, () => ends.push('first'));
    server.drain({ graceMs: 400, timeoutMs: 500 }, () => ends.push('second'));
    world.run(100);
    expect(ends).toEqual(['first', 'second']);
    server.drain({ graceMs: 10, timeoutMs: 500 }, () => ends.push('third'));
    server.close();
    world.run(100);
    expect(ends).toEqual(['first', 'second', 'third']);
  });

  it('by draining for too long: what is left has an unknown outcome', () => {
    const world = new World(9);
    const nodes = [world.addNode(), world.addNode()];
    const client = nodes[0]!.rpc.client(bank);
    const slow = nodes[1]!.rpc.serve(bank, handlers({ pay: () => {} }), { id: 's1' });
    world.run(100);
    const { results, done } = collect<null>();
    client.pay.call({ key: 'k', value: 1 }, {}, done);
    world.run(50);
    const ends: boolean[] = [];
    slow.drain({ graceMs: 0, timeoutMs: 500 }, isFinished => ends.push(isFinished));
    world.run(1_000);
    expect([kinds(results), ends]).toEqual([['unknown-outcome'], [false]]);
  });
});
