/**
 * The underlay's packets: FlatBuffers and the seal, for a probe and for a datagram full of rumours. The simulator
 * writes and reads millions of them; a host in the steady state a handful a second.
 */
import Benchmark from 'benchmark';
import { decodePacket, encodePacket } from '../../src/underlay/codec.js';
import { Seal } from '../../src/underlay/io/seal.js';
import type { Message, Packet } from '../../src/underlay/message.js';

const NOW_MS = 1_800_000_000_000;

function packetOf(messages: readonly Message[]): Packet {
  return {
    environment: 0x1234_5678,
    from: 2 ** 52 + 1,
    incarnation: 3,
    hlc: 2 ** 52,
    wallMs: NOW_MS,
    messages,
  };
}

const ping: Message = { kind: 'ping', sequence: 77, target: 2 ** 51 + 1, suspected: -1 };

const rumours = Array.from({ length: 12 }, (_, at): Message => {
  const address = `10.0.0.${at}:4800`;
  const agents = ['dist', 'inbox'];
  const host = { id: 2 ** 51 + at, incarnation: 1, name: `node-${at}`, address, version: '0.2.0' };
  return { kind: 'alive', record: { ...host, startedMs: NOW_MS, agents } };
});

export function suite(): Benchmark.Suite {
  const packets = { ping: packetOf([ping]), 'ping and 12 rumours': packetOf([ping, ...rumours]) };
  const benchmarks = new Benchmark.Suite();
  for (const [name, packet] of Object.entries(packets)) {
    const bytes = encodePacket(packet);
    benchmarks.add(`write ${name} (${bytes.length} B)`, () => encodePacket(packet));
    benchmarks.add(`read ${name}`, () => decodePacket(bytes));
  }
  const key = Buffer.alloc(32, 7).toString('base64');
  const [sender, receiver] = [new Seal([key]), new Seal([key])];
  const bytes = encodePacket(packets.ping);
  benchmarks.add('seal ping', () => sender.seal(bytes, 'datagram', NOW_MS));
  benchmarks.add('seal and open ping', () => receiver.open(sender.seal(bytes, 'stream', NOW_MS), NOW_MS));
  const forged = sender.seal(bytes, 'datagram', NOW_MS);
  forged[forged.length - 1]! ^= 1;
  benchmarks.add('refuse a forged ping', () => receiver.open(forged, NOW_MS));
  return benchmarks;
}
