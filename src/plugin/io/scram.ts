import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import type { ScramKeys } from '../credentials.js';

/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, without channel binding (MQTT names no binding for
 * it). The password is prepared by Unicode NFKC, which agrees with SASLprep on all but rare code points.
 */

export const SCRAM_ITERATIONS = 4096;
const SALT_BYTES = 16;
const NONCE_CHARACTERS_MAX = 256;
const MESSAGE_BYTES_MAX = 4096;

const derive = promisify(pbkdf2);
const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest();
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest();

/** What is kept of a password; computed off-thread. */
export async function deriveScramKeys(
  password: string,
  salt = randomBytes(SALT_BYTES),
  iterations = SCRAM_ITERATIONS,
): Promise<ScramKeys> {
  const salted = await derive(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const storedKey = sha256(hmac(salted, 'Client Key'));
  return { iterations, salt, storedKey, serverKey: hmac(salted, 'Server Key') };
}

/** The client's first message, taken apart. */
export interface ClientFirst {
  readonly login: string;
  readonly nonce: string;
  readonly gs2Header: string;
  readonly bare: string;
}

/** Undefined when it is malformed, or wants channel binding or to act for somebody else. */
export function parseClientFirst(data: Uint8Array | undefined): ClientFirst | undefined {
  const text = messageText(data);
  const parts = /^([ny],(?:a=([^,]*))?,)(n=([^,]+),r=([!-+\--~]+)(?:,[a-zA-Z]=.*)?)$/.exec(text);
  if (!parts) return undefined;
  const [, gs2Header, actFor, bare, name, nonce] = parts;
  const login = saslName(name!);
  if (login === undefined || nonce!.length > NONCE_CHARACTERS_MAX) return undefined;
  if (actFor && saslName(actFor) !== login) return undefined;
  return { login, nonce: nonce!, gs2Header: gs2Header!, bare: bare! };
}

function messageText(data: Uint8Array | undefined): string {
  if (!data || data.length > MESSAGE_BYTES_MAX) return '';
  return Buffer.from(data.buffer, data.byteOffset, data.length).toString('utf8');
}

/** `=2C` is a comma and `=3D` an equals sign; any other `=` is an error (RFC 5802, 5.1). */
function saslName(text: string): string | undefined {
  if (/=(?!2C|3D)/.test(text)) return undefined;
  return text.replaceAll('=2C', ',').replaceAll('=3D', '=');
}

/** One client's exchange, between its two messages. */
export class ScramExchange {
  readonly login: string;
  /** The server's first message, to be sent. */
  readonly serverFirst: Buffer;
  private readonly first: ClientFirst;
  private readonly keys: ScramKeys;
  private readonly nonce: string;
  private finished = false;

  /** `keys` of an unknown login are made up by the caller, so that it cannot be told from a known one. */
  constructor(first: ClientFirst, keys: ScramKeys, serverNonce = randomBytes(18).toString('base64')) {
    this.first = first;
    this.login = first.login;
    this.keys = keys;
    this.nonce = first.nonce + serverNonce;
    this.serverFirst = Buffer.from(`r=${this.nonce},s=${keys.salt.toString('base64')},i=${keys.iterations}`);
  }

  /** The server's final message when the client has proved that it knows the password, or undefined. Once. */
  finish(data: Uint8Array | undefined): Buffer | undefined {
    const parts = /^(c=([A-Za-z0-9+/=]+),r=([^,]+)(?:,[a-zA-Z]=[^,]*)*),p=([A-Za-z0-9+/=]+)$/.exec(
      messageText(data),
    );
    if (!parts || this.finished) return undefined;
    this.finished = true;
    const [, withoutProof, binding, nonce, proofText] = parts;
    const { first, keys } = this;
    if (nonce !== this.nonce) return undefined;
    if (Buffer.from(binding!, 'base64').toString('utf8') !== first.gs2Header) return undefined;
    const message = `${first.bare},${this.serverFirst.toString('utf8')},${withoutProof}`;
    const proof = Buffer.from(proofText!, 'base64');
    const signature = hmac(keys.storedKey, message);
    if (proof.length !== signature.length) return undefined;
    const clientKey = Buffer.from(signature.map((byte, index) => byte ^ proof[index]!));
    if (!timingSafeEqual(sha256(clientKey), keys.storedKey)) return undefined;
    return Buffer.from(`v=${hmac(keys.serverKey, message).toString('base64')}`);
  }
}
