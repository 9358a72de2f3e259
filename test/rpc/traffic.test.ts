import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RpcResult } from '../../src/rpc/failure.js';
import { DIRECTIVES_MAX, Directives } from '../../src/rpc/traffic.js';
import { bank, handlers } from './bank.js';
import { World } from './world.js';

describe('directives', () => {
  const prefixes = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 6 });

  it('are found by the longest prefix, through all changes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), prefixes), { maxLength: 60 }),
        fc.array(prefixes, { minLength: 1, maxLength: 20 }),
        (changes, tenants) => {
          const directives = new Directives();
          const model = new Map<string, { prefix: string; weights: Record<string, number> }>();
          for (const [isSet, prefix] of changes) {
            const directive = { prefix, weights: { red: 1 } };
            if (isSet) {
              directives.set(directive);
              model.set(prefix, directive);
            } else {
              directives.delete(prefix);
              model.delete(prefix);
            }
          }
          for (const tenant of tenants) {
            const longest = [...model.values()]
              .filter(({ prefix }) => tenant.startsWith(prefix))
              .sort((a, b) => b.prefix.length - a.prefix.length)[0];
            expect(directives.find(tenant)).toBe(longest);
          }
          expect(directives.all()).toEqual(
            [...model.values()].sort((a, b) => (a.prefix < b.prefix ? -1 : 1)),
          );
        },
      ),
    );
  });
});

describe('traffic', () => {
  const setUp = () => {
    const world = new World(1);
    const nodes = [world.addNode(), world.addNode(), world.addNode(), world.addNode(), world.addNode()];
    const groups: Record<string, string[]> = { s1: [], s2: ['red'], s3: ['blue'], s4: ['red', 'blue'] };
    Object.entries(groups).forEach(([id, of], at) => {
      const all = handlers({ turn: (_request, reply) => reply.done(id) });
      nodes[at + 1]!.rpc.serve(bank, all, { id, groups: of });
    });
    const client = nodes[0]!.rpc.client(bank);
    world.run(100);
    const ask = (tenant: string, count: number) => {
      const results: RpcResult<string>[] = [];
      for (let i = 0; i < count; i++) client.turn.call('x', { tenant }, result => results.push(result));
      world.run(100);
      const by: Record<string, number> = {};
      for (const result of results) {
        const name = result.kind === 'ok' ? result.value : result.detail;
        by[name] = (by[name] ?? 0) + 1;
      }
      return by;
    };
    return { world, ask, view: nodes[4]!.rpc.view('bank') };
  };

  it('goes to the untagged servers without a directive', () => {
    const { ask } = setUp();
    expect(ask('acme', 10)).toEqual({ s1: 10 });
  });

  it('follows the longest prefix as soon as it is set, by weight, and goes back when it is unset', () => {
    const { world, ask, view } = setUp();
    view.setTraffic('ac', { red: 1 });
    view.setTraffic('acme-', { blue: 2, red: 1, '': 1 });
    world.run(30);
    expect(ask('acme', 10)).toEqual({ s2: 5, s4: 5 });
    // Several groups: the largest of their weights.
    expect(ask('acme-1', 60)).toEqual({ s1: 10, s2: 10, s3: 20, s4: 20 });
    expect(ask('other', 10)).toEqual({ s1: 10 });
    view.unsetTraffic('acme-');
    world.run(30);
    expect(ask('acme-1', 10)).toEqual({ s2: 5, s4: 5 });
    view.unsetTraffic('ac');
    world.run(30);
    expect(ask('acme-1', 10)).toEqual({ s1: 10 });
    expect(view.traffic()).toEqual([]);
  });

  it('takes in at last what was set elsewhere while there was no room', () => {
    const world = new World(5);
    const views = [world.addNode(), world.addNode()].map(({ rpc }) => rpc.view('bank'));
    for (let at = 0; at < DIRECTIVES_MAX - 1; at++) views[0]!.setTraffic(`t${at}`, { red: 1 });
    world.run(100);
    for (const [at, view] of views.entries()) expect(view.setTraffic(`late${at}`, { red: 1 })).toBe(true);
    world.run(100);
    expect(views[0]!.traffic()).not.toEqual(views[1]!.traffic());
    expect(views[0]!.setTraffic('more', { red: 1 })).toBe(false);
    views[1]!.unsetTraffic('t5');
    world.run(100);
    expect(views[0]!.traffic()).toEqual(views[1]!.traffic());
    expect(views[0]!.traffic()).toHaveLength(DIRECTIVES_MAX);
  });

  it('refuses a tenant whose groups are empty, and says why', () => {
    const { world, ask, view } = setUp();
    view.setTraffic('acme', { green: 5, red: 0 });
    world.run(30);
    expect(ask('acme', 1)).toEqual({
      'bank: the directive for tenants "acme*" (green: 5, red: 0) leaves none of 4 servers': 1,
    });
  });

  it('passes over groups that are named like parts of objects', () => {
    const world = new World(2);
    const node = world.addNode();
    const all = handlers({ turn: (_request, reply) => reply.done('s1') });
    node.rpc.serve(bank, all, { id: 's1', groups: ['constructor'] });
    node.rpc.view('bank').setTraffic('', { red: 1 });
    const results: RpcResult<string>[] = [];
    node.rpc.client(bank).turn.call('x', {}, result => results.push(result));
    world.run(10);
    expect(results.map(({ kind }) => kind)).toEqual(['server-not-found']);
  });

  it('keeps to the own process in round robin, and returns to others when that is gone', () => {
    const world = new World(3);
    const [own, other] = [world.addNode(), world.addNode()];
    const all = (id: string) => handlers({ turn: (_request, reply) => reply.done(id) });
    const local = own.rpc.serve(bank, all('own'), { id: 'own' });
    other.rpc.serve(bank, all('other'), { id: 'other' });
    world.run(100);
    const seen: unknown[] = [];
    const ask = () => {
      for (let i = 0; i < 5; i++)
        own.rpc.client(bank).turn.call('x', {}, result => seen.push('value' in result && result.value));
      world.run(100);
      return new Set(seen.splice(0));
    };
    expect(ask()).toEqual(new Set(['own']));
    local.close();
    world.run(100);
    expect(ask()).toEqual(new Set(['other']));
  });
});
