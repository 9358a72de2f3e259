/**
 * Clients that go on by themselves through crashes of the broker and remember what they are owed: publishers
 * resend what is not acknowledged, subscribers keep the packet-identifier state of a session, as the
 * specification demands of clients, so that whatever is missing, doubled or out of order is the broker's.
 */
import type { IPublishPacket, QoS } from 'mqtt-packet';
import { connect, type Received, sleep, type TestClient } from './client/client.js';
import type { Target } from './client/wire.js';

const WINDOW = 16;
const EXPIRY_SECONDS = 3600;

interface Pending {
  readonly index: number;
  released: boolean;
}

export class Publisher {
  readonly name: string;
  readonly qos: QoS;
  readonly retain: boolean;
  /** Messages sent at least once: 0 to `sent - 1`. */
  sent = 0;
  /** Highest index acknowledged (PUBACK, or PUBREC at QoS 2); -1 for none. */
  acknowledged = -1;
  readonly faults: string[] = [];
  private readonly pending = new Map<number, Pending>();
  private client: TestClient | undefined;
  private lastId = 0;
  private running = false;

  constructor(name: string, qos: QoS, retain = false) {
    this.name = name;
    this.qos = qos;
    this.retain = retain;
  }

  get topic(): string {
    return `crash/${this.retain ? 'kept' : 'flow'}/${this.name}`;
  }

  /** What is not acknowledged yet, for messages. */
  get owed(): string {
    const parts = [...this.pending].map(
      ([id, { index, released }]) => `${released ? 'PUBREL' : 'PUBLISH'} ${index} (${id})`,
    );
    return `${this.name}, ${this.client?.closed ?? 'connected'}: ${parts.join(', ')}`;
  }

  get isIdle(): boolean {
    return this.pending.size === 0;
  }

  async connect(target: Target): Promise<void> {
    const first = this.sent === 0;
    const client = await connect(target, {
      version: 5,
      clientId: this.name,
      clean: false,
      expiry: EXPIRY_SECONDS,
    });
    if (!first && !client.connack.sessionPresent) this.faults.push(`${this.name}: session lost`);
    client.handler = packet => this.take(packet);
    this.client = client;
    for (const [messageId, { index, released }] of this.pending) {
      if (released) client.send({ cmd: 'pubrel', messageId });
      else this.post(messageId, index, true);
    }
  }

  /** Publishes from now on, keeping a window of unacknowledged messages full. */
  run(): void {
    this.running = true;
    this.fill();
  }

  pause(): void {
    this.running = false;
  }

  private fill(): void {
    while (this.running && this.pending.size < WINDOW) {
      do this.lastId = (this.lastId % 65_535) + 1;
      while (this.pending.has(this.lastId));
      const index = this.sent++;
      this.pending.set(this.lastId, { index, released: false });
      this.post(this.lastId, index, false);
    }
  }

  private post(messageId: number, index: number, dup: boolean): void {
    const payload = `${this.name} ${index} ${'.'.repeat(index % 97)}`;
    this.client!.post(this.topic, payload, { qos: this.qos, messageId, dup, retain: this.retain });
  }

  private take(packet: Received): void {
    if (packet.cmd !== 'puback' && packet.cmd !== 'pubrec' && packet.cmd !== 'pubcomp') return;
    const messageId = packet.messageId!;
    const pending = this.pending.get(messageId);
    const code = packet.reasonCode ?? 0;
    if (pending === undefined) return;
    if (code >= 0x80 && packet.cmd !== 'pubcomp') {
      this.faults.push(`${this.name}: ${packet.cmd} of ${pending.index} says 0x${code.toString(16)}`);
    }
    this.acknowledged = Math.max(this.acknowledged, pending.index);
    if (packet.cmd === 'pubrec') {
      pending.released = true;
      this.client!.send({ cmd: 'pubrel', messageId });
      return;
    }
    this.pending.delete(messageId);
    this.fill();
  }
}

export class Subscriber {
  readonly name: string;
  readonly filter: string;
  readonly faults: string[] = [];
  isOnline = false;
  /** Per publisher, the indexes in the order of their first arrival. */
  readonly arrived = new Map<string, number[]>();
  private readonly highest = new Map<string, number>();
  /** QoS 2 packet identifiers between PUBLISH and PUBREL, with what they stand for. */
  private readonly held = new Map<number, string>();
  private client: TestClient | undefined;
  private isNew = true;

  constructor(name: string, filter: string) {
    this.name = name;
    this.filter = filter;
  }

  async connect(target: Target): Promise<void> {
    const client = await connect(target, {
      version: 5,
      clientId: this.name,
      clean: false,
      expiry: EXPIRY_SECONDS,
      properties: { receiveMaximum: 50 },
    });
    if (this.isNew) await client.subscribe(this.filter, { qos: 2 });
    else if (!client.connack.sessionPresent) this.faults.push(`${this.name}: session lost`);
    this.isNew = false;
    this.isOnline = true;
    this.client = client;
    for (const packet of client.unread.splice(0)) this.take(packet);
    client.handler = packet => this.take(packet);
  }

  /** The connection is gone, whoever ended it. */
  leave(): void {
    this.isOnline = false;
    this.client?.drop();
  }

  count(publisher: string): number {
    return this.arrived.get(publisher)?.length ?? 0;
  }

  private take(packet: Received): void {
    if (packet.cmd === 'publish') this.takePublish(packet);
    else if (packet.cmd === 'pubrel') {
      this.held.delete(packet.messageId!);
      this.client!.send({ cmd: 'pubcomp', messageId: packet.messageId! });
    }
  }

  private takePublish(packet: IPublishPacket): void {
    const text = packet.payload.toString();
    const messageId = packet.messageId!;
    if (packet.qos === 1) {
      this.record(text, 1);
      this.client!.send({ cmd: 'puback', messageId });
      return;
    }
    const held = this.held.get(messageId);
    if (held === undefined) this.record(text, 2);
    else if (held !== text)
      this.faults.push(`${this.name}: identifier ${messageId} reused: "${held}", "${text}"`);
    this.held.set(messageId, text);
    this.client!.send({ cmd: 'pubrec', messageId });
  }

  private record(text: string, qos: number): void {
    const [publisher, number] = text.split(' ') as [string, string];
    this.note(publisher, Number(number), qos);
  }

  protected note(publisher: string, index: number, qos: number): void {
    const highest = this.highest.get(publisher) ?? -1;
    let list = this.arrived.get(publisher);
    if (list === undefined) this.arrived.set(publisher, (list = []));
    if (index <= highest) {
      if (qos === 2)
        this.faults.push(`${this.name}: "${publisher} ${index}" again or late, after ${highest}`);
      else if (!list.includes(index))
        this.faults.push(`${this.name}: "${publisher} ${index}" after ${highest}`);
      return;
    }
    if (index > highest + 1) {
      this.faults.push(`${this.name}: "${publisher} ${index}" comes right after ${highest}`);
    }
    this.highest.set(publisher, index);
    list.push(index);
  }
}

/** A member of a shared group. What counts is what the group has got; one member alone sees no order without gaps. */
export class Member extends Subscriber {
  private readonly group: Map<string, Set<number>>;

  /** `group`: what its members have got of each publisher. */
  constructor(name: string, filter: string, group: Map<string, Set<number>>) {
    super(name, filter);
    this.group = group;
  }

  protected override note(publisher: string, index: number): void {
    const got = this.group.get(publisher) ?? new Set();
    this.group.set(publisher, got.add(index));
  }
}

/** Waits until `done`; false at the time-out. */
export async function eventually(done: () => boolean, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (!done()) {
    if (Date.now() > deadline) return false;
    await sleep(10);
  }
  return true;
}
