import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { ShoalError } from '../../base/errors.js';

/** Contents of PEM files. */
export interface StreamTls {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /**
   * The cluster's own authority. With it, both sides must show a certificate that it signed; the name in it does not
   * matter, since hosts are known by addresses that change. Without it, streams are private against listeners only.
   */
  readonly ca?: string | Buffer;
}

/** TLS for streams in both directions. */
export interface StreamSecurity {
  readonly context: SecureContext;
  /** The same for a server, which makes a context of its own. */
  readonly files: SecureContextOptions;
  readonly isMutual: boolean;
}

/** Throws SHOAL_TLS_CERTIFICATE. */
export function streamSecurity({ cert, key, ca }: StreamTls): StreamSecurity {
  const files = { cert, key, minVersion: 'TLSv1.3' as const, ...(ca === undefined ? {} : { ca }) };
  try {
    return { context: createSecureContext(files), files, isMutual: ca !== undefined };
  } catch (error) {
    const { message } = error as Error;
    throw new ShoalError('SHOAL_TLS_CERTIFICATE', `cluster.tls: ${message}`, { cause: error });
  }
}
