import { createHash, randomBytes } from 'node:crypto';
import { connect as connectNet, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

/**
 * A client that sends and receives plain bytes over any transport, with a hand on what well-behaved client
 * libraries hide: stopping to read, half-closing, resetting, odd WebSocket frames.
 */
export class ByteClient {
  readonly socket: Socket;
  readonly #frames: WsFrames | undefined;
  received: Buffer = Buffer.alloc(0);
  receivedBytes = 0;
  /** Keep only the count: for tests that move many megabytes. */
  countOnly = false;
  ended = false;
  readonly closed: Promise<void>;
  #changed: (() => void)[] = [];

  constructor(socket: Socket, frames: WsFrames | undefined) {
    this.socket = socket;
    this.#frames = frames;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('end', () => {
      this.ended = true;
      this.#wake();
    });
    this.closed = new Promise(resolve => {
      socket.on('close', () => {
        resolve();
        this.#wake();
      });
    });
  }

  get closeCode(): number | undefined {
    return this.#frames?.closeCode;
  }

  send(bytes: Buffer): void {
    this.socket.write(this.#frames === undefined ? bytes : frame(2, bytes));
  }

  /** Ends as a well-behaved client does. */
  finish(): void {
    if (this.#frames === undefined) this.socket.end();
    else this.sendFrame(8, Buffer.from([1000 >> 8, 1000 & 255]));
  }

  /** WebSocket only: one frame as given. */
  sendFrame(opcode: number, bytes: Buffer, final = true): void {
    this.socket.write(frame(opcode, bytes, final));
  }

  async until(condition: () => boolean, what: string, timeoutMs = 8_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!condition()) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`timed out waiting for ${what}; ${this.receivedBytes} bytes received`);
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, Math.min(left, 20));
        this.#changed.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  untilReceived(bytes: number): Promise<void> {
    return this.until(() => this.receivedBytes >= bytes, `${bytes} bytes`);
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#frames === undefined ? chunk : this.#frames.push(chunk);
    this.receivedBytes += bytes.length;
    if (!this.countOnly) this.received = Buffer.concat([this.received, bytes]);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

/** Takes server frames apart: data frames' bytes come out, a close frame is remembered and answered. */
class WsFrames {
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  closeCode: number | undefined = undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  push(chunk: Buffer): Buffer {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const out: Buffer[] = [];
    for (;;) {
      const bytes = this.#rest;
      if (bytes.length < 2) break;
      let head = 2;
      let length = bytes[1]! & 127;
      if (length === 126 && bytes.length >= 4) length = bytes.readUInt16BE(2);
      else if (length === 127 && bytes.length >= 10) length = Number(bytes.readBigUInt64BE(2));
      else if (length >= 126) break;
      if ((bytes[1]! & 127) === 126) head = 4;
      if ((bytes[1]! & 127) === 127) head = 10;
      if (bytes.length < head + length) break;
      const payload = bytes.subarray(head, head + length);
      const opcode = bytes[0]! & 15;
      if (opcode === 2) out.push(payload);
      if (opcode === 8) {
        this.closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        this.#socket.end(frame(8, payload));
      }
      this.#rest = bytes.subarray(head + length);
    }
    return out.length === 1 ? out[0]! : Buffer.concat(out);
  }
}

function frame(opcode: number, payload: Buffer, final = true): Buffer {
  const first = (final ? 128 : 0) | opcode;
  const mask = randomBytes(4);
  let head: Buffer;
  if (payload.length < 126) head = Buffer.from([first, 128 | payload.length]);
  else if (payload.length < 65536) {
    head = Buffer.from([first, 128 | 126, payload.length >> 8, payload.length & 255]);
  } else {
    head = Buffer.from([first, 128 | 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32BE(payload.length, 6);
  }
  const body = Buffer.allocUnsafe(payload.length);
  for (let i = 0; i < payload.length; i++) body[i] = payload[i]! ^ mask[i & 3]!;
  return Buffer.concat([head, mask, body]);
}

export interface ConnectOptions {
  readonly port: number;
  /** TLS when given. */
  readonly tls?: { readonly ca: string; readonly cert?: string; readonly key?: string };
  readonly webSocket?: boolean;
  readonly path?: string;
  readonly protocols?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent before anything else, also before the TLS handshake. */
  readonly prologue?: Buffer;
}

/** What a WebSocket server answered when it was not 101. */
export class HandshakeRefused extends Error {
  readonly status: number;
  constructor(status: number) {
    super(`the handshake was answered with ${status}`);
    this.status = status;
  }
}

export async function connectBytes(options: ConnectOptions): Promise<ByteClient> {
  const raw = connectNet({ port: options.port, host: '127.0.0.1', allowHalfOpen: true });
  try {
    return await handshakes(raw, options);
  } catch (error) {
    raw.destroy();
    throw error;
  }
}

async function handshakes(raw: Socket, options: ConnectOptions): Promise<ByteClient> {
  await eventOrError(raw, 'connect');
  raw.setNoDelay(true);
  if (options.prologue !== undefined) raw.write(options.prologue);
  let socket: Socket = raw;
  if (options.tls !== undefined) {
    raw.on('error', () => {});
    socket = connectTls({ socket: raw, ...options.tls, servername: 'localhost' });
    await eventOrError(socket, 'secureConnect');
  }
  if (options.webSocket !== true) return new ByteClient(socket, undefined);
  await upgrade(socket, options);
  return new ByteClient(socket, new WsFrames(socket));
}

async function upgrade(socket: Socket, options: ConnectOptions): Promise<void> {
  const key = randomBytes(16).toString('base64');
  const headers = {
    host: 'localhost',
    upgrade: 'websocket',
    connection: 'Upgrade',
    'sec-websocket-version': '13',
    'sec-websocket-key': key,
    ...(options.protocols === '' ? {} : { 'sec-websocket-protocol': options.protocols ?? 'mqtt' }),
    ...options.headers,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`GET ${options.path ?? '/mqtt'} HTTP/1.1\r\n${lines.join('')}\r\n`);
  const answer = await readHead(socket);
  const status = Number(answer.split(' ')[1]);
  if (status !== 101) throw new HandshakeRefused(status);
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  if (!answer.includes(accept)) throw new Error('wrong Sec-WebSocket-Accept');
  const chosen = /sec-websocket-protocol: (.*)\r\n/i.exec(answer)?.[1];
  if (chosen !== (options.protocols ?? 'mqtt').split(',')[0])
    throw new Error(`sub-protocol ${chosen} chosen`);
}

function readHead(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const failed = () => reject(new Error('closed during the handshake'));
    const readable = () => {
      for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
        bytes = Buffer.concat([bytes, chunk]);
      }
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.off('readable', readable);
      socket.off('close', failed);
      socket.off('end', failed);
      if (end + 4 < bytes.length) socket.unshift(bytes.subarray(end + 4));
      resolve(bytes.toString('latin1', 0, end + 4));
    };
    socket.on('readable', readable);
    socket.on('close', failed);
    socket.on('end', failed);
  });
}

function eventOrError(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const early = () => reject(new Error(`closed before ${event}`));
    socket.once('error', reject);
    socket.once('close', early);
    socket.once(event, () => {
      socket.off('error', reject);
      socket.off('close', early);
      resolve();
    });
  });
}
