import { describe, expect, it } from 'vitest';
import { formatAddress, parseAddress, plainIp } from '../../../src/underlay/io/address.js';

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
});
