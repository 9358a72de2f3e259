import { networkInterfaces } from 'node:os';
import { describe, expect, it } from 'vitest';
import { transportContract } from '../transport-contract.js';
import { SocketWorld, until } from './socket-world.js';

const hasIpv6 = Object.values(networkInterfaces()).some(addresses =>
  addresses?.some(({ address }) => address === '::1'),
);

transportContract('IPv4 sockets', () => new SocketWorld('127.0.0.1', { host: '127.0.0.1' }));

describe.skipIf(!hasIpv6)('where the machine has ::1', () => {
  transportContract('IPv6 sockets', () => new SocketWorld('[::1]', { host: '::1' }));
  transportContract('sockets of both families', () => new SocketWorld('127.0.0.1', { host: '::' }));
});

describe('a socket of one family', () => {
  it('tells that addresses of the other are out of its reach', async () => {
    const world = new SocketWorld('127.0.0.1', { host: '127.0.0.1' });
    const failures: string[] = [];
    const { transport } = await world.open({
      packet: () => {},
      unreachable: (to, path) => failures.push(`${to} ${path}`),
    });
    transport.send('[::1]:9', 'datagram', new Uint8Array(1));
    await until(() => failures.length === 1);
    expect(failures).toEqual(['[::1]:9 datagram']);
    await transport.close();
  });
});

describe('names', () => {
  it('stand for addresses on both paths, and those that do not exist are told of', async () => {
    const world = new SocketWorld('localhost', { host: '127.0.0.1' });
    const [arrived, failures]: [string[], string[]] = [[], []];
    const sink = {
      packet: (_bytes: Uint8Array, _from: string, path: string) => arrived.push(path),
      unreachable: (to: string, path: string) => failures.push(`${to} ${path}`),
    };
    const [a, b] = [await world.open(sink), await world.open(sink)];
    for (const path of ['datagram', 'stream'] as const) {
      a.transport.send(b.address, path, new Uint8Array(1));
      a.transport.send('no-such-host.invalid:1', path, new Uint8Array(1));
    }
    await until(() => arrived.length === 2 && failures.length === 2);
    expect(failures.sort()).toEqual(['no-such-host.invalid:1 datagram', 'no-such-host.invalid:1 stream']);
    expect(a.transport.stats()).toMatchObject({ namesNow: 2, streamPacketsLost: 1 });
    await a.transport.close();
    await b.transport.close();
  });
});
