import { describe, expect, it } from 'vitest';
import { addWeight, servicesText, trafficText } from '../../src/node/services-table.js';
import type { ServiceRow, ServiceServer, ServicesReport } from '../../src/node/services-view.js';
import { LOAD, report } from './cluster-rows.js';

function server(host: string, change: Partial<ServiceServer> = {}): ServiceServer {
  return {
    id: host,
    host,
    address: '10.0.0.1:4801',
    groups: [],
    attributes: {},
    version: '1',
    state: 'serving',
    isLocal: false,
    underWay: 1,
    begun: 20,
    failed: 3,
    health: null,
    load: null,
    ...change,
  };
}

function services(rows: readonly ServiceRow[], change: Partial<ServicesReport> = {}): ServicesReport {
  const { self, standing, atMs } = report([]);
  return { self, standing, atMs, services: rows, ...change };
}

const row: ServiceRow = { name: 'node', isFollowed: true, hosts: ['a', 'b'], servers: [], traffic: [] };

describe('servicesText', () => {
  const cells = (line: string) => line.split(/ {2,}/);

  it('shows all servers, and how they are', () => {
    const servers = [
      server('a', { health: 0, load: LOAD }),
      server('b\u001b', { groups: ['x', 'y'], state: 'disconnected' }),
    ];
    const traffic = [{ prefix: '', weights: { x: 1 } }];
    const lines = servicesText(services([{ ...row, servers, traffic }])).split('\n');
    expect(lines.map(cells)).toEqual([
      ['SERVICE', 'NODE', 'ADDRESS', 'GROUPS', 'STATE', 'UNDER WAY', 'CALLS', 'FAILED', 'HEALTH', 'LOAD'],
      ['node', 'a', '10.0.0.1:4801', '-', 'serving', '1', '20', '3', '0', '38 %'],
      ['node', 'b?', '10.0.0.1:4801', 'x, y', 'disconnected', '1', '20', '3', '-', '-'],
      ['1 service, 2 servers; the calls are those of a, which was asked.'],
      ['1 traffic directive; "shoalmq traffic get" shows it.'],
    ]);
  });

  it('shows services without servers, those that the asked node does not know, and none', () => {
    const text = servicesText(services([row, { ...row, name: 'other', isFollowed: false }]));
    const [, none, other] = text.split('\n').map(cells);
    expect(none!.slice(0, 5)).toEqual(['node', 'a, b', '-', '-', 'no server']);
    expect(other!.slice(0, 5)).toEqual(['other', 'a, b', '-', '-', 'not known here']);
    expect(servicesText(services([], { standing: 'evicted' }))).toContain('in no cluster any more (evicted)');
  });
});

describe('trafficText', () => {
  const directives = [
    { prefix: '', weights: { canary: 1, '': 9 } },
    { prefix: 'acme', weights: { '': 0 } },
  ];

  it('shows directives as they are typed', () => {
    const all = { services: [{ name: 'node', directives }] };
    expect(trafficText(all, '').split('\n')).toEqual([
      'SERVICE  TENANTS  GROUPS',
      'node     *        canary=1 =9',
      'node     acme*    =0',
    ]);
    expect(trafficText(all, 'ac').split('\n')).toHaveLength(2);
    expect(trafficText(all, 'x')).toBe('No traffic directives for prefixes that begin with x.');
    expect(trafficText({ services: [] }, '')).toContain('untagged servers');
  });
});

describe('addWeight', () => {
  it('takes groups one by one, the untagged one without a name', () => {
    expect(addWeight('=0', addWeight('canary=10'))).toEqual({ canary: 10, '': 0 });
    expect(addWeight('__proto__=1')).toHaveProperty('__proto__', 1);
  });

  it.each(['canary', 'canary=11', 'canary=-1', 'canary=1.5', 'Canary=1', 'a b=1', `${'x'.repeat(33)}=1`])(
    'refuses %j',
    entry => {
      expect(() => addWeight(entry)).toThrow('GROUP=0 to GROUP=10');
    },
  );

  it('refuses a group that is named twice', () => {
    expect(() => addWeight('a=1', { a: 2 })).toThrow('named twice');
  });
});
