import { createSecureContext, type SecureContext } from 'node:tls';
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
  readonly isMutual: boolean;
}

/** Throws SHOAL_TLS_CERTIFICATE. */
export function streamSecurity(tls: StreamTls): StreamSecurity {
  const { cert, key, ca } = tls;
  try {
    const context = createSecureContext({
      cert,
      key,
      minVersion: 'TLSv1.3',
      ...(ca === undefined ? {} : { ca }),
    });
    return { context, isMutual: ca !== undefined };
  } catch (error) {
    const { message } = error as Error;
    throw new ShoalError('SHOAL_TLS_CERTIFICATE', `cluster.tls: ${message}`, { cause: error });
  }
}
