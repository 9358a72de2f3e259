import type { Agenda } from '../../src/rpc/agenda.js';
import { rpcFailure } from '../../src/rpc/failure.js';
import { InProcessChannel, NO_STREAM } from '../../src/rpc/in-process.js';
import type { RpcChannel, RpcEndpoint, RpcTransport } from '../../src/rpc/transport.js';

/** Endpoints of one process by address, for clusters within one thread. */
export class InProcessTransport implements RpcTransport {
  private readonly endpoints: ReadonlyMap<string, RpcEndpoint>;
  private readonly agenda: Agenda;

  constructor(endpoints: ReadonlyMap<string, RpcEndpoint>, agenda: Agenda) {
    this.endpoints = endpoints;
    this.agenda = agenda;
  }

  open(address: string): RpcChannel {
    return new InProcessChannel(address, this.endpoints.get(address) ?? NOBODY, this.agenda);
  }
}

const NOBODY: RpcEndpoint = {
  unary(_method, _body, _context, sink) {
    sink.failed(rpcFailure('unavailable', 'nobody answers at this address'));
    return NO_STREAM;
  },
  stream(_method, _context, sink) {
    sink.failed(rpcFailure('unavailable', 'nobody answers at this address'));
    return NO_STREAM;
  },
};
