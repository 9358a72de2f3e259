import type { Entry } from '../../src/kv/raft/ready.js';
import { OPERATION } from './linearizability.js';

/** What a client wants done to one register. */
export interface Command {
  /** One of `OPERATION` of linearizability.ts. */
  readonly kind: number;
  readonly key: number;
  readonly value: number;
  readonly expected: number;
}

const COMMAND_BYTES = 25;

export function encodeCommand({ kind, key, value, expected }: Command): Uint8Array {
  const bytes = new Uint8Array(COMMAND_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, kind);
  view.setFloat64(1, key);
  view.setFloat64(9, value);
  view.setFloat64(17, expected);
  return bytes;
}

function decodeCommand(bytes: Uint8Array): Command {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    kind: view.getUint8(0),
    key: view.getFloat64(1),
    value: view.getFloat64(9),
    expected: view.getFloat64(17),
  };
}

export const INITIAL = 0;

interface Answered {
  readonly sequence: number;
  readonly seen: number;
}

/**
 * The state of a simulated range: registers, and what each session was answered last, for one that asks again. The
 * hash follows every change, and is equal where the states are.
 */
export class Registers {
  hash = 0;
  readonly #values: Map<number, number>;
  readonly #answered: Map<number, Answered>;

  constructor(from?: Registers) {
    this.#values = new Map(from === undefined ? undefined : from.#values);
    this.#answered = new Map(from === undefined ? undefined : from.#answered);
    this.hash = from?.hash ?? 0;
  }

  get(key: number): number {
    return this.#values.get(key) ?? INITIAL;
  }

  /** What the last operation of the session saw; undefined for an older one. */
  answered(session: number, sequence: number): number | undefined {
    const last = this.#answered.get(session);
    return last?.sequence === sequence ? last.seen : undefined;
  }

  apply({ session, sequence, data }: Entry): void {
    const { kind, key, value, expected } = decodeCommand(data);
    const seen = this.get(key);
    let after = seen;
    if (kind === OPERATION.WRITE) after = value;
    else if (kind === OPERATION.ADD) after = seen + value;
    else if (kind === OPERATION.SWAP && seen === expected) after = value;
    this.hash ^= mix(mix(key, seen), 1) ^ mix(mix(key, after), 1);
    if (!this.#values.has(key)) this.hash ^= mix(mix(key, INITIAL), 1);
    this.#values.set(key, after);
    const last = this.#answered.get(session);
    if (last !== undefined && last.sequence > sequence) return;
    if (last !== undefined) this.hash ^= mix(mix(session, last.sequence), last.seen);
    this.#answered.set(session, { sequence, seen });
    this.hash ^= mix(mix(session, sequence), seen);
  }
}

/** 32 bits of two numbers below 2^53, well mixed. */
export function mix(left: number, right: number): number {
  let mixed = Math.imul((left % 2 ** 32) ^ Math.imul(Math.floor(left / 2 ** 32), 0x85ebca6b), 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ (right % 2 ** 32), 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 13) ^ Math.floor(right / 2 ** 32), 0x27d4eb2f);
  return mixed ^ (mixed >>> 16);
}

/** Of all that makes an entry what it is. */
export function entryHash({ term, index, kind, session, sequence, data }: Entry): number {
  let hash = mix(mix(mix(term, index), mix(kind, session)), sequence);
  for (const byte of data) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash ^ (hash >>> 15);
}
