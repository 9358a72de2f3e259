import { ByteReader, ByteWriter } from '../../../src/base/bytes.js';
import { SERVICE } from '../../../src/kv/keys.js';
import { MapCoprocessor, type MapLimits } from '../../../src/kv/map/map.js';
import { decodeMapAnswer, type MapAnswer } from '../../../src/kv/map/map-codec.js';
import { MemoryEngine } from '../../../src/kv/memory-engine.js';
import { type Boundary, wholeService } from '../../../src/kv/range.js';

export const WHOLE = wholeService(SERVICE.MAP);

/** A range of the map on an engine, without replication. */
export class OneRange {
  readonly engine: MemoryEngine;
  readonly coprocessor: MapCoprocessor;
  boundary: Boundary;

  constructor(range: number, boundary = WHOLE, engine = new MemoryEngine(), limits?: MapLimits) {
    this.engine = engine;
    this.boundary = boundary;
    this.coprocessor = new MapCoprocessor(range, limits);
    this.coprocessor.reset(boundary, engine);
  }

  mutate(command: Uint8Array): MapAnswer {
    return decodeMapAnswer(this.tell(command));
  }

  /** As bytes. */
  tell(command: Uint8Array): Uint8Array {
    const output = new ByteWriter(64);
    this.engine.write(
      writer => {
        this.coprocessor.mutate(new ByteReader(command), writer, output);
        this.coprocessor.finish(writer);
      },
      () => undefined,
    );
    return output.copy();
  }

  /** As bytes, which a listing reads itself. */
  ask(question: Uint8Array): Uint8Array {
    const output = new ByteWriter(64);
    this.coprocessor.query(new ByteReader(question), this.engine, output);
    return output.copy();
  }

  query(question: Uint8Array): MapAnswer {
    return decodeMapAnswer(this.ask(question));
  }

  /** Divides the range at `key`; the upper part is the new one. */
  divide(key: Uint8Array, child: number): OneRange {
    const lower = { start: this.boundary.start, end: key };
    const upper = { start: key, end: this.boundary.end };
    this.engine.write(
      writer => this.coprocessor.divide({ lower, upper, child }, writer),
      () => undefined,
    );
    this.boundary = lower;
    this.coprocessor.reset(lower, this.engine);
    return new OneRange(child, upper, this.engine);
  }

  /** Takes over the range above. */
  absorb(upper: OneRange, id: number): void {
    const boundary = { start: this.boundary.start, end: upper.boundary.end };
    this.engine.write(
      writer => this.coprocessor.absorb(boundary, id, writer),
      () => undefined,
    );
    this.boundary = boundary;
    this.coprocessor.reset(boundary, this.engine);
  }

  holds(key: Uint8Array): boolean {
    const { start, end } = this.boundary;
    return Buffer.compare(start, key) <= 0 && Buffer.compare(key, end) < 0;
  }

  /** Entries and bytes as they lie there. */
  counted(): { entries: number; bytes: number } {
    const counted = { entries: 0, bytes: 0 };
    this.engine.scan(this.boundary.start, this.boundary.end, (key, value) => {
      counted.entries++;
      counted.bytes += key.length + value.length;
      return true;
    });
    return counted;
  }
}
