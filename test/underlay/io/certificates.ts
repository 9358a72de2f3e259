import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Authority {
  /** PEM. */
  readonly ca: string;
  issue(name: string): { readonly cert: string; readonly key: string };
}

/** An authority of a test's own; certificates of it carry a name and no address. */
export function authority(name: string): Authority {
  const [ca, caKey] = inFolder(folder => {
    openssl(folder, 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'ca.key');
    openssl(
      folder,
      'req',
      '-x509',
      '-new',
      '-key',
      'ca.key',
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      '-out',
      'ca.pem',
    );
    return ['ca.pem', 'ca.key'];
  });
  const issue = (subject: string) => {
    const [cert, key] = inFolder(folder => {
      writeFileSync(join(folder, 'ca.pem'), ca!);
      writeFileSync(join(folder, 'ca.key'), caKey!);
      openssl(folder, 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'host.key');
      openssl(folder, 'req', '-new', '-key', 'host.key', '-subj', `/CN=${subject}`, '-out', 'host.csr');
      openssl(
        folder,
        ...['x509', '-req', '-in', 'host.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
        ...['-days', '2', '-out', 'host.pem'],
      );
      return ['host.pem', 'host.key'];
    });
    return { cert: cert!, key: key! };
  };
  return { ca: ca!, issue };
}

function inFolder(work: (folder: string) => string[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'shoalmq-authority-'));
  try {
    return work(folder).map(name => readFileSync(join(folder, name), 'utf8'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function openssl(folder: string, ...args: string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
}
