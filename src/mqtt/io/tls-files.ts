import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { ShoalError } from '../../base/errors.js';

/** A server's identity, as names of PEM files. */
export interface TlsFiles {
  readonly keyFile: string;
  /** The certificate, followed by those between it and the authority. */
  readonly certificateFile: string;
  /** Authorities that client certificates must come from; the system's when absent. */
  readonly authorityFile?: string | undefined;
  readonly passphrase?: string | undefined;
}

/** Reads the files and makes sure that they belong together. Throws SHOAL_TLS_CERTIFICATE naming the file. */
export async function checkTlsFiles(files: TlsFiles): Promise<SecureContextOptions> {
  const key = await readPem('key', files.keyFile);
  const cert = await readPem('certificate', files.certificateFile);
  const ca = files.authorityFile === undefined ? undefined : await readPem('authority', files.authorityFile);
  const options: SecureContextOptions = {
    key,
    cert,
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
    ...(files.passphrase === undefined ? {} : { passphrase: files.passphrase }),
  };
  parseCertificate('certificate', files.certificateFile, cert);
  if (files.authorityFile !== undefined && ca !== undefined)
    parseCertificate('authority', files.authorityFile, ca);
  try {
    createSecureContext(options);
  } catch (error) {
    throw certificateError(
      `key ${files.keyFile} and certificate ${files.certificateFile} cannot be used: ${(error as Error).message}`,
      error,
    );
  }
  return options;
}

async function readPem(role: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw certificateError(`cannot read the ${role} file ${file} (${code})`, error);
  }
}

function parseCertificate(role: string, file: string, pem: Buffer): void {
  try {
    new X509Certificate(pem);
  } catch (error) {
    throw certificateError(`the ${role} file ${file} holds no PEM certificate`, error);
  }
}

function certificateError(message: string, cause: unknown): ShoalError {
  return new ShoalError('SHOAL_TLS_CERTIFICATE', `tls: ${message}`, { cause });
}
