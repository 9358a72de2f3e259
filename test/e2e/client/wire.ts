/**
 * The byte pipes under the test client: TCP and TLS as they are, WS and WSS framed by hand in `web-wire.ts`.
 * A wire hands over whatever bytes came, in order; it knows nothing of MQTT.
 */
import net from 'node:net';
import tls from 'node:tls';
import { WebWire, type WebWireOptions } from './web-wire.js';

export type Transport = 'tcp' | 'tls' | 'ws' | 'wss';

export const TRANSPORTS: readonly Transport[] = ['tcp', 'tls', 'ws', 'wss'];

/** Where a broker listens and what a client needs to reach it. */
export interface Target {
  readonly host: string;
  readonly ports: Readonly<Partial<Record<Transport, number>>>;
  /** Authority that signed the broker's certificate, PEM. */
  readonly ca?: string;
}

export interface WireOptions extends WebWireOptions {
  /** Client certificate and key, PEM. */
  readonly cert?: string;
  readonly key?: string;
  /** Bytes that precede everything else on the socket, even the TLS handshake (a PROXY protocol header). */
  readonly preamble?: Uint8Array;
  /** Receive buffer of the socket is left full: nothing is read until `resume`. */
  readonly paused?: boolean;
}

export interface Wire {
  onData: (bytes: Buffer) => void;
  onClose: (reason: string) => void;
  /** One segment on TCP, one binary frame on WebSocket. */
  write(bytes: Uint8Array): void;
  pause(): void;
  resume(): void;
  /** Orderly end: FIN, or a close frame. */
  end(): void;
  /** The cable is cut: no MQTT or WebSocket farewell. */
  destroy(): void;
}

const OPEN_TIMEOUT_MS = 5000;

class StreamWire implements Wire {
  onData: (bytes: Buffer) => void = () => {};
  onClose: (reason: string) => void = () => {};
  private readonly socket: net.Socket;

  constructor(socket: net.Socket) {
    this.socket = socket;
    let reason = 'end of stream';
    socket.on('error', error => {
      reason = error.message;
    });
    socket.on('data', bytes => this.onData(bytes));
    socket.on('close', () => this.onClose(reason));
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

function dial(host: string, port: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, noDelay: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

function secure(raw: net.Socket, target: Target, options: WireOptions): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const settings: tls.ConnectionOptions = { socket: raw, servername: 'localhost' };
    if (target.ca !== undefined) settings.ca = target.ca;
    if (options.cert !== undefined) settings.cert = options.cert;
    if (options.key !== undefined) settings.key = options.key;
    const socket = tls.connect(settings);
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

/** Opens a wire; rejects when the port, the TLS handshake or the WebSocket upgrade is refused. */
export async function openWire(
  target: Target,
  transport: Transport,
  options: WireOptions = {},
): Promise<Wire> {
  const port = target.ports[transport];
  if (port === undefined) throw new Error(`the broker was started without a ${transport} listener`);
  const raw = await dial(target.host, port);
  raw.setTimeout(OPEN_TIMEOUT_MS, () => raw.destroy(new Error(`${transport} handshake took too long`)));
  if (options.preamble !== undefined) raw.write(options.preamble);
  const isSecure = transport === 'tls' || transport === 'wss';
  const socket = isSecure ? await secure(raw, target, options) : raw;
  let wire: Wire;
  if (transport === 'ws' || transport === 'wss') wire = await WebWire.upgrade(socket, options);
  else wire = new StreamWire(socket);
  raw.setTimeout(0);
  if (options.paused === true) wire.pause();
  return wire;
}
