import { ByteWriter } from '../base/bytes.js';
import {
  BYTES_RECEIVED,
  BYTES_SENT,
  CONNECTIONS,
  type CounterBlock,
  DELIVERIES,
  DROP_REASONS,
  DROPS,
  PACKETS_RECEIVED,
  PACKETS_SENT,
  PUBLISHES,
  RETAINED,
  SESSIONS,
  SUBSCRIPTIONS,
  total,
} from '../base/metrics.js';
import { OP } from '../contract/contract.js';
import { Message, writeMessage } from '../contract/message.js';
import { DEFAULT_TENANT } from '../plugin/plugin.js';

const PACKET_TYPES = 16;
const QOS_LEVELS = 3;

/**
 * `$SYS/broker/…`: what the node is doing, as retained messages with the names that brokers have used since
 * mosquitto. They are published in the default tenant.
 */
export class SysTopics {
  private readonly writer = new ByteWriter(256);
  private readonly message = new Message();
  private readonly startedMs: number;
  private readonly version: string;
  private connectedMost = 0;

  constructor(version: string, nowMs: number) {
    this.version = version;
    this.startedMs = nowMs;
  }

  /** Hands one frame per topic to `send`; the bytes are valid during the call. */
  publish(
    blocks: readonly CounterBlock[],
    nowMs: number,
    send: (bytes: Uint8Array, end: number) => void,
  ): void {
    for (const [topic, value] of this.values(blocks, nowMs)) {
      const { message, writer } = this;
      message.qos = 0;
      message.retain = true;
      message.publishedAtMs = nowMs;
      message.topic = Buffer.from(`$SYS/broker/${topic}`);
      message.payload = Buffer.from(String(value));
      writer.reset().u8(OP.SHARD_ANNOUNCE).u32(0).text(DEFAULT_TENANT);
      writeMessage(writer, message);
      send(writer.bytes, writer.length);
    }
  }

  private values(blocks: readonly CounterBlock[], nowMs: number): [string, string | number][] {
    const connected = total(blocks, CONNECTIONS, 4);
    this.connectedMost = Math.max(this.connectedMost, connected);
    const memory = process.memoryUsage();
    return [
      ['version', `ShoalMQ ${this.version}`],
      ['uptime', `${Math.floor((nowMs - this.startedMs) / 1000)} seconds`],
      ['clients/connected', connected],
      ['clients/maximum', this.connectedMost],
      ['sessions/persistent', total(blocks, SESSIONS + 1)],
      ['subscriptions/count', total(blocks, SUBSCRIPTIONS)],
      ['retained messages/count', total(blocks, RETAINED)],
      ['messages/received', total(blocks, PACKETS_RECEIVED, PACKET_TYPES)],
      ['messages/sent', total(blocks, PACKETS_SENT, PACKET_TYPES)],
      ['publish/messages/received', total(blocks, PUBLISHES, QOS_LEVELS)],
      ['publish/messages/sent', total(blocks, DELIVERIES, QOS_LEVELS)],
      ['publish/messages/dropped', total(blocks, DROPS, DROP_REASONS)],
      ['bytes/received', total(blocks, BYTES_RECEIVED, PACKET_TYPES)],
      ['bytes/sent', total(blocks, BYTES_SENT, PACKET_TYPES)],
      ['heap/current', memory.heapUsed],
      ['memory/resident', memory.rss],
    ];
  }
}
