import { ShoalError } from '../base/errors.js';
import { announcedUrl, readToken, tokenFile } from './admin-token.js';
import type { Config } from './config.js';

/** The administration port of one node, from the side of the commands. */
export interface AdminPort {
  readonly url: string;
  readonly token: string;
}

export interface AdminOptions {
  /** `http://127.0.0.1:9465`; found in the data directory when not given. */
  readonly url?: string | undefined;
  readonly tokenFile?: string | undefined;
}

/** A goodbye and the doctor take some seconds. */
const ANSWER_TIMEOUT_MS = 15_000;

/** @throws ShoalError SHOAL_ADMIN_UNREACHABLE when no node has said in the data directory where it is. */
export function findAdmin({ node }: Config, options: AdminOptions): AdminPort {
  const url = options.url ?? announcedUrl(node.dataDir);
  if (url === undefined) {
    const message = `no node of a cluster runs on the data directory ${node.dataDir}`;
    throw new ShoalError('SHOAL_ADMIN_UNREACHABLE', message);
  }
  return { url, token: readToken(options.tokenFile ?? tokenFile(node.dataDir)) };
}

/**
 * What the node answers.
 *
 * @throws ShoalError SHOAL_ADMIN_UNREACHABLE, or SHOAL_ADMIN_REFUSED with the node's own words.
 */
export async function askAdmin<T>(
  { url, token }: AdminPort,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
): Promise<T> {
  let status: number;
  let text: string;
  try {
    const response = await fetch(new URL(path, url), {
      method,
      headers: { Authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    status = response.status;
    text = await response.text();
  } catch (cause) {
    throw new ShoalError('SHOAL_ADMIN_UNREACHABLE', `no answer from ${url} (${reasonOf(cause)})`, { cause });
  }
  const answer = parsed(text);
  if (status === 200 && answer !== undefined) return answer as T;
  const words = answer?.error ?? `${url} is not the administration port of a node (HTTP status ${status})`;
  throw new ShoalError('SHOAL_ADMIN_REFUSED', String(words));
}

function parsed(text: string): { readonly error?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  const { name, message, cause } = error as Error;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  return code ?? (name === 'TimeoutError' ? `within ${ANSWER_TIMEOUT_MS / 1_000} s` : message);
}
