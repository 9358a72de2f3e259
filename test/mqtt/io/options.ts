import { Admission, admissionMemory } from '../../../src/mqtt/admission.js';
import type { TransportSettings } from '../../contract/transport.contract.js';

/** For one listener: so many seats, and one place for a client that is told that there are no more. */
export function placesFor(connectionsMax: number): Admission {
  const limits = { connectionsMax, connectRatePerSecondMax: 1_000_000 };
  return new Admission(admissionMemory(1), 0, limits, process.hrtime.bigint, 1);
}

/** What every listener of these tests is opened with. */
export function tcpOptions({ connectionsMax = 1000, ...settings }: Partial<TransportSettings> = {}) {
  return {
    host: '127.0.0.1',
    port: 0,
    fd: undefined,
    backlog: 511,
    places: placesFor(connectionsMax),
    endTimeoutMs: 2_000,
    handshakeTimeoutMs: 2_000,
    proxyProtocol: false,
    tcpKeepAliveSeconds: 0,
    ...settings,
  };
}

export function wsOptions({ connectionsMax = 1000, ...settings }: Partial<TransportSettings> = {}) {
  return {
    host: '127.0.0.1',
    port: 0,
    backlog: 511,
    places: placesFor(connectionsMax),
    endTimeoutMs: 2_000,
    path: '/mqtt',
    messageBytesMax: 1024 * 1024,
    heldBytesMax: 512 * 1024,
    heldTotalBytesMax: 1024 * 1024,
    origins: [],
    addressHeader: undefined,
    exclusive: true,
    tls: undefined,
    ...settings,
  };
}
