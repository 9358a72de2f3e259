import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Paths of PEM files made for one test run: an authority, a server for localhost, two clients. */
export interface Certificates {
  readonly directory: string;
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  /** A client that the authority knows, and one that another authority signed. */
  readonly client: { readonly cert: string; readonly key: string };
  readonly stranger: { readonly cert: string; readonly key: string };
  readonly ca: string;
}

function openssl(directory: string, ...args: string[]): void {
  execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
}

function authority(directory: string, name: string): void {
  openssl(directory, 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`);
  openssl(
    directory,
    ...['req', '-x509', '-new', '-key', `${name}.key`, '-days', '2', '-subj', `/CN=${name}`],
    ...['-out', `${name}.pem`],
  );
}

function signed(directory: string, name: string, issuer: string, subject: string, extension: string): void {
  writeFileSync(join(directory, `${name}.ext`), extension);
  openssl(directory, 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`);
  openssl(directory, 'req', '-new', '-key', `${name}.key`, '-subj', subject, '-out', `${name}.csr`);
  openssl(
    directory,
    ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${issuer}.pem`, '-CAkey', `${issuer}.key`],
    ...['-CAcreateserial', '-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.pem`],
  );
}

export function makeCertificates(): Certificates {
  const directory = mkdtempSync(join(tmpdir(), 'shoalmq-tls-'));
  authority(directory, 'ca');
  authority(directory, 'other');
  signed(directory, 'server', 'ca', '/CN=localhost', 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  signed(directory, 'client', 'ca', '/CN=device-7', 'extendedKeyUsage=clientAuth\n');
  signed(directory, 'stranger', 'other', '/CN=stranger', 'extendedKeyUsage=clientAuth\n');
  const read = (name: string) => readFileSync(join(directory, name), 'utf8');
  return {
    directory,
    caFile: join(directory, 'ca.pem'),
    certFile: join(directory, 'server.pem'),
    keyFile: join(directory, 'server.key'),
    client: { cert: read('client.pem'), key: read('client.key') },
    stranger: { cert: read('stranger.pem'), key: read('stranger.key') },
    ca: read('ca.pem'),
  };
}

/** Encrypts the server's private key where it is; the passphrase is the first line of a file. */
export function protectKey({ directory, keyFile }: Certificates, passphraseFile: string): void {
  openssl(
    directory,
    ...['pkcs8', '-topk8', '-v2', 'aes-256-cbc', '-in', keyFile, '-out', 'protected.key'],
    ...['-passout', `file:${passphraseFile}`],
  );
  renameSync(join(directory, 'protected.key'), keyFile);
  if (!readFileSync(keyFile, 'utf8').includes('ENCRYPTED')) throw new Error('the key is not protected');
}

export function removeCertificates(certificates: Certificates): void {
  rmSync(certificates.directory, { recursive: true, force: true });
}
