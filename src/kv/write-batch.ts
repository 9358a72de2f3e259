import { ByteReader, ByteWriter } from '../base/bytes.js';
import type { KvWriter } from './engine.js';

/** Puts and removes to be replayed into a transaction later. Cannot be read. */
export class WriteBatch {
  private readonly log = new ByteWriter(4096);
  private readonly reader = new ByteReader();
  count = 0;

  get bytes(): number {
    return this.log.length;
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.log.u8(PUT).blob(key).blob(value);
    this.count++;
  }

  remove(key: Uint8Array): void {
    this.log.u8(REMOVE).blob(key);
    this.count++;
  }

  /** Applies all operations in their order to `target`; the batch stays as it is. */
  replay(target: Pick<KvWriter, 'put' | 'remove'>): void {
    const reader = this.reader.over(this.log.bytes, 0, this.log.length);
    while (reader.remaining > 0) {
      if (reader.u8() === PUT) {
        const key = reader.blob();
        target.put(key, reader.blob());
      } else target.remove(reader.blob());
    }
  }

  clear(): void {
    this.log.reset();
    this.count = 0;
  }
}

const PUT = 1;
const REMOVE = 2;
