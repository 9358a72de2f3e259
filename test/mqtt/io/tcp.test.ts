import { listenTcpHandle } from '../../../src/mqtt/io/tcp-handle.js';
import { listenTcpNet } from '../../../src/mqtt/io/tcp-net.js';
import { transportContract } from '../../contract/transport.contract.js';
import { connectBytes } from './byte-client.js';
import { tcpOptions } from './options.js';

for (const [name, listen] of [
  ['tcp-handle', listenTcpHandle],
  ['tcp-net', listenTcpNet],
] as const) {
  transportContract(name, {
    transport: 'tcp',
    halfClose: true,
    sharesDescriptor: true,
    resetCode: 'ECONNRESET',
    heldBytesMax: Number.POSITIVE_INFINITY,
    listen: (settings, accept) => listen(tcpOptions(settings), accept),
    connect: port => connectBytes({ port }),
  });
}
