import type { TransportSettings } from '../../contract/transport.contract.js';

/** What every listener of these tests is opened with. */
export function tcpOptions(settings: Partial<TransportSettings> = {}) {
  return {
    host: '127.0.0.1',
    port: 0,
    fd: undefined,
    backlog: 511,
    connectionsMax: 1000,
    endTimeoutMs: 2_000,
    handshakeTimeoutMs: 2_000,
    proxyProtocol: false,
    tcpKeepAliveSeconds: 0,
    ...settings,
  };
}

export function wsOptions(settings: Partial<TransportSettings> = {}) {
  return {
    host: '127.0.0.1',
    port: 0,
    backlog: 511,
    connectionsMax: 1000,
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
