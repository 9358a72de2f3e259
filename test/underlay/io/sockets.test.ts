import { networkInterfaces } from 'node:os';
import { describe } from 'vitest';
import { transportContract } from '../transport-contract.js';
import { SocketWorld } from './socket-world.js';

const hasIpv6 = Object.values(networkInterfaces()).some(addresses =>
  addresses?.some(({ address }) => address === '::1'),
);

transportContract('IPv4 sockets', () => new SocketWorld('127.0.0.1', { host: '127.0.0.1' }));

describe.skipIf(!hasIpv6)('where the machine has ::1', () => {
  transportContract('IPv6 sockets', () => new SocketWorld('[::1]', { host: '::1' }));
  transportContract('sockets of both families', () => new SocketWorld('127.0.0.1', { host: '::' }));
});
