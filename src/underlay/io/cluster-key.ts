import { createHash, createSecretKey, hkdfSync, type KeyObject, scryptSync } from 'node:crypto';
import { ShoalError } from '../../base/errors.js';

const KEY_BYTES = 32;

/** Shortest pass phrase, characters. */
const PASS_PHRASE_MIN = 16;

/** 32 MiB and about 0.1 s for each guess, and once for us at start. */
const SCRYPT = { N: 32_768, r: 8, p: 1, maxmem: 67_108_864 } as const;

/**
 * All hosts derive the same key with nothing but the phrase in common, so the salt is fixed. The environment's name is
 * not part of it: a host of another environment with the same key shall be told which environment it met.
 */
const SALT = createHash('sha256').update('shoalmq cluster.key 1').digest();

/** One of the cluster's keys, as the seal uses it. */
export interface ClusterKey {
  readonly cipher: KeyObject;
  /** One byte on the wire that tells which key sealed, so that only that one is tried. Says nothing of the key. */
  readonly hint: number;
}

const WHOLE_KEY = /^[A-Za-z0-9+/]{43}=$/;

/** Whether {@link clusterKey} takes it. */
export function isClusterKey(text: string): boolean {
  const key = text.trim();
  return WHOLE_KEY.test(key) || [...key].length >= PASS_PHRASE_MIN;
}

/**
 * `cluster.key` is either 32 random bytes in base64 (44 characters: `openssl rand -base64 32`), which is taken as it
 * is, or a pass phrase of at least {@link PASS_PHRASE_MIN} characters, from which 32 bytes are made by scrypt. Both
 * go through HKDF-SHA256 (RFC 5869) for the AES key and the hint. Throws SHOAL_CLUSTER_KEY.
 */
export function clusterKey(text: string): ClusterKey {
  const secret = secretOf(text.trim());
  return {
    cipher: createSecretKey(derive(secret, 'aes-256-gcm', KEY_BYTES)),
    hint: derive(secret, 'hint', 1)[0]!,
  };
}

function secretOf(text: string): Buffer {
  if (!isClusterKey(text)) {
    const message = 'cluster.key is neither 32 bytes in base64 nor a long pass phrase';
    throw new ShoalError('SHOAL_CLUSTER_KEY', message);
  }
  if (WHOLE_KEY.test(text)) return Buffer.from(text, 'base64');
  return scryptSync(text.normalize('NFC'), SALT, KEY_BYTES, SCRYPT);
}

function derive(secret: Buffer, purpose: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, SALT, `shoalmq underlay 1 ${purpose}`, length));
}
