import { isValidMqttUtf8 } from '../../base/utf8.js';
import { REASON, type Violation } from './packet.js';

/**
 * Reads the fields of one control packet, which lies whole in `buffer` from `at` to `end`. The first thing wrong is
 * kept in `violation`; after that every read returns nothing (0, '' or no bytes) and moves to the end, so a parser
 * reads straight through and looks once. Loops must run while `more` is true.
 */
export class FieldReader {
  readonly buffer: Buffer;
  at: number;
  end: number;
  violation: Violation | null = null;

  constructor(buffer: Buffer, start: number, end: number) {
    this.buffer = buffer;
    this.at = start;
    this.end = end;
  }

  /** More fields follow, and nothing was wrong so far. */
  get more(): boolean {
    return this.at < this.end;
  }

  fail(reasonCode: number, clause: string, why: string): void {
    this.violation ??= { reasonCode, clause, why };
    this.end = this.at;
  }

  /** Malformed Packet: it cannot be read according to the specification. */
  malformed(clause: string, why: string): void {
    this.fail(REASON.malformedPacket, clause, why);
  }

  /** Protocol Error: it can be read, but says what is not allowed. */
  illegal(clause: string, why: string): void {
    this.fail(REASON.protocolError, clause, why);
  }

  private take(count: number): number {
    const at = this.at;
    if (at + count > this.end) {
      this.malformed('MQTT-4.13.1-1', 'a field ends after its packet');
      return -1;
    }
    this.at = at + count;
    return at;
  }

  u8(): number {
    const at = this.take(1);
    return at < 0 ? 0 : this.buffer[at]!;
  }

  u16(): number {
    const at = this.take(2);
    return at < 0 ? 0 : (this.buffer[at]! << 8) | this.buffer[at + 1]!;
  }

  u32(): number {
    const at = this.take(4);
    return at < 0 ? 0 : this.buffer.readUInt32BE(at);
  }

  /** Variable Byte Integer: at most four bytes, and no more of them than needed [MQTT-1.5.5-1]. */
  variableInteger(): number {
    let value = 0;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.u8();
      value |= (byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      if (byte === 0 && shift > 0) break;
      return value;
    }
    this.malformed('MQTT-1.5.5-1', 'a variable byte integer is too long');
    return 0;
  }

  /** UTF-8 Encoded String (MQTT 5, 1.5.4). `clause` is what demands UTF-8 of this very field. */
  string(clause: string): string {
    const length = this.u16();
    const at = this.take(length);
    if (at < 0 || length === 0) return '';
    if (!isValidMqttUtf8(this.buffer, at, at + length)) {
      this.malformed(clause, 'a string is not UTF-8, or contains U+0000');
      return '';
    }
    return this.buffer.toString('utf8', at, at + length);
  }

  /** Binary Data, as a copy: what control packets say outlives the received chunk. */
  binary(): Buffer {
    const length = this.u16();
    const at = this.take(length);
    return at < 0 ? EMPTY : Buffer.from(this.buffer.subarray(at, at + length));
  }

  /** A Packet Identifier of a SUBSCRIBE or UNSUBSCRIBE. */
  packetId(): number {
    const id = this.u16();
    if (id === 0) this.illegal('MQTT-2.2.1-3', 'the packet identifier is 0');
    return id;
  }
}

export const EMPTY: Buffer = Buffer.alloc(0);
