/** HTTP/2 by hand: RFC 9113, sections 4.1 and 6. */

export type Bytes = Buffer<ArrayBuffer>;

export const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION] = [
  0, 1, 3, 4, 6, 7, 9,
] as const;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const END_STREAM = 1;
export const END_HEADERS = 4;

export function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Bytes {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function goaway(lastStream: number, code: number): Bytes {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(lastStream);
  payload.writeUInt32BE(code, 4);
  return frame(GOAWAY, 0, 0, payload);
}

export function reset(stream: number, code: number): Bytes {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(code);
  return frame(RST_STREAM, 0, stream, payload);
}

/** What every client begins with. */
export function opening(): Bytes {
  return Buffer.concat([PREFACE, frame(SETTINGS, 0, 0)]);
}

/** A literal header without indexing (RFC 7541, 6.2.2). */
function literal(name: string, value: string): Bytes {
  const part = (text: string): Bytes => {
    const bytes = Buffer.from(text);
    if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes]);
    const length = [127];
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    return Buffer.concat([Buffer.of(...length, rest), bytes]);
  };
  return Buffer.concat([Buffer.of(0), part(name), part(value)]);
}

export function headerBlock(path: string, more: Readonly<Record<string, string>> = {}): Bytes {
  const headers = {
    ':method': 'POST',
    ':scheme': 'http',
    ':authority': 'x',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...more,
  };
  return Buffer.concat(Object.entries(headers).map(([name, value]) => literal(name, value)));
}

/** The headers of a call as one frame. */
export function call(stream: number, path: string, more: Readonly<Record<string, string>> = {}): Bytes {
  return frame(HEADERS, END_HEADERS, stream, headerBlock(path, more));
}

/** A message of gRPC, or the first `sent` bytes of it. */
export function message(bytes: number, sent = bytes, isCompressed = 0): Bytes {
  const head = Buffer.alloc(5);
  head[0] = isCompressed;
  head.writeUInt32BE(bytes, 1);
  return Buffer.concat([head, Buffer.alloc(sent, 7)]);
}
