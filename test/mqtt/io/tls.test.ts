import { afterAll } from 'vitest';
import { listenTls } from '../../../src/mqtt/io/tls.js';
import { transportContract } from '../../contract/transport.contract.js';
import { makeCertificates, removeCertificates } from '../../e2e/certificates.js';
import { connectBytes } from './byte-client.js';
import { tcpOptions } from './options.js';

const certificates = makeCertificates();
afterAll(() => removeCertificates(certificates));
const files = { keyFile: certificates.keyFile, certificateFile: certificates.certFile };

transportContract('tls', {
  transport: 'tls',
  halfClose: true,
  sharesDescriptor: true,
  resetCode: 'ECONNRESET',
  heldBytesMax: Number.POSITIVE_INFINITY,
  listen: (settings, accept) =>
    listenTls({ ...tcpOptions(settings), tls: files, requestClientCertificate: 'off' }, accept),
  connect: port => connectBytes({ port, tls: { ca: certificates.ca } }),
});
