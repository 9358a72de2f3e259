/** Packets by the byte, for those that no well-behaved generator would write. */

export const u8 = (value: number): Buffer => Buffer.from([value]);

export function u16(value: number): Buffer {
  return Buffer.from([value >>> 8, value & 0xff]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Variable byte integer in its shortest form. */
export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? low | 0x80 : low);
  } while (rest > 0);
  return Buffer.from(bytes);
}

/** A length-prefixed string or binary field. */
export function field(content: string | Uint8Array): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([u16(bytes.length), bytes]);
}

/** A property block: its length, then the properties. */
export function properties(...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([varint(body.length), body]);
}

/** A whole packet: the first byte as given, the remaining length as it is. */
export function packet(first: number, ...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([u8(first), varint(body.length), body]);
}

export function userProperty(name: string, value: string): Buffer {
  return Buffer.concat([u8(0x26), field(name), field(value)]);
}

/** CONNECT with every byte open to choice. */
export function connectBytes(
  overrides: {
    first?: number;
    protocol?: string | Uint8Array;
    level?: number;
    flags?: number;
    keepalive?: number;
    properties?: Uint8Array;
    payload?: Uint8Array[];
  } = {},
): Buffer {
  const level = overrides.level ?? 4;
  return packet(
    overrides.first ?? 0x10,
    field(overrides.protocol ?? (level === 3 ? 'MQIsdp' : 'MQTT')),
    u8(level),
    u8(overrides.flags ?? 0x02),
    u16(overrides.keepalive ?? 0),
    overrides.properties ?? (level === 5 ? properties() : Buffer.alloc(0)),
    ...(overrides.payload ?? [field(`raw-${Math.random().toString(36).slice(2)}`)]),
  );
}
