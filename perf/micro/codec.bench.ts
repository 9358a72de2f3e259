import Benchmark from 'benchmark';
import { generate, type Packet, parser } from 'mqtt-packet';
import { Decoder, type PacketSink } from '../../src/mqtt/codec/decoder.js';
import { encodeAck } from '../../src/mqtt/codec/encoder.js';
import { PUBACK } from '../../src/mqtt/codec/packet.js';
import { OutgoingPublish, publishLength, writePublish } from '../../src/mqtt/codec/publish-encoder.js';
import type { PublishView } from '../../src/mqtt/codec/publish-view.js';

const CHUNK_BYTES = 65_536;
const TOPIC = 'site/17/m/temp';

/** Reads of each PUBLISH what a session reads at the least. */
class CountingSink implements PacketSink {
  readonly stopped: boolean = false;
  count = 0;
  bytes = 0;

  onPublish(view: PublishView): void {
    this.count++;
    this.bytes += view.payloadEnd - view.payloadStart + view.topicEnd - view.topicStart + view.packetId;
  }

  onAck(_type: number, packetId: number): void {
    this.count++;
    this.bytes += packetId;
  }

  onPingreq(): void {
    this.count++;
  }

  onPacket(): void {
    this.count++;
  }

  onViolation(): void {
    throw new Error('the benchmark is wrong');
  }
}

function filled(packet: Packet, protocolVersion: number): { chunk: Buffer; count: number } {
  const bytes = generate(packet, { protocolVersion });
  const count = Math.floor(CHUNK_BYTES / bytes.length);
  return { chunk: Buffer.concat(Array.from({ length: count }, () => bytes)), count };
}

function publish(qos: 0 | 1, properties?: object): Packet {
  const payload = Buffer.alloc(62, 'x');
  return {
    cmd: 'publish',
    topic: TOPIC,
    payload,
    qos,
    messageId: 7,
    dup: false,
    retain: false,
    properties,
  } as Packet;
}

function addDecode(suite: Benchmark.Suite, name: string, version: 4 | 5, packet: Packet): void {
  const decoder = new Decoder({ packetBytesMax: 1 << 20, connectBytesMax: 1 << 20 });
  const sink = new CountingSink();
  const connect = {
    cmd: 'connect',
    protocolVersion: version,
    clientId: 'c',
    clean: true,
    keepalive: 0,
  } as Packet;
  decoder.receive(generate(connect, { protocolVersion: version }), sink);
  const { chunk, count } = filled(packet, version);
  suite.add(`${name}, 64 KiB of ${count}`, () => decoder.receive(chunk, sink));
}

/**
 * Decoding of whole chunks and writing of single packets. A run of decoding is a chunk: nanoseconds a packet are
 * 1e9 / (hz × count in its name). Goal: under 60 for an 80-byte PUBLISH.
 */
export function suite(): Benchmark.Suite {
  const benchmarks = new Benchmark.Suite('MQTT codec');
  const user = { userProperties: { trace: 'abcdef' } };
  addDecode(benchmarks, 'decode PUBLISH of 80 bytes, 3.1.1, QoS 0', 4, publish(0));
  addDecode(benchmarks, 'decode PUBLISH of 82 bytes, 3.1.1, QoS 1', 4, publish(1));
  addDecode(benchmarks, 'decode PUBLISH of 81 bytes, 5, QoS 0', 5, publish(0));
  addDecode(benchmarks, 'decode PUBLISH with user property, 5, QoS 1', 5, publish(1, user));
  addDecode(benchmarks, 'decode PUBACK', 4, { cmd: 'puback', messageId: 9 });

  const oracle = parser({ protocolVersion: 4 });
  let seen = 0;
  oracle.on('packet', () => seen++);
  const { chunk, count } = filled(publish(0), 4);
  benchmarks.add(`mqtt-packet: PUBLISH of 80 bytes, 64 KiB of ${count}`, () => oracle.parse(chunk));

  const into = Buffer.alloc(4096);
  benchmarks.add('encode PUBACK', () => encodeAck(PUBACK, 9, 0, 4, into, 0));
  for (const payloadBytes of [40, 62, 1024]) {
    for (const version of [4, 5] as const) {
      const outgoing = new OutgoingPublish();
      outgoing.version = version;
      outgoing.topic = Buffer.from(TOPIC);
      outgoing.topicEnd = TOPIC.length;
      outgoing.payload = Buffer.alloc(payloadBytes, 'x');
      outgoing.payloadEnd = payloadBytes;
      benchmarks.add(`encode PUBLISH of ${payloadBytes} bytes of payload, ${version}`, () => {
        if (publishLength(outgoing) <= into.length) writePublish(outgoing, into, 0);
      });
    }
  }
  return benchmarks;
}
