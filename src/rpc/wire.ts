import { ByteWriter } from '../base/bytes.js';
import { RPC_FAILURE_CODES, type RpcFailure } from './failure.js';
import type { Codec } from './service.js';

/** What a body holds that cannot be read. */
export const MALFORMED = Symbol('malformed');
export const TOO_LARGE = Symbol('too large');

/** Place in `RPC_FAILURE_CODES` plus one; 0 is an answer. */
export const ANSWERED = 0;
/** The server goes and has not begun this request, nor any behind it in the same pipeline. */
export const MOVED = 255;

/** One answer in a frame of a pipeline. */
export interface Answer {
  readonly status: number;
  /** Encoded response; for failures the detail. */
  readonly body: unknown;
}

/**
 * How values become bodies towards a server: bytes to another process, the values themselves within this one. All else
 * is the same for both, which is why a caller cannot tell where the callee is.
 *
 * | body | bytes |
 * | --- | --- |
 * | unary, stream message | as the codec has it |
 * | requests of a pipeline | n × (u32 length, request) |
 * | answers of a pipeline | n × (u8 status, u32 length, response or detail) |
 * | acknowledgement of a stream | u32 count |
 */
export interface Wire {
  encode<T>(codec: Codec<T>, value: T, bytesMax: number): unknown;
  decode<T>(codec: Codec<T>, body: unknown, bytesMax: number): T | typeof MALFORMED;
  /** Of an encoded body; 0 where it is not known. */
  sizeOf(body: unknown): number;
  packRequests(bodies: readonly unknown[]): unknown;
  /** A frame of more parts than `partsMax` cannot be read. */
  unpackRequests(frame: unknown, partsMax: number): readonly unknown[] | typeof MALFORMED;
  packAnswers(answers: readonly Answer[]): unknown;
  unpackAnswers(frame: unknown, partsMax: number): readonly Answer[] | typeof MALFORMED;
  encodeCount(count: number): unknown;
  decodeCount(body: unknown): number | typeof MALFORMED;
}

export function statusOf(failure: RpcFailure): number {
  return RPC_FAILURE_CODES.indexOf(failure.kind) + 1;
}

/** Undefined for a status that is none of a failure. */
export function failureOf(status: number, detail: string): RpcFailure | undefined {
  const kind = RPC_FAILURE_CODES[status - 1];
  return kind === undefined ? undefined : { kind, detail };
}

export const VALUES: Wire = {
  encode: (_codec, value) => value,
  decode: <T>(_codec: Codec<T>, body: unknown) => body as T,
  sizeOf: () => 0,
  packRequests: bodies => bodies,
  unpackRequests: frame => frame as readonly unknown[],
  packAnswers: answers => answers,
  unpackAnswers: frame => frame as readonly Answer[],
  encodeCount: count => count,
  decodeCount: body => body as number,
};

/** Frames are copied into one buffer of their own each: they are held until the peer has taken them. */
export const BYTES: Wire = {
  encode(codec, value, bytesMax) {
    const bytes = codec.encode(value);
    return bytes.length > bytesMax ? TOO_LARGE : bytes;
  },

  decode(codec, body, bytesMax) {
    const bytes = body as Uint8Array;
    if (bytes.length > bytesMax) return MALFORMED;
    const value = codec.decode(bytes);
    return value === undefined ? MALFORMED : value;
  },

  sizeOf: body => (body as Uint8Array).length,

  packRequests(bodies) {
    let bytes = 0;
    for (const body of bodies) bytes += 4 + (body as Uint8Array).length;
    const writer = new ByteWriter(Math.max(bytes, 1));
    for (const body of bodies) writer.blob(body as Uint8Array);
    return writer.view();
  },

  unpackRequests(frame, partsMax) {
    const bytes = frame as Uint8Array;
    const bodies: Uint8Array[] = [];
    let at = 0;
    while (at < bytes.length) {
      const end = partEnd(bytes, at);
      if (end < 0 || bodies.length >= partsMax) return MALFORMED;
      bodies.push(bytes.subarray(at + 4, end));
      at = end;
    }
    return bodies;
  },

  packAnswers(answers) {
    const bodies = answers.map(({ status, body }) =>
      status === ANSWERED ? (body as Uint8Array) : Buffer.from(body as string, 'utf8'),
    );
    const writer = new ByteWriter(bodies.reduce((bytes, body) => bytes + 5 + body.length, 1));
    for (let i = 0; i < bodies.length; i++) writer.u8(answers[i]!.status).blob(bodies[i]!);
    return writer.view();
  },

  unpackAnswers(frame, partsMax) {
    const bytes = frame as Uint8Array;
    const answers: Answer[] = [];
    let at = 0;
    while (at < bytes.length) {
      const status = bytes[at]!;
      const end = partEnd(bytes, at + 1);
      if (end < 0 || answers.length >= partsMax) return MALFORMED;
      const body = bytes.subarray(at + 5, end);
      answers.push({ status, body: status === ANSWERED ? body : textOf(body) });
      at = end;
    }
    return answers;
  },

  encodeCount: count => new ByteWriter(4).u32(count).view(),

  decodeCount(body) {
    const bytes = body as Uint8Array;
    return bytes.length === 4 ? u32(bytes, 0) : MALFORMED;
  },
};

/** Where a part ends whose length stands at `at`; -1 when the bytes do not hold it. */
function partEnd(bytes: Uint8Array, at: number): number {
  if (at + 4 > bytes.length) return -1;
  const end = at + 4 + u32(bytes, at);
  return end > bytes.length ? -1 : end;
}

function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
}
