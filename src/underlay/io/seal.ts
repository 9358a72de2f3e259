import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { assert } from '../../base/assert.js';
import type { Path } from '../message.js';
import { type ClusterKey, clusterKey } from './cluster-key.js';
import { ReplayWindow } from './replay-window.js';

/**
 * The envelope of every packet. Its first byte tells a clear packet from a sealed one.
 *
 * | clear | bytes | sealed | bytes |
 * | --- | --- | --- | --- |
 * | form, 0xa0 | 1 | form, 0xa1 | 1 |
 * | packet | n | hint: which key | 1 |
 * | | | sender's wall clock, seconds since 1970, big-endian | 4 |
 * | | | nonce: prefix 8, counter 4, big-endian | 12 |
 * | | | packet, encrypted by AES-256-GCM | n |
 * | | | tag over all that is before it | 16 |
 *
 * **Nonces.** A prefix is 64 random bits, drawn at process start for each path and again after 2^32 packets; the
 * counter runs within it. Two packets under one key share a nonce only when two draws are alike: with n draws in the
 * life of a key the chance is below n² / 2^65, that is 3·10⁻¹⁰ for 100,000 process starts. Nothing has to survive a
 * restart, and clocks do not matter.
 *
 * **Replays.** Packets of each prefix are taken once (`replay-window.ts`); the paths have prefixes of their own, so a
 * long stream packet is not overtaken out of the window by datagrams. A host that has just started knows no windows,
 * therefore a packet older or newer than {@link FRESH_MS} by its (authenticated) clock is refused whoever sent it.
 * Clocks that differ by more keep hosts apart; the refusal is counted on its own, so that the doctor can say so.
 *
 * **Cost of garbage.** Form, length, hint, clock and window are looked at before any decryption; a packet costs one
 * decryption (two if both keys have the same hint), and makes no entry anywhere unless it is authentic.
 *
 * **Rotation.** The first key seals, every key opens. With the old key A and the new key B, give all hosts [A, B], then
 * all [B, A], then all [B], running or restarted: at each moment everybody opens what everybody seals.
 */

/** Clocks may differ by so much, and a recording is of use for so long, on a host that started meanwhile. */
export const FRESH_MS = 600_000;

export const CLUSTER_KEYS_MAX = 2;

const CLEAR = 0xa0;
const SEALED = 0xa1;
const PREFIX_BYTES = 8;
const NONCE_START = 6;
const HEADER_BYTES = 18;
const TAG_BYTES = 16;
const COUNTER_END = 0x1_0000_0000;
const CLEAR_OVERHEAD_BYTES = 1;
const SEALED_OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES;

/** `key`: sealed with another key, not sealed, or forged. `stale`: its clock is too far from ours. */
export type Opened =
  | { readonly kind: 'ok'; readonly bytes: Uint8Array }
  | { readonly kind: 'key' | 'replay' | 'stale' | 'malformed' };

const KEY: Opened = { kind: 'key' };
const REPLAY: Opened = { kind: 'replay' };
const STALE: Opened = { kind: 'stale' };
const NOT_A_PACKET: Opened = { kind: 'malformed' };

interface Counter {
  readonly prefix: Buffer;
  next: number;
}

/** Seals and opens the packets of one host. */
export class Seal {
  private keys: readonly ClusterKey[];
  private readonly window = new ReplayWindow();
  private readonly counters: Record<Path, Counter>;

  /** `keys` in the form of {@link clusterKey}: none, one, or two. Throws SHOAL_CLUSTER_KEY. Takes 0.1 s a phrase. */
  constructor(keys: readonly string[]) {
    assert(keys.length <= CLUSTER_KEYS_MAX, 'at most two cluster keys');
    this.keys = keys.map(clusterKey);
    this.counters = { datagram: freshCounter(), stream: freshCounter() };
  }

  /** Other keys from now on, where there were some. Throws SHOAL_CLUSTER_KEY, and keeps those that it had. */
  renew(keys: readonly string[]): void {
    assert(this.keys.length > 0, 'keys are renewed where there are some');
    assert(keys.length > 0 && keys.length <= CLUSTER_KEYS_MAX, 'one cluster key or two');
    this.keys = keys.map(clusterKey);
  }

  /** What an envelope adds to a packet. */
  get overheadBytes(): number {
    return this.keys.length === 0 ? CLEAR_OVERHEAD_BYTES : SEALED_OVERHEAD_BYTES;
  }

  /** Senders whose packets are remembered. */
  get senders(): number {
    return this.window.size;
  }

  /** Fresh bytes. */
  seal(packet: Uint8Array, path: Path, wallMs: number): Uint8Array {
    const key = this.keys[0];
    if (key === undefined) return clear(packet);
    let counter = this.counters[path];
    if (counter.next === COUNTER_END) counter = this.counters[path] = freshCounter();
    const sealed = Buffer.allocUnsafe(packet.length + SEALED_OVERHEAD_BYTES);
    sealed[0] = SEALED;
    sealed[1] = key.hint;
    sealed.writeUInt32BE(Math.floor(wallMs / 1_000) % COUNTER_END, 2);
    counter.prefix.copy(sealed, NONCE_START);
    sealed.writeUInt32BE(counter.next++, NONCE_START + PREFIX_BYTES);
    const cipher = createCipheriv('aes-256-gcm', key.cipher, sealed.subarray(NONCE_START, HEADER_BYTES), TAG);
    cipher.setAAD(sealed.subarray(0, HEADER_BYTES));
    sealed.set(cipher.update(packet), HEADER_BYTES);
    cipher.final();
    sealed.set(cipher.getAuthTag(), HEADER_BYTES + packet.length);
    return sealed;
  }

  /** The packet may share memory with `bytes`. Never throws. */
  open(bytes: Uint8Array, wallMs: number): Opened {
    const sealed = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (sealed[0] === CLEAR) {
      return this.keys.length > 0 ? KEY : { kind: 'ok', bytes: sealed.subarray(CLEAR_OVERHEAD_BYTES) };
    }
    if (sealed[0] !== SEALED || sealed.length < SEALED_OVERHEAD_BYTES) return NOT_A_PACKET;
    if (!this.keys.some(key => key.hint === sealed[1])) return KEY;
    if (Math.abs(sealed.readUInt32BE(2) * 1_000 - wallMs) > FRESH_MS) return STALE;
    const sender = sealed.toString('latin1', NONCE_START, NONCE_START + PREFIX_BYTES);
    const counter = sealed.readUInt32BE(NONCE_START + PREFIX_BYTES);
    if (this.window.has(sender, counter)) return REPLAY;
    for (const key of this.keys) {
      if (key.hint !== sealed[1]) continue;
      const packet = decrypt(key, sealed);
      if (packet === undefined) continue;
      this.window.add(sender, counter, wallMs);
      return { kind: 'ok', bytes: packet };
    }
    return KEY;
  }
}

const TAG = { authTagLength: TAG_BYTES } as const;

function freshCounter(): Counter {
  return { prefix: randomBytes(PREFIX_BYTES), next: 0 };
}

function clear(packet: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(packet.length + CLEAR_OVERHEAD_BYTES);
  bytes[0] = CLEAR;
  bytes.set(packet, CLEAR_OVERHEAD_BYTES);
  return bytes;
}

function decrypt(key: ClusterKey, sealed: Buffer): Uint8Array | undefined {
  const end = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv(
    'aes-256-gcm',
    key.cipher,
    sealed.subarray(NONCE_START, HEADER_BYTES),
    TAG,
  );
  decipher.setAAD(sealed.subarray(0, HEADER_BYTES));
  decipher.setAuthTag(sealed.subarray(end));
  const packet = decipher.update(sealed.subarray(HEADER_BYTES, end));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return packet;
}
