import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { describe, expect, it } from 'vitest';
import { advertisedAddress, formatAddress, parseAddress, plainIp } from '../../../src/underlay/io/address.js';

describe('addresses', () => {
  it('are names, IPv4 or IPv6 with a port', () => {
    expect(parseAddress('a.example:1')).toEqual({ host: 'a.example', port: 1 });
    expect(parseAddress('10.0.0.1:65535')).toEqual({ host: '10.0.0.1', port: 65_535 });
    expect(parseAddress('[fd00::1]:4800')).toEqual({ host: 'fd00::1', port: 4_800 });
    expect(parseAddress('[fe80::1%eth0]:4800')).toEqual({ host: 'fe80::1%eth0', port: 4_800 });
    const others = [
      '',
      'a',
      'a:',
      'a:0',
      'a:65536',
      'a:1x',
      ':1',
      'a b:1',
      'fd00::1:4800',
      '[a]:1',
      '[]:1',
      'a:b:1',
    ];
    expect(others.map(parseAddress).filter(parsed => parsed !== undefined)).toEqual([]);
    expect(parseAddress(`${'x'.repeat(300)}:1`)).toBeUndefined();
  });

  it('are written as they are read', () => {
    for (const address of ['a.example:1', '10.0.0.1:65535', '[fd00::1]:4800']) {
      const { host, port } = parseAddress(address)!;
      expect(formatAddress(host, port)).toBe(address);
    }
    expect([plainIp('::ffff:10.0.0.1'), plainIp('::ffff:1'), plainIp('10.0.0.1')]).toEqual([
      '10.0.0.1',
      '::ffff:1',
      '10.0.0.1',
    ]);
  });

  it('are advertised as told, else as bound', () => {
    const bind = { host: '0.0.0.0', port: 4_800 };
    expect(advertisedAddress(bind, 'a.example')).toBe('a.example:4800');
    expect(advertisedAddress(bind, 'a.example:1')).toBe('a.example:1');
    expect(advertisedAddress(bind, 'fd00::1')).toBe('[fd00::1]:4800');
    expect(advertisedAddress(bind, '[fd00::1]:1')).toBe('[fd00::1]:1');
    expect(advertisedAddress(bind, 'a b')).toBeUndefined();
    expect(advertisedAddress(bind, 'a:0')).toBeUndefined();
    expect(advertisedAddress({ host: '10.0.0.1', port: 1 })).toBe('10.0.0.1:1');
    expect(advertisedAddress({ host: '::1', port: 1 })).toBe('[::1]:1');
  });

  it('are those of this machine when all are bound', () => {
    const own = Object.values(networkInterfaces()).flatMap(list => list?.map(({ address }) => address) ?? []);
    for (const host of ['0.0.0.0', '::']) {
      const parsed = parseAddress(advertisedAddress({ host, port: 4_800 })!)!;
      expect(own).toContain(parsed.host);
      if (host === '0.0.0.0') expect(isIP(parsed.host)).toBe(4);
    }
  });
});
