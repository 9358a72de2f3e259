/**
 * A raw MQTT client for tests. It does nothing by itself: no keep-alive, no acknowledgement, no reconnect. A
 * test says what is sent and what has to come. Packets that came are kept by kind until `expect` takes them,
 * so an acknowledgement and a delivery may overtake each other, while order within a kind is checked.
 * Every failure message carries the whole conversation.
 */
import {
  generate,
  type IConnackPacket,
  type IConnectPacket,
  type IPublishPacket,
  type ISubscription,
  type Packet,
  type PacketCmd,
  parser,
  type QoS,
} from 'mqtt-packet';
import { describePacket, matches } from './match.js';
import { openWire, type Target, type Transport, type Wire, type WireOptions } from './wire.js';

export type Version = 3 | 4 | 5;
export const VERSIONS: readonly Version[] = [3, 4, 5];
export const VERSION_NAMES: Readonly<Record<Version, string>> = {
  3: 'MQTT 3.1',
  4: 'MQTT 3.1.1',
  5: 'MQTT 5',
};

export type Received = Packet & { readonly raw: Buffer };
export type Want = Record<string, unknown>;
export type Properties = NonNullable<IConnectPacket['properties']>;
export type PublishProperties = NonNullable<IPublishPacket['properties']>;

export interface OpenOptions extends WireOptions {
  readonly transport?: Transport;
  readonly version?: Version;
}

export interface ConnectOptions extends OpenOptions {
  readonly clientId?: string;
  /** Clean Session (3.x) or Clean Start (5); true by default. */
  readonly clean?: boolean;
  readonly keepalive?: number;
  /** Session Expiry Interval in seconds (MQTT 5). */
  readonly expiry?: number;
  readonly will?: NonNullable<IConnectPacket['will']>;
  readonly username?: string;
  readonly password?: string;
  readonly properties?: Properties;
}

export interface PublishOptions {
  readonly qos?: QoS;
  readonly retain?: boolean;
  readonly dup?: boolean;
  readonly messageId?: number;
  readonly properties?: PublishProperties;
}

export interface SubscribeOptions {
  readonly qos?: QoS;
  readonly nl?: boolean;
  readonly rap?: boolean;
  readonly rh?: number;
  /** Subscription Identifier (MQTT 5). */
  readonly id?: number;
}

const WAIT_MS = Number(process.env.E2E_WAIT_MS ?? 5000);
const QUIET_MS = 150;

const living = new Set<TestClient>();
let counter = 0;

/** A client identifier or topic part that no other test uses. */
export function unique(prefix: string): string {
  return `${prefix}${process.pid}x${++counter}`;
}

export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

/** Cuts whatever connections tests have left open. */
export function cutAllClients(): void {
  for (const client of living) client.drop();
  living.clear();
}

/** One MQTT packet off the front of `bytes`, or undefined while it is incomplete. */
function takePacket(bytes: Buffer): { packet: Buffer; rest: Buffer } | undefined {
  let size = 0;
  for (let index = 1; index <= 4 && index < bytes.length; index++) {
    size += (bytes[index]! & 0x7f) * 128 ** (index - 1);
    if (bytes[index]! < 0x80) {
      const end = index + 1 + size;
      if (bytes.length < end) return undefined;
      return { packet: bytes.subarray(0, end), rest: bytes.subarray(end) };
    }
  }
  if (bytes.length > 5) throw new Error(`remaining length without an end: ${bytes.toString('hex', 0, 8)}`);
  return undefined;
}

export class TestClient {
  readonly wire: Wire;
  readonly version: Version;
  clientId = '';
  connack!: IConnackPacket;
  /** Why the connection ended; undefined while it is open. */
  closed: string | undefined;
  /** Packets that came and that no `expect` has taken yet. */
  readonly unread: Received[] = [];
  /** Takes packets as they come, instead of `unread`; for clients that run by themselves. */
  handler: ((packet: Received) => void) | undefined;
  private readonly log: string[] = [];
  private pending: Buffer = Buffer.alloc(0);
  private fault: string | undefined;
  private wakers: (() => void)[] = [];
  private lastId = 0;

  constructor(wire: Wire, version: Version, paused: boolean) {
    this.wire = wire;
    this.version = version;
    wire.onData = bytes => this.take(bytes);
    wire.onClose = reason => {
      this.closed = reason;
      living.delete(this);
      this.note(`closed (${reason})`);
      this.wake();
    };
    living.add(this);
    if (!paused) wire.resume();
  }

  private wake(): void {
    const wakers = this.wakers;
    this.wakers = [];
    for (const waker of wakers) waker();
  }

  private note(line: string): void {
    if (this.log.length === 200) this.log.shift();
    this.log.push(line);
  }

  private take(bytes: Buffer): void {
    this.pending = this.pending.length === 0 ? bytes : Buffer.concat([this.pending, bytes]);
    try {
      for (let next = takePacket(this.pending); next !== undefined; next = takePacket(this.pending)) {
        this.pending = next.rest;
        const packet = this.parse(next.packet);
        if (this.handler !== undefined) this.handler(packet);
        else {
          this.note(`<- ${describePacket(packet)}`);
          this.unread.push(packet);
        }
      }
    } catch (error) {
      this.fault ??= `the broker sent what is not MQTT: ${String(error)}`;
      this.note(this.fault);
    }
    this.wake();
  }

  private parse(raw: Buffer): Received {
    const reader = parser({ protocolVersion: this.version });
    let packet: Packet | undefined;
    reader.on('packet', parsed => {
      packet = parsed;
    });
    reader.on('error', error => {
      throw new Error(`${error.message}: ${raw.toString('hex')}`);
    });
    reader.parse(raw);
    if (packet === undefined) throw new Error(`cannot be parsed: ${raw.toString('hex')}`);
    return Object.assign(packet, { raw });
  }

  private failure(text: string): Error {
    const shown = this.log.slice(-30).map(line => `    ${line}`);
    const error = new Error(`${this.clientId || 'client'}: ${text}\n${shown.join('\n')}`);
    return error;
  }

  /** Waits until `ready` yields something; undefined at the time-out. */
  private async until<T>(ready: () => T | undefined, timeoutMs: number): Promise<T | undefined> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const result = ready();
      if (result !== undefined) return result;
      const left = deadline - Date.now();
      if (left <= 0) return undefined;
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left);
        this.wakers.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  // What the client sends.

  /** The wire form of a packet in this client's protocol version. */
  encode(packet: Packet): Buffer {
    return generate(packet, { protocolVersion: this.version });
  }

  send(packet: Packet): void {
    if (this.handler === undefined) this.note(`-> ${describePacket(packet)}`);
    this.wire.write(this.encode(packet));
  }

  sendBytes(bytes: Uint8Array): void {
    this.note(`-> 0x${Buffer.from(bytes).toString('hex', 0, 40)} (${bytes.length} bytes)`);
    this.wire.write(bytes);
  }

  /** Each piece as a segment or frame of its own, with a pause so that they arrive as such. */
  async sendPieces(pieces: Uint8Array[], pauseMs = 2): Promise<void> {
    for (const piece of pieces) {
      this.sendBytes(piece);
      await sleep(pauseMs);
    }
  }

  sendConnect(options: ConnectOptions = {}): void {
    this.clientId = options.clientId ?? unique('c');
    const packet: IConnectPacket = {
      cmd: 'connect',
      protocolId: this.version === 3 ? 'MQIsdp' : 'MQTT',
      protocolVersion: this.version,
      clientId: this.clientId,
      clean: options.clean ?? true,
      keepalive: options.keepalive ?? 0,
    };
    if (options.will !== undefined) packet.will = options.will;
    if (options.username !== undefined) packet.username = options.username;
    if (options.password !== undefined) packet.password = Buffer.from(options.password);
    if (this.version === 5) {
      packet.properties = { ...options.properties };
      if (options.expiry !== undefined) packet.properties.sessionExpiryInterval = options.expiry;
    }
    this.send(packet);
  }

  nextId(): number {
    this.lastId = (this.lastId % 65_535) + 1;
    return this.lastId;
  }

  /** Sends a PUBLISH and nothing more; yields its packet identifier. */
  post(topic: string, payload: string | Buffer, options: PublishOptions = {}): number {
    const qos = options.qos ?? 0;
    const packet: IPublishPacket = {
      cmd: 'publish',
      topic,
      payload,
      qos,
      retain: options.retain ?? false,
      dup: options.dup ?? false,
    };
    if (qos > 0) packet.messageId = options.messageId ?? this.nextId();
    if (options.properties !== undefined) packet.properties = options.properties;
    this.send(packet);
    return packet.messageId ?? 0;
  }

  /** Publishes and goes through the whole acknowledgement; yields the last reason code (0 at QoS 0). */
  async publish(topic: string, payload: string | Buffer, options: PublishOptions = {}): Promise<number> {
    const messageId = this.post(topic, payload, options);
    if ((options.qos ?? 0) === 0) return 0;
    if (options.qos === 1) return reasonOf(await this.expect('puback', { messageId }));
    const received = reasonOf(await this.expect('pubrec', { messageId }));
    if (received >= 0x80) return received;
    this.send({ cmd: 'pubrel', messageId });
    return reasonOf(await this.expect('pubcomp', { messageId }));
  }

  /** Completes `count` outgoing QoS 2 exchanges, whichever they are, in the order of their PUBREC. */
  async release(count: number): Promise<void> {
    for (let done = 0; done < count; done++) {
      const { messageId } = await this.expect('pubrec');
      this.send({ cmd: 'pubrel', messageId: messageId! });
    }
    for (let done = 0; done < count; done++) await this.expect('pubcomp');
  }

  /** Subscribes with the same options to every filter; yields the codes of the SUBACK. */
  async subscribe(filters: string | string[], options: SubscribeOptions = {}): Promise<number[]> {
    const { qos = 0, nl = false, rap = false, rh = 0 } = options;
    const list = typeof filters === 'string' ? [filters] : filters;
    const packet = {
      cmd: 'subscribe' as const,
      messageId: this.nextId(),
      subscriptions: list.map((topic): ISubscription => ({ topic, qos, nl, rap, rh })),
    };
    this.send(
      options.id === undefined ? packet : { ...packet, properties: { subscriptionIdentifier: options.id } },
    );
    const suback = await this.expect('suback', { messageId: packet.messageId });
    return (suback as unknown as { granted: number[] }).granted;
  }

  /** Unsubscribes; yields the codes of the UNSUBACK (none before MQTT 5). */
  async unsubscribe(filters: string | string[]): Promise<number[]> {
    const unsubscriptions = typeof filters === 'string' ? [filters] : filters;
    const messageId = this.nextId();
    this.send({ cmd: 'unsubscribe', messageId, unsubscriptions });
    const unsuback = await this.expect('unsuback', { messageId });
    return (unsuback as unknown as { granted?: number[] }).granted ?? [];
  }

  /** Says goodbye and waits for the end of the connection. */
  async disconnect(reasonCode = 0, properties?: { sessionExpiryInterval?: number }): Promise<void> {
    this.send(
      properties === undefined
        ? { cmd: 'disconnect', reasonCode }
        : { cmd: 'disconnect', reasonCode, properties },
    );
    await this.ended();
  }

  /** Cuts the cable: the broker sees a connection that fails. */
  drop(): void {
    living.delete(this);
    this.wire.destroy();
  }

  // What has to come.

  /**
   * The first packet of kind `cmd` that no one has taken yet. Fails at the time-out, when the connection ends
   * before, or when that packet is not as `want` says.
   */
  async expect<C extends PacketCmd>(
    cmd: C,
    want: Want = {},
    timeoutMs = WAIT_MS,
  ): Promise<Extract<Packet, { cmd: C }> & { raw: Buffer }> {
    const find = () => this.unread.find(packet => packet.cmd === cmd);
    const found = await this.until(() => find() ?? (this.closed || this.fault ? null : undefined), timeoutMs);
    const wanted = describePacket({ cmd, ...want });
    if (found === null || found === undefined) {
      const why = this.fault ?? (this.closed ? 'but the connection ended' : `but not within ${timeoutMs} ms`);
      throw this.failure(`expected ${wanted}, ${why}. So far:`);
    }
    this.unread.splice(this.unread.indexOf(found), 1);
    if (!matches(found, want)) {
      throw this.failure(`expected ${wanted}\n  but got  ${describePacket(found)}. So far:`);
    }
    return found as never;
  }

  /** The next PUBLISH, acknowledged to the end as its QoS demands. */
  async receive(want: Want = {}, timeoutMs = WAIT_MS): Promise<IPublishPacket & { raw: Buffer }> {
    const packet = await this.expect('publish', want, timeoutMs);
    await this.acknowledge(packet);
    return packet;
  }

  async acknowledge(packet: IPublishPacket): Promise<void> {
    const messageId = packet.messageId!;
    if (packet.qos === 1) this.send({ cmd: 'puback', messageId });
    if (packet.qos !== 2) return;
    this.send({ cmd: 'pubrec', messageId });
    await this.expect('pubrel', { messageId });
    this.send({ cmd: 'pubcomp', messageId });
  }

  /** The payloads of the next `count` messages, acknowledged. */
  async receiveTexts(count: number, timeoutMs = WAIT_MS): Promise<string[]> {
    const texts: string[] = [];
    while (texts.length < count) texts.push((await this.receive({}, timeoutMs)).payload.toString());
    return texts;
  }

  /** A PINGREQ answered: whatever this client sent before has been read by the broker. */
  async ping(): Promise<void> {
    this.send({ cmd: 'pingreq' });
    await this.expect('pingresp');
  }

  /** Nothing unread, nothing within `ms`, and the connection stays. */
  async expectNothing(ms = QUIET_MS): Promise<void> {
    await this.until(() => (this.unread.length > 0 || this.closed || this.fault ? true : undefined), ms);
    if (this.unread.length > 0) throw this.failure('expected nothing, but something came:');
    if (this.closed !== undefined || this.fault !== undefined) {
      throw this.failure('expected nothing, but the connection ended:');
    }
  }

  /** Waits for the end of the connection, whatever came before. */
  async ended(timeoutMs = WAIT_MS): Promise<void> {
    if ((await this.until(() => this.closed, timeoutMs)) === undefined) {
      throw this.failure(`expected the connection to be closed, but not within ${timeoutMs} ms. So far:`);
    }
  }

  /** The broker ends the connection and says nothing more before. */
  async expectClosed(timeoutMs = WAIT_MS): Promise<void> {
    await this.ended(timeoutMs);
    if (this.fault !== undefined || this.unread.length > 0) {
      throw this.failure('expected the connection to be closed without further packets. So far:');
    }
  }

  /** The broker ends the connection: with DISCONNECT and this reason in MQTT 5, wordlessly before. */
  async expectRefused(reasonCode: number | number[], timeoutMs = WAIT_MS): Promise<void> {
    if (this.version === 5) {
      const packet = await this.expect('disconnect', {}, timeoutMs);
      const allowed = typeof reasonCode === 'number' ? [reasonCode] : reasonCode;
      if (!allowed.includes(packet.reasonCode ?? 0)) {
        const names = allowed.map(code => `0x${code.toString(16)}`).join(' or ');
        throw this.failure(`expected DISCONNECT with ${names}. So far:`);
      }
    }
    await this.expectClosed(timeoutMs);
  }
}

function reasonOf(packet: { reasonCode?: number }): number {
  return packet.reasonCode ?? 0;
}

/** Opens the wire; no packet is sent. */
export async function open(target: Target, options: OpenOptions = {}): Promise<TestClient> {
  const wire = await openWire(target, options.transport ?? 'tcp', options);
  return new TestClient(wire, options.version ?? 4, options.paused ?? false);
}

/** Opens, sends CONNECT and waits for the CONNACK, whatever it says. */
export async function attempt(target: Target, options: ConnectOptions = {}): Promise<TestClient> {
  const client = await open(target, options);
  client.sendConnect(options);
  client.connack = await client.expect('connack');
  return client;
}

/** Opens, connects, and demands success. */
export async function connect(target: Target, options: ConnectOptions = {}): Promise<TestClient> {
  const client = await attempt(target, options);
  const code = connackCode(client);
  if (code !== 0) throw new Error(`CONNECT refused with 0x${code.toString(16)}`);
  return client;
}

/** Return code (3.x) or reason code (5) of the CONNACK. */
export function connackCode(client: TestClient): number {
  return (client.version === 5 ? client.connack.reasonCode : client.connack.returnCode) ?? 0;
}
