import { type ChannelCredentials, experimental } from '@grpc/grpc-js';
import { type StreamTls, streamSecurity } from '../../underlay/io/stream-tls.js';

type CaListener = experimental.CaCertificateUpdateListener;
type IdentityListener = experimental.IdentityCertificateUpdateListener;

/**
 * What a caller shows and trusts, renewable while connections run: those that are open go on, new ones take the new
 * certificate. With an authority both sides must show a certificate of it (mutual TLS) and the name in it does not
 * matter, as for the underlay's streams; without one, calls are private against listeners only.
 */
export class GrpcTls implements experimental.CertificateProvider {
  private tls: StreamTls;
  private readonly caListeners = new Set<CaListener>();
  private readonly identityListeners = new Set<IdentityListener>();

  /** Throws SHOAL_TLS_CERTIFICATE. */
  constructor(tls: StreamTls) {
    streamSecurity(tls);
    this.tls = tls;
  }

  /** Throws SHOAL_TLS_CERTIFICATE, and goes on with what it had. Whether TLS is mutual does not change. */
  renew(tls: StreamTls): void {
    streamSecurity(tls);
    this.tls = tls;
    for (const listener of this.caListeners) listener(this.authority());
    for (const listener of this.identityListeners) listener(this.identity());
  }

  credentials(): ChannelCredentials {
    return experimental.createCertificateProviderChannelCredentials(this, this, {
      checkServerIdentity: anyName,
      rejectUnauthorized: this.tls.ca !== undefined,
    });
  }

  addCaCertificateListener(listener: CaListener): void {
    this.caListeners.add(listener);
    process.nextTick(() => this.caListeners.has(listener) && listener(this.authority()));
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.identityListeners.add(listener);
    process.nextTick(() => this.identityListeners.has(listener) && listener(this.identity()));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.identityListeners.delete(listener);
  }

  private authority(): experimental.CaCertificateUpdate {
    const { ca, cert } = this.tls;
    return { caCertificate: Buffer.from(ca ?? cert) };
  }

  private identity(): experimental.IdentityCertificateUpdate {
    const { cert, key } = this.tls;
    return { certificate: Buffer.from(cert), privateKey: Buffer.from(key) };
  }
}

function anyName(): undefined {
  return undefined;
}
