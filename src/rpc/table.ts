import { CheckedBuffer, MessageBuilder } from '../schema/schema.js';
import type { Codec } from './service.js';

/** How a value becomes a FlatBuffers table, and what of a table is such a value. */
export interface TableFormat<T> {
  /** Offset of the root table. */
  write(builder: MessageBuilder, value: T): number;
  /** Undefined for a table that is none of the kind. What it reads of hostile bytes throws, as it should. */
  read(buffer: CheckedBuffer): T | undefined;
}

/** A larger builder is not kept after a large value. */
const BUILDER_BYTES_KEPT = 65_536;
const BUILDER_BYTES = 1_024;

/** For the requests and responses of methods that have a schema. Encoded bytes are fresh. */
export function table<T>({ write, read }: TableFormat<T>): Codec<T> {
  const buffer = new CheckedBuffer();
  let builder = new MessageBuilder(BUILDER_BYTES);
  return {
    encode(value) {
      builder.clear();
      builder.finish(write(builder, value));
      const bytes = builder.asUint8Array().slice();
      if (bytes.length > BUILDER_BYTES_KEPT) builder = new MessageBuilder(BUILDER_BYTES);
      return bytes;
    },
    decode: bytes => buffer.read(bytes, () => read(buffer)),
  };
}
