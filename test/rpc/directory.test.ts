import { describe, expect, it } from 'vitest';
import { type Announcement, encodeAnnouncement } from '../../src/rpc/announcement.js';
import type { RpcResult } from '../../src/rpc/failure.js';
import type { Reply } from '../../src/rpc/handler.js';
import { bank, handlers } from './bank.js';
import { World } from './world.js';

const ANNOUNCED: Announcement = {
  id: 's1',
  address: '10.0.0.1:4900',
  groups: ['red'],
  attributes: { zone: 'a' },
  version: '1.2.3',
  draining: false,
};

describe('the live list', () => {
  it('passes over members that announce nonsense', () => {
    const world = new World(1);
    const [one, two] = [world.addNode(), world.addNode()];
    two.rpc.serve(bank, handlers({}), { id: 's1' });
    const view = one.rpc.view('bank');
    world.run(100);
    const member = { host: 9, name: 's9', metadata: Buffer.from('nonsense'), hlc: 99 };
    one.rpc.onAgentOutputs([{ kind: 'member-joined', agent: 'rpc.bank', member }]);
    const stolen = { ...member, metadata: encodeAnnouncement(ANNOUNCED) };
    one.rpc.onAgentOutputs([{ kind: 'member-updated', agent: 'rpc.bank', member: stolen }]);
    expect(view.servers().map(({ announcement }) => announcement.id)).toEqual(['s1']);
    expect(world.warnings).toHaveLength(2);
  });

  it('takes the later of two with one id, and the earlier again when that goes', () => {
    const world = new World(2);
    const nodes = [world.addNode(), world.addNode(), world.addNode()];
    const client = nodes[0]!.rpc.client(bank);
    const serve = (at: number, text: string) =>
      nodes[at]!.rpc.serve(bank, handlers({ at: (_request, reply) => reply.done(text) }), { id: 's1' });
    serve(1, 'first');
    world.run(50);
    const second = serve(2, 'second');
    world.run(50);
    const seen: unknown[] = [];
    const ask = () => {
      client.at.call('s1', {}, result => seen.push('value' in result ? result.value : result.kind));
      world.run(50);
    };
    ask();
    second.close();
    world.run(50);
    ask();
    expect(seen).toEqual(['second', 'first']);
  });

  it('lets answers arrive that are slower than the news of the goodbye', () => {
    const world = new World(3, { delayMs: 400, gossipMs: 5 });
    const [caller, callee] = [world.addNode(), world.addNode()];
    const held: Reply<null>[] = [];
    const all = handlers({ pay: (_request, reply) => void held.push(reply) });
    const server = callee.rpc.serve(bank, all, { id: 's1' });
    const client = caller.rpc.client(bank);
    world.run(50);
    const results: RpcResult<null>[] = [];
    client.pay.call({ key: 'k', value: 1 }, {}, result => results.push(result));
    world.runUntil(() => held.length === 1, 2_000);
    server.drain({ graceMs: 50, timeoutMs: 5_000 }, () => {});
    world.run(100);
    held[0]!.done(null);
    world.run(20);
    expect([results, caller.rpc.view('bank').servers()]).toEqual([[], []]);
    world.run(1_000);
    expect(results.map(({ kind }) => kind)).toEqual(['ok']);
    world.run(10_000);
    expect(caller.rpc.entries()).toMatchObject({ agenda: 0, links: 0 });
  });

  it('shares a connection among services and closes it with the last', () => {
    const world = new World(4);
    const [caller, callee] = [world.addNode(), world.addNode()];
    const servers = ['s1', 's2'].map(id =>
      callee.rpc.serve(bank, handlers({ at: (_request, reply) => reply.done(id) }), { id }),
    );
    const client = caller.rpc.client(bank);
    world.run(50);
    const seen: unknown[] = [];
    for (const id of ['s1', 's2'])
      client.at.call(id, {}, result => seen.push('value' in result && result.value));
    world.run(50);
    expect([seen.sort(), caller.rpc.entries().links]).toEqual([['s1', 's2'], 1]);
    servers[0]!.close();
    world.run(50);
    expect(caller.rpc.entries().links).toBe(1);
    servers[1]!.close();
    world.run(50);
    expect([caller.rpc.entries().links, world.network.channels.size]).toEqual([0, 0]);
  });

  it('shows what is under way', () => {
    const world = new World(5);
    const [caller, callee] = [world.addNode(), world.addNode()];
    callee.rpc.serve(bank, handlers({ get: () => {} }), {
      id: 's1',
      groups: ['red'],
      attributes: { zone: 'a' },
    });
    const client = caller.rpc.client(bank);
    caller.rpc.view('bank').setTraffic('', { red: 1 });
    world.run(50);
    client.get.call('x', { deadlineMs: 100 }, () => {});
    world.run(50);
    const [row] = caller.rpc.view('bank').servers();
    expect(row).toMatchObject({ host: 2, isLocal: false, brokenForMs: -1, underWay: 1, begun: 1, failed: 0 });
    world.run(100);
    const [after] = caller.rpc.view('bank').servers();
    expect(after).toMatchObject({ underWay: 0, begun: 1, failed: 1 });
    expect(caller.rpc.services()).toEqual(['bank']);
  });

  it('ends everything with the node', () => {
    const world = new World(6);
    const [caller, callee] = [world.addNode(), world.addNode()];
    callee.rpc.serve(bank, handlers({ get: () => {} }), { id: 's1' });
    caller.rpc.serve(bank, handlers({ get: () => {} }), { id: 's2' });
    const client = caller.rpc.client(bank);
    world.run(50);
    const results: RpcResult<number>[] = [];
    for (let i = 0; i < 10; i++) client.get.call('x', { deadlineMs: 3_000 }, result => results.push(result));
    world.run(50);
    caller.rpc.close();
    world.run(50);
    expect(results).toHaveLength(10);
    expect(caller.rpc.entries()).toEqual({ agenda: 0, links: 0, served: 0, views: 0 });
    expect(
      callee.rpc
        .view('bank')
        .servers()
        .map(({ announcement }) => announcement.id),
    ).toEqual(['s1']);
  });
});
