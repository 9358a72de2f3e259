import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Route } from '../../src/contract/dist.js';
import { RouteTable, Widths } from '../../src/dist/route-table.js';
import { hashKeys } from '../../src/topic/hash.js';

function route(filter: string, clientId: string): Route {
  const receiver = { kind: 'inbox', clientId } as const;
  return { filter, group: '', ordered: false, receiver, options: 0, subscriptionId: 0, members: 0 };
}

describe('the widest filter', () => {
  it('is known whatever is added and removed, of all tables that share the widths', () => {
    const step = fc.tuple(fc.boolean(), fc.nat(1), fc.constantFrom('a', 'b/+', '#'), fc.nat(5));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), steps => {
        const widths = new Widths();
        const tables = [0, 1].map(() => new RouteTable(hashKeys(3), widths));
        const model = new Map<string, Set<number>>();
        for (const [isAdded, table, filter, client] of steps) {
          const name = `${table}${filter}`;
          const has = model.get(name) ?? new Set();
          model.set(name, has);
          if (isAdded) {
            tables[table]!.add(route(filter, `${client}`), 100);
            has.add(client);
          } else expect(tables[table]!.remove(route(filter, `${client}`))).toBe(has.delete(client));
          expect(widths.widest).toBe(Math.max(...[...model.values()].map(({ size }) => size)));
        }
      }),
    );
  });
});
