import { afterAll } from 'vitest';
import { listenWs } from '../../../src/mqtt/io/ws.js';
import { transportContract } from '../../contract/transport.contract.js';
import { makeCertificates, removeCertificates } from '../../e2e/certificates.js';
import { connectBytes } from './byte-client.js';
import { wsOptions } from './options.js';

const certificates = makeCertificates();
afterAll(() => removeCertificates(certificates));
const files = { keyFile: certificates.keyFile, certificateFile: certificates.certFile };

transportContract('ws', {
  transport: 'ws',
  halfClose: false,
  sharesDescriptor: false,
  resetCode: 'WS_CLOSED_ABNORMALLY',
  heldBytesMax: 512 * 1024,
  listen: (settings, accept) => listenWs(wsOptions(settings), accept),
  connect: port => connectBytes({ port, webSocket: true }),
});

transportContract('wss', {
  transport: 'wss',
  halfClose: false,
  sharesDescriptor: false,
  resetCode: 'WS_CLOSED_ABNORMALLY',
  heldBytesMax: 512 * 1024,
  listen: (settings, accept) => listenWs({ ...wsOptions(settings), tls: files }, accept),
  connect: port => connectBytes({ port, webSocket: true, tls: { ca: certificates.ca } }),
});
