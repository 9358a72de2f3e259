/**
 * A WebSocket client (RFC 6455) small enough to misbehave on purpose: the caller decides how packets fall
 * into frames, may fragment, may send text. Frames from the server are checked, pings are answered.
 */
import { createHash, randomBytes } from 'node:crypto';
import type net from 'node:net';
import type { Wire } from './wire.js';

export interface WebWireOptions {
  readonly path?: string;
  /** Offered sub-protocols; an empty list sends no header. */
  readonly protocols?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The server answered the upgrade with another status than 101. */
export class UpgradeRefused extends Error {
  readonly status: number;

  constructor(status: number, head: string) {
    super(`WebSocket upgrade refused: ${head.split('\r\n')[0]}`);
    this.status = status;
  }
}

export function encodeFrame(opcode: number, payload: Uint8Array, final = true): Buffer {
  const size = payload.length;
  const extended = size < 126 ? 0 : size < 65_536 ? 2 : 8;
  const frame = Buffer.alloc(2 + extended + 4 + size);
  frame[0] = (final ? 0x80 : 0) | opcode;
  frame[1] = 0x80 | (extended === 0 ? size : extended === 2 ? 126 : 127);
  if (extended === 2) frame.writeUInt16BE(size, 2);
  if (extended === 8) frame.writeBigUInt64BE(BigInt(size), 2);
  const mask = randomBytes(4);
  mask.copy(frame, 2 + extended);
  const start = 6 + extended;
  for (let index = 0; index < size; index++) frame[start + index] = payload[index]! ^ mask[index & 3]!;
  return frame;
}

export class WebWire implements Wire {
  onData: (bytes: Buffer) => void = () => {};
  onClose: (reason: string) => void = () => {};
  /** The sub-protocol that the server chose. */
  readonly protocol: string | undefined;
  /** Status of the server's close frame. */
  closeCode: number | undefined;
  pongs = 0;
  private readonly socket: net.Socket;
  private pending: Buffer;

  private constructor(socket: net.Socket, protocol: string | undefined, rest: Buffer) {
    this.socket = socket;
    this.protocol = protocol;
    this.pending = rest;
    let reason = 'end of stream';
    socket.on('error', error => {
      reason = error.message;
    });
    socket.on('data', bytes => {
      this.pending = this.pending.length === 0 ? bytes : Buffer.concat([this.pending, bytes]);
      this.readFrames();
    });
    socket.on('close', () => {
      this.onClose(this.closeCode === undefined ? reason : `close frame ${this.closeCode}`);
    });
  }

  static upgrade(socket: net.Socket, options: WebWireOptions): Promise<WebWire> {
    const key = randomBytes(16).toString('base64');
    const lines = [
      `GET ${options.path ?? '/mqtt'} HTTP/1.1`,
      'Host: localhost',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Key: ${key}`,
      'Sec-WebSocket-Version: 13',
    ];
    const protocols = options.protocols ?? ['mqtt'];
    if (protocols.length > 0) lines.push(`Sec-WebSocket-Protocol: ${protocols.join(', ')}`);
    for (const [name, value] of Object.entries(options.headers ?? {})) lines.push(`${name}: ${value}`);
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    return new Promise((resolve, reject) => {
      let head = Buffer.alloc(0);
      const fail = (error: Error) => reject(error);
      const closed = () => reject(new Error(`closed during the WebSocket upgrade: ${head.toString()}`));
      const read = (bytes: Buffer) => {
        head = Buffer.concat([head, bytes]);
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return;
        socket.off('data', read).off('error', fail).off('close', closed);
        const text = head.subarray(0, end).toString();
        const status = Number(text.split(' ')[1]);
        if (status !== 101) {
          socket.on('error', () => {});
          socket.destroy();
          reject(new UpgradeRefused(status, text));
          return;
        }
        const accept = createHash('sha1')
          .update(key + ACCEPT_GUID)
          .digest('base64');
        if (header(text, 'sec-websocket-accept') !== accept) {
          reject(new Error('wrong Sec-WebSocket-Accept'));
          return;
        }
        resolve(
          new WebWire(socket, header(text, 'sec-websocket-protocol'), Buffer.from(head.subarray(end + 4))),
        );
      };
      socket.on('data', read).on('error', fail).on('close', closed);
    });
  }

  private readFrames(): void {
    while (this.pending.length >= 2) {
      const bytes = this.pending;
      const short = bytes[1]! & 0x7f;
      const start = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (bytes.length < start) return;
      const size =
        short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
      if (bytes.length < start + size) return;
      this.pending = bytes.subarray(start + size);
      this.readFrame(bytes[0]!, bytes[1]!, bytes.subarray(start, start + size));
    }
  }

  private readFrame(first: number, second: number, payload: Buffer): void {
    const opcode = first & 0x0f;
    if ((first & 0x70) !== 0 || (second & 0x80) !== 0) {
      this.socket.destroy(new Error('the server sent a masked frame or set a reserved bit'));
    } else if (opcode === OPCODE.binary || opcode === OPCODE.continuation) this.onData(payload);
    else if (opcode === OPCODE.ping) this.frame(OPCODE.pong, payload);
    else if (opcode === OPCODE.pong) this.pongs++;
    else if (opcode === OPCODE.close) {
      this.closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      this.socket.end(encodeFrame(OPCODE.close, payload.subarray(0, 2)));
    } else this.socket.destroy(new Error(`the server sent a frame with opcode ${opcode}`));
  }

  frame(opcode: number, payload: Uint8Array, final = true): void {
    this.socket.write(encodeFrame(opcode, payload, final));
  }

  /** Bytes as they are, below the framing. */
  raw(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  write(bytes: Uint8Array): void {
    this.frame(OPCODE.binary, bytes);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.readFrames();
    this.socket.resume();
  }

  end(): void {
    this.frame(OPCODE.close, Buffer.from([0x03, 0xe8]));
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

function header(head: string, name: string): string | undefined {
  for (const line of head.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0 && line.slice(0, colon).toLowerCase() === name) return line.slice(colon + 1).trim();
  }
  return undefined;
}
