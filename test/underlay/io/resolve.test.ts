import { afterEach, describe, expect, it } from 'vitest';
import {
  isSeed,
  RESOLVE_RETRY_MS,
  SeedResolver,
  type SeedResolverOptions,
} from '../../../src/underlay/io/resolve.js';
import { DnsServer } from './dns-server.js';
import { until } from './socket-world.js';

const logged: object[] = [];
const log = {
  debug: () => {},
  info: () => {},
  warn: (fields: object) => logged.push(fields),
  error: () => {},
};
const closables: { close(): void }[] = [];

afterEach(() => {
  for (const closable of closables.splice(0)) closable.close();
  logged.length = 0;
});

function resolving(seeds: readonly string[], more: Partial<SeedResolverOptions> = {}) {
  const told: (readonly string[])[] = [];
  const bind = { host: '0.0.0.0', port: 1 };
  const resolver = new SeedResolver({ seeds, bind, log, changed: list => told.push(list), ...more });
  closables.push(resolver);
  resolver.start();
  return { resolver, told };
}

async function dnsServer(): Promise<DnsServer> {
  const server = await new DnsServer().start();
  closables.push(server);
  return server;
}

describe('seeds', () => {
  it('that are IP addresses are told at once, sorted, each once', () => {
    const { told } = resolving([
      '10.0.0.2:9',
      '10.0.0.1:9',
      '[fd00::1]:9',
      '10.0.0.2:9',
      '10.0.0.3',
      'fd00::2',
    ]);
    expect(told).toEqual([['10.0.0.1:9', '10.0.0.2:9', '10.0.0.3:4800', '[fd00::1]:9', '[fd00::2]:4800']]);
  });

  it('that are names stand for all their addresses', async () => {
    const { told } = resolving(['localhost:9', 'localhost']);
    await until(() => told.at(-1)!.length >= 2);
    expect(told.at(-1)).toContain('127.0.0.1:9');
    expect(told.at(-1)).toContain('127.0.0.1:4800');
  });

  it('that are this host itself are left out', () => {
    expect(resolving(['127.0.0.1:7', '127.0.0.1:8'], { bind: { host: '0.0.0.0', port: 7 } }).told).toEqual([
      ['127.0.0.1:8'],
    ]);
    expect(resolving(['127.0.0.1:7'], { bind: { host: '10.0.0.1', port: 7 } }).told).toEqual([
      ['127.0.0.1:7'],
    ]);
  });

  it('that are services stand for the targets and ports of their SRV records', async () => {
    const server = await dnsServer();
    server.services.set('_shoalmq._udp.example.org', [
      { target: 'localhost', port: 5_001 },
      { target: 'localhost', port: 5_002 },
      { target: 'no-such-host.invalid', port: 5_003 },
    ]);
    const { resolver, told } = resolving(['_shoalmq._udp.example.org'], { resolver: server.resolver });
    expect(told).toEqual([[]]);
    await until(() => told.length === 2);
    expect(told[1]).toEqual(expect.arrayContaining(['127.0.0.1:5001', '127.0.0.1:5002']));
    expect(told[1]!.some(address => address.endsWith(':5003'))).toBe(false);
    expect(resolver.states()).toMatchObject([{ error: '' }]);
  });

  it(
    'that do not resolve are told of, asked for again, and found when they appear',
    async () => {
      const server = await dnsServer();
      const name = '_shoalmq._udp.later.example';
      const { resolver, told } = resolving([name, '10.0.0.1:9'], { resolver: server.resolver });
      await until(() => resolver.states()[0]!.error !== '');
      expect(resolver.states()[0]).toMatchObject({ seed: name, addresses: [], error: 'ENOTFOUND' });
      expect(told).toEqual([['10.0.0.1:9']]);
      expect(logged).toMatchObject([{ seed: name, error: 'ENOTFOUND' }]);
      server.services.set(name, [{ target: 'localhost', port: 5_001 }]);
      await until(() => told.length === 2);
      expect(resolver.states()[0]).toMatchObject({ error: '' });
      server.services.delete(name);
      expect(told[1]).toContain('127.0.0.1:5001');
    },
    RESOLVE_RETRY_MS + 10_000,
  );

  it('may be written in these ways only', () => {
    const good = [
      'a',
      'a:1',
      '10.0.0.1',
      '10.0.0.1:65535',
      '[::1]:1',
      '::1',
      '_shoalmq._udp.example.org',
      '_a._tcp.b',
    ];
    const bad = [
      '',
      ':1',
      'a:0',
      'a:65536',
      'a:b',
      'a b:1',
      '[::1]',
      '_shoalmq',
      '_a._b.c',
      '_a._udp.b:1',
      'http://a:1',
    ];
    expect(good.filter(seed => !isSeed(seed))).toEqual([]);
    expect(bad.filter(isSeed)).toEqual([]);
  });
});
