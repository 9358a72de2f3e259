/**
 * WebSocket (WS and WSS) on uWebSockets.js.
 *
 * - Handshake: the path must be the configured one, the client must offer the sub-protocol `mqtt` or `mqttv3.1`
 *   ([MQTT-6.0.0-3]), and the first of these that it offers is echoed ([MQTT-6.0.0-4]); otherwise 400. With an
 *   origin list, a browser's Origin must be on it; otherwise 403. Requests for other paths get 404.
 * - Frames: MQTT packets are split and joined across frames as the client likes, so messages are passed up as
 *   bytes. A text frame closes with 1003 ([MQTT-6.0.0-1]); a message above `messageBytesMax` is closed by uWS
 *   itself. Pings are answered by uWS, which also owns fragmentation. Compression is off: it would cost
 *   memory for each connection and gains nothing on small binary packets.
 *   Clients put each packet into a frame of its own, and uWS reads many frames at a time: those that one client sent
 *   in a row are put together in its handler's memory and handed up in one piece, the last of them when the turn ends,
 *   before its output is written. (A setImmediate of our own ran behind that: what came while a turn was being written
 *   then missed the next one, and fan-out over WebSocket wrote 34 messages at a time where TCP wrote 51. It writes 48
 *   now, for 0.14 µs of CPU a delivery instead of 0.20; `load fan-out -S 1000 --ws`, 2-core AMD EPYC, Node.js 20.20.)
 *   What is left of 200 pairs with a frame for each packet, 0.8 µs a message where TCP takes 0.25: 53 % Node, libc and
 *   uWS making an ArrayBuffer and a call into JavaScript for each frame, 24 % kernel, 19 % JavaScript.
 * - Reading cannot be stopped: this build of uWS pauses HTTP bodies only, not WebSockets. So what arrives while
 *   a peer is paused is held here and delivered by `resume`, up to `heldBytesMax` for each peer and
 *   `heldTotalBytesMax` for the listener; beyond that the client is cut off with 1013 (try again later). A
 *   publisher that keeps to its Receive Maximum never gets there; one that floods QoS 0 into a full broker does.
 *   When the client closes meanwhile, `onClose` waits behind what is held, as it would on TCP (its last packet may
 *   be the DISCONNECT that withdraws the will), but no longer than `endTimeoutMs`.
 * - Writing: uWS copies what the kernel does not take into its own buffer, without a bound
 *   (`maxBackpressure: 0`, it would drop silently otherwise); `pendingBytes` is what lies there.
 * - Several threads may listen on one port: uWS sets SO_REUSEPORT. The other side of that coin is that a second
 *   broker of the same user is not refused by the kernel, so the first listener of a node asks for `exclusive`,
 *   which looks whether anybody answers there.
 * - Known limits of this uWS: a client that sends its last bytes and ends the socket (not the WebSocket) at once
 *   may lose them on WSS, and an end without a close frame looks the same whether FIN or reset.
 * - Out of file descriptors, uWS spins at full speed for as long as a connection waits to be accepted (libuv does
 *   not), so that must not happen: every socket takes a place when uWS accepts it, also those that never become a
 *   WebSocket (uWS closes them after ten seconds), and `places` are fewer than descriptors. Before the upgrade uWS
 *   does not say which socket is which, so places are counted there, not owned: whoever is upgraded next gets a seat
 *   if the sockets before their upgrade have any.
 * - The native `WebSocket` must not be touched after its close handler has run. Each peer drops it there.
 * - A thread that ends while uWS has sockets open takes the whole process down. `destroy` therefore resolves
 *   only when the app and all its sockets are closed, and a hook on the thread's exit closes them when it ends by
 *   `process.exit` or an uncaught error. `Worker.terminate` and running out of heap run no hook: before
 *   `terminate`, have the thread destroy the listener.
 * - Costs are in the table of `tcp.ts`.
 */
import uWS, {
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  type us_listen_socket,
  type us_socket_context_t,
} from 'uWebSockets.js';
import {
  type Accept,
  type Gatherer,
  type Listener,
  type ListenerCounters,
  type ListenerOptions,
  PLACE,
  type Place,
} from '../transport.js';
import {
  freePort,
  listenError,
  listenFailure,
  newCounters,
  plainAddress,
  resolveHost,
  somebodyListens,
} from './listening.js';
import { checkTlsFiles, type TlsFiles } from './tls-files.js';
import { type UserData, WsPeer, type WsPeerOwner } from './ws-peer.js';

export interface WsListenOptions extends ListenerOptions {
  /** The URL's path, such as `/mqtt`; literal, without uWS's pattern signs. */
  readonly path: string;
  /** Largest WebSocket message; at least the largest MQTT packet, as most clients send one packet a message. */
  readonly messageBytesMax: number;
  /** Bytes held for one paused peer. */
  readonly heldBytesMax: number;
  /** Bytes held for all paused peers of this listener together. */
  readonly heldTotalBytesMax: number;
  /** Origins let in, compared exactly; empty lets all in. A request without Origin is not a browser's and passes. */
  readonly origins: readonly string[];
  /** A header (lower case) by which a trusted proxy names the client, such as `x-forwarded-for`; its last entry counts. */
  readonly addressHeader: string | undefined;
  /** Refuse a port on which anybody listens already; for the first of several listeners on one port. */
  readonly exclusive: boolean;
  /** Present: WSS. Client certificates are not asked for; uWS does not show them to us. */
  readonly tls: TlsFiles | undefined;
}

/** The longest message that is gathered. Bytes. */
const GATHERED_MESSAGE_BYTES_MAX = 16 * 1024;
const NOTHING = Buffer.alloc(0);

class WsListener implements Listener, WsPeerOwner, Gatherer {
  readonly transport: 'ws' | 'wss';
  readonly host: string;
  readonly counters: ListenerCounters = newCounters();
  readonly endTimeoutMs: number;
  connections = 0;
  heldBytes = 0;
  /** Peers whose client has closed while what it sent is held. */
  readonly closeHeld = new Set<WsPeer>();
  destroying = false;
  readonly #options: WsListenOptions;
  readonly #accept: Accept;
  readonly #app: TemplatedApp;
  #socket: us_listen_socket | undefined = undefined;
  /** Sockets that are no WebSockets yet, by what place they have; and those closed for want of one. */
  #seated = 0;
  #unseated = 0;
  #shed = 0;
  #port = 0;
  #destroyed: Promise<void> | undefined = undefined;
  #whenEmpty: (() => void) | undefined = undefined;
  /** Messages of one peer, one after the other in its handler's memory. */
  #gathered: Buffer = NOTHING;
  #gatheredStart = 0;
  #gatheredEnd = 0;
  #gathering: WsPeer | undefined = undefined;
  #gatheringDue = false;
  readonly #onThreadExit = (): void => this.#closeApp();

  constructor(options: WsListenOptions, accept: Accept) {
    this.#options = options;
    this.#accept = accept;
    this.transport = options.tls === undefined ? 'ws' : 'wss';
    this.host = options.host;
    this.endTimeoutMs = options.endTimeoutMs;
    this.#app = newApp(options.tls);
    this.#route();
  }

  get port(): number {
    return this.#port;
  }

  get fd(): number {
    return -1;
  }

  async listen(): Promise<void> {
    const { host, port, exclusive } = this.#options;
    const address = await resolveHost(this.transport, host, port);
    if (exclusive && port !== 0 && (await somebodyListens(address, port))) {
      throw listenError(this.transport, host, port, 'EADDRINUSE');
    }
    // Asked for port 0, uWS leaves out SO_REUSEADDR and SO_REUSEPORT, so nobody could join the port or reopen it.
    const chosen = port === 0 ? await freePort(this.transport, host, address) : port;
    this.#app.listen(address, chosen, socket => {
      if (socket !== false) this.#socket = socket;
    });
    if (this.#socket === undefined) {
      this.#app.close();
      throw listenError(this.transport, host, port, await listenFailure(address, port));
    }
    this.#port = uWS.us_socket_local_port(this.#socket);
    process.once('exit', this.#onThreadExit);
  }

  mayHold(peerBytes: number, bytes: number): boolean {
    return (
      peerBytes + bytes <= this.#options.heldBytesMax &&
      this.heldBytes + bytes <= this.#options.heldTotalBytesMax
    );
  }

  /** Takes one message; `deliverGathered` hands on what one peer sent in a row. */
  gather(peer: WsPeer, message: ArrayBuffer): void {
    const length = message.byteLength;
    if (this.#gathering !== peer) this.endGathering();
    if (length > GATHERED_MESSAGE_BYTES_MAX) {
      this.endGathering();
      const own = Buffer.allocUnsafeSlow(length);
      own.set(new Uint8Array(message));
      peer.deliver(own, 0, length);
      return;
    }
    const { memory } = peer;
    const start = memory.take(new Uint8Array(message), length);
    // Not in a row: a page was turned, or a read of another transport lies between.
    if (memory.bytes !== this.#gathered || start !== this.#gatheredEnd) this.endGathering();
    if (this.#gathering === undefined) {
      this.#gathering = peer;
      this.#gathered = memory.bytes;
      this.#gatheredStart = start;
      if (!this.#gatheringDue) {
        this.#gatheringDue = true;
        peer.announce(this);
      }
    }
    this.#gatheredEnd = start + length;
  }

  /** What a closing peer sent last. Others' bytes stay: its close may come from within a call of theirs. */
  takeGathered(peer: WsPeer): Buffer | undefined {
    if (this.#gathering !== peer) return undefined;
    this.#gathering = undefined;
    return this.#gathered.subarray(this.#gatheredStart, this.#gatheredEnd);
  }

  /** Hands over what has been gathered so far. */
  endGathering(): void {
    const peer = this.#gathering;
    if (peer === undefined) return;
    this.#gathering = undefined;
    peer.deliver(this.#gathered, this.#gatheredStart, this.#gatheredEnd);
  }

  /** The turn ends. */
  deliverGathered(): void {
    this.#gatheringDue = false;
    this.endGathering();
  }

  async close(): Promise<void> {
    if (this.#socket === undefined) return;
    uWS.us_listen_socket_close(this.#socket);
    this.#socket = undefined;
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroyAll();
    return this.#destroyed;
  }

  forget(peer: WsPeer): void {
    this.connections--;
    this.#options.places.giveBack(peer.place);
  }

  settle(): void {
    if (this.connections === 0) this.#whenEmpty?.();
  }

  async #destroyAll(): Promise<void> {
    await this.close();
    process.off('exit', this.#onThreadExit);
    this.#closeApp();
    if (this.connections > 0) {
      await new Promise<void>(resolve => {
        this.#whenEmpty = resolve;
      });
    }
    // uWS frees closed sockets at the end of a loop iteration; a thread must not end before.
    await new Promise(resolve => setImmediate(() => setImmediate(resolve)));
  }

  #closeApp(): void {
    this.destroying = true;
    this.#socket = undefined;
    for (const peer of this.closeHeld) peer.destroy();
    this.#app.close();
  }

  /** uWS tells of a socket before it is asked anything (1), and when it closes without an upgrade (-1). */
  readonly #onSocket = (response: HttpResponse, change: number): void => {
    if (change < 0 && this.#shed > 0) this.#shed--;
    else if (change < 0) this.#options.places.giveBack(this.#takeSocketPlace(true));
    else {
      const place = this.destroying ? PLACE.NONE : this.#options.places.take();
      if (place === PLACE.SEAT) this.#seated++;
      else if (place === PLACE.REFUSAL) this.#unseated++;
      else {
        this.counters.refusedAtLimit++;
        this.#shed++;
        response.close();
      }
    }
  };

  /** The place of a socket that is upgraded, or of one that closes. */
  #takeSocketPlace(closes: boolean): Place {
    const seat = this.#seated > 0 && !(closes && this.#unseated > 0);
    if (seat) this.#seated--;
    else this.#unseated--;
    return seat ? PLACE.SEAT : PLACE.REFUSAL;
  }

  #route(): void {
    const options = this.#options;
    this.#app.filter((response, change) => this.#onSocket(response, Number(change)));
    this.#app.ws<UserData>(options.path, {
      compression: uWS.DISABLED,
      maxPayloadLength: options.messageBytesMax,
      // Without a limit here uWS never drops; the connection above has the limit.
      maxBackpressure: 0,
      // MQTT's keep-alive decides about silence. uWS still limits the wait for the end of a closed socket.
      idleTimeout: 0,
      sendPingsAutomatically: false,
      upgrade: (response, request, context) => this.#upgrade(response, request, context),
      open: ws => ws.getUserData().peer.start(ws, this.#accept),
      message: (ws, message, isBinary) => ws.getUserData().peer.received(message, isBinary),
      drain: ws => ws.getUserData().peer.drained(),
      close: (ws, code, message) => ws.getUserData().peer.closed(code, Buffer.from(message).toString()),
    });
    this.#app.any('/*', (response, request) => {
      if (request.getUrl() === options.path) {
        refuse(response, '426 Upgrade Required', 'This is the address of MQTT over WebSocket.');
      } else refuse(response, '404 Not Found', `MQTT over WebSocket is at ${options.path}.`);
    });
  }

  #upgrade(response: HttpResponse, request: HttpRequest, context: us_socket_context_t): void {
    const protocol = chosenProtocol(request.getHeader('sec-websocket-protocol'));
    const origin = request.getHeader('origin');
    const { origins, addressHeader } = this.#options;
    if (protocol === undefined) {
      this.counters.handshakeFailed++;
      refuse(response, '400 Bad Request', 'Sec-WebSocket-Protocol must offer mqtt or mqttv3.1.');
    } else if (origin !== '' && origins.length > 0 && !origins.includes(origin)) {
      this.counters.handshakeFailed++;
      refuse(response, '403 Forbidden', 'This origin is not allowed.');
    } else {
      this.counters.accepted++;
      this.connections++;
      const named = addressHeader === undefined ? '' : lastEntry(request.getHeader(addressHeader));
      const address = named === '' ? undefined : plainAddress(named);
      const peer = new WsPeer(this, this.#takeSocketPlace(false), address);
      response.upgrade({ peer }, request.getHeader('sec-websocket-key'), protocol, '', context);
    }
  }
}

/** The first sub-protocol offered that we speak ([MQTT-6.0.0-3], [MQTT-6.0.0-4]). */
function chosenProtocol(offer: string): string | undefined {
  return offer
    .split(',')
    .map(name => name.trim())
    .find(name => name === 'mqtt' || name === 'mqttv3.1');
}

/** The proxy nearest to us appended last; what comes before is what it was told. */
function lastEntry(header: string): string {
  return header.slice(header.lastIndexOf(',') + 1).trim();
}

function refuse(response: HttpResponse, status: string, text: string): void {
  response.writeStatus(status).writeHeader('content-type', 'text/plain').end(text, true);
}

function newApp(tls: TlsFiles | undefined): TemplatedApp {
  if (tls === undefined) return uWS.App();
  return uWS.SSLApp({
    key_file_name: tls.keyFile,
    cert_file_name: tls.certificateFile,
    ...(tls.passphrase === undefined ? {} : { passphrase: tls.passphrase }),
  });
}

/**
 * Accepts WebSocket connections in this thread. Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED or
 * SHOAL_TLS_CERTIFICATE.
 */
export async function listenWs(options: WsListenOptions, accept: Accept): Promise<Listener> {
  if (options.tls !== undefined) await checkTlsFiles(options.tls);
  const listener = new WsListener(options, accept);
  await listener.listen();
  return listener;
}
