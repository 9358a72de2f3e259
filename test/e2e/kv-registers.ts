/** Registers on the replicated storage: what a process of the tests keeps there, and how it says what it wants. */
import { type ByteReader, ByteWriter } from '../../src/base/bytes.js';
import type { KvReader, KvWriter } from '../../src/kv/engine.js';
import type { Boundary, Coprocessor } from '../../src/kv/range.js';
import { OPERATION } from '../sim/linearizability.js';

const SERVICE = 0x72;
export const WHOLE: Boundary = { start: Uint8Array.of(SERVICE), end: Uint8Array.of(SERVICE + 1) };

export function registerKey(register: number): Uint8Array {
  return Uint8Array.of(SERVICE, register >>> 8, register & 255);
}

export interface Wanted {
  /** One of OPERATION. */
  readonly kind: number;
  readonly key: number;
  readonly value: number;
  readonly expected: number;
}

/** `padding` bytes more are stored with the value, so that a small disk is full soon. */
export function encodeWanted({ kind, key, value, expected }: Wanted, padding: number): Uint8Array {
  return new ByteWriter(19 + padding)
    .u8(kind)
    .u16(key)
    .f64(value)
    .f64(expected)
    .raw(new Uint8Array(padding))
    .copy();
}

/** Its answer is what the register held before, 0 at first. */
export class Registers implements Coprocessor {
  query(input: ByteReader, reader: KvReader, output: ByteWriter): void {
    input.u8();
    output.f64(heldBy(reader, registerKey(input.u16())));
  }

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const kind = input.u8();
    const key = registerKey(input.u16());
    const value = input.f64();
    const expected = input.f64();
    const former = heldBy(writer, key);
    output.f64(former);
    if (kind === OPERATION.SWAP && former !== expected) return;
    writer.put(key, new ByteWriter(64).f64(value).raw(input.raw(input.remaining)).copy());
  }

  finish(): void {}

  reset(): void {}
}

function heldBy(reader: KvReader, key: Uint8Array): number {
  const value = reader.get(key);
  return value === undefined ? 0 : Buffer.from(value).readDoubleLE(0);
}
