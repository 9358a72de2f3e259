import type { AuthRequest } from '../../src/plugin/plugin.js';

/** A CONNECT that shows nothing, with `change` applied. */
export function requestOf(change: Partial<AuthRequest>): AuthRequest {
  return {
    clientId: 'c1',
    userName: undefined,
    password: undefined,
    protocolVersion: 5,
    transport: 'tcp',
    remoteAddress: '127.0.0.1',
    remotePort: 1,
    certificate: undefined,
    userProperties: [],
    authMethod: undefined,
    authData: undefined,
    established: undefined,
    ...change,
  };
}
