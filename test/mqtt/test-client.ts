import { expect } from 'vitest';
import { describePacket, matches } from '../e2e/client/match.js';
import type { AnyPacket, FakePeer, Version } from './fake-peer.js';
import type { Broker } from './harness.js';

export interface ConnectOptions {
  readonly shard?: number;
  readonly version?: Version;
  readonly clientId?: string;
  readonly clean?: boolean;
  readonly keepalive?: number;
  /** Session Expiry Interval in seconds (MQTT 5). */
  readonly expiry?: number | undefined;
  readonly will?: object;
  readonly properties?: object;
  readonly username?: string;
}

export interface PublishOptions {
  readonly qos?: 0 | 1 | 2;
  readonly id?: number;
  readonly retain?: boolean;
  readonly dup?: boolean;
  readonly properties?: object;
}

export interface SubscribeOptions {
  readonly qos?: 0 | 1 | 2;
  readonly nl?: boolean;
  readonly rap?: boolean;
  readonly rh?: number;
  readonly id?: number;
}

/** The client's side of a {@link FakePeer}: it acknowledges nothing by itself. */
export class TestClient {
  readonly peer: FakePeer;
  readonly shard: number;
  readonly broker: Broker;
  clientId = '';
  connack: AnyPacket = undefined;
  private nextId = 0;

  constructor(broker: Broker, peer: FakePeer, shard: number) {
    this.broker = broker;
    this.peer = peer;
    this.shard = shard;
  }

  get closed(): boolean {
    return this.peer.closed;
  }

  /** Sends; the broker works only when it is pumped. */
  send(packet: AnyPacket): void {
    this.peer.sendPacket(packet);
  }

  sendConnect(options: ConnectOptions): void {
    const {
      version = 5,
      clientId = '',
      clean = true,
      keepalive = 0,
      expiry,
      will,
      properties,
      username,
    } = options;
    this.peer.version = version;
    this.clientId = clientId;
    this.send({
      cmd: 'connect',
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
      protocolVersion: version,
      clientId,
      clean,
      keepalive,
      username,
      will,
      properties: version === 5 ? { sessionExpiryInterval: expiry, ...properties } : undefined,
    });
  }

  sendPublish(topic: string, payload: string | Buffer, options: PublishOptions = {}): number {
    const { qos = 0, retain = false, dup = false, properties } = options;
    const messageId = qos === 0 ? undefined : (options.id ?? this.id());
    this.send({ cmd: 'publish', topic, payload, qos, retain, dup, messageId, properties });
    return messageId ?? 0;
  }

  sendSubscribe(filters: string | readonly string[], options: SubscribeOptions = {}): number {
    const { qos = 0, nl = false, rap = false, rh = 0, id } = options;
    const messageId = this.id();
    const topics = typeof filters === 'string' ? [filters] : filters;
    const properties = id === undefined ? undefined : { subscriptionIdentifier: id };
    const isV5 = this.peer.version === 5;
    const subscriptions = topics.map(topic => (isV5 ? { topic, qos, nl, rap, rh } : { topic, qos }));
    this.send({ cmd: 'subscribe', messageId, subscriptions, properties });
    return messageId;
  }

  sendUnsubscribe(...unsubscriptions: string[]): number {
    const messageId = this.id();
    this.send({ cmd: 'unsubscribe', messageId, unsubscriptions });
    return messageId;
  }

  id(): number {
    this.nextId = (this.nextId % 65_535) + 1;
    return this.nextId;
  }

  // -- and wait for what has to come ---------------------------------------------------------------------------

  subscribe(filters: string | readonly string[], options: SubscribeOptions = {}): number[] {
    const messageId = this.sendSubscribe(filters, options);
    this.broker.pump();
    return this.take('suback', { messageId }).granted.map((each: AnyPacket) => Number(each));
  }

  unsubscribe(...filters: string[]): AnyPacket {
    const messageId = this.sendUnsubscribe(...filters);
    this.broker.pump();
    return this.take('unsuback', { messageId });
  }

  /** Publishes, and completes the hand-shake of its QoS. */
  publish(topic: string, payload: string | Buffer, options: PublishOptions = {}): AnyPacket {
    const messageId = this.sendPublish(topic, payload, options);
    this.broker.pump();
    if (options.qos === 1) return this.take('puback', { messageId });
    if (options.qos !== 2) return undefined;
    const pubrec = this.take('pubrec', { messageId });
    this.send({ cmd: 'pubrel', messageId });
    this.broker.pump();
    this.take('pubcomp', { messageId });
    return pubrec;
  }

  disconnect(packet: object = {}): void {
    this.send({ cmd: 'disconnect', ...packet });
    this.broker.pump();
  }

  cut(): void {
    this.peer.cut();
    this.broker.pump();
  }

  // -- what came -----------------------------------------------------------------------------------------------

  /** Takes the first packet of a kind; fails when there is none, or when it is not as wanted. */
  take(cmd: string, want: object = {}): AnyPacket {
    const { packets } = this.peer;
    const at = packets.findIndex(packet => packet.cmd === cmd);
    const found = packets[at];
    if (found === undefined || !matches(found, want)) {
      expect.fail(
        `${this.clientId} wants ${cmd} ${JSON.stringify(want)} and has:\n${packets.map(describePacket).join('\n')}`,
      );
    }
    packets.splice(at, 1);
    return found;
  }

  /** Takes all messages that came and are not taken yet. */
  messages(): AnyPacket[] {
    const found = this.peer.packets.filter(packet => packet.cmd === 'publish');
    for (const packet of found) this.peer.packets.splice(this.peer.packets.indexOf(packet), 1);
    return found;
  }

  /** As {@link messages}, the payloads only. */
  payloads(): string[] {
    return this.messages().map(({ payload }) => String(payload));
  }

  /** Takes all messages and acknowledges them, as far as the broker goes on sending; payloads in order. */
  receive(): string[] {
    const received: string[] = [];
    for (;;) {
      const { packets } = this.peer;
      if (packets.length === 0) return received;
      for (const packet of packets.splice(0)) {
        const { cmd, messageId } = packet;
        if (cmd === 'pubrel') this.send({ cmd: 'pubcomp', messageId });
        else if (cmd === 'publish') {
          received.push(String(packet.payload));
          if (packet.qos > 0) this.send({ cmd: packet.qos === 1 ? 'puback' : 'pubrec', messageId });
        } else expect.fail(`${this.clientId} did not expect ${describePacket(packet)}`);
      }
      this.broker.pump();
    }
  }

  /** Nothing is left that a test has not looked at. */
  expectNothing(): void {
    expect(this.peer.packets.map(describePacket), `packets of ${this.clientId}`).toEqual([]);
  }
}
