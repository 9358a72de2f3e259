import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodePacket } from '../../../src/underlay/codec.js';
import { Seal } from '../../../src/underlay/io/seal.js';
import { INBOUND_MAX } from '../../../src/underlay/io/stream-server.js';
import { STREAM_PACKET_BYTES_MAX } from '../../../src/underlay/transport.js';
import { LoopbackHost, sees } from './hosts.js';
import { until } from './socket-world.js';

/** What strangers do to the port of a host that has a cluster to keep. */

let a: LoopbackHost;
let b: LoopbackHost;
let sockets: Socket[];

beforeEach(async () => {
  sockets = [];
  a = await LoopbackHost.start();
  b = await LoopbackHost.start({ seeds: [a.address] });
  await until(sees([a, b]));
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await Promise.all([a.driver.close(), b.driver.close()]);
});

function dial(port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {});
  socket.resume();
  sockets.push(socket);
  return socket;
}

function framed(bytes: Uint8Array, length = bytes.length): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(length >>> 0, 0);
  return Buffer.concat([header, bytes]);
}

/** Still one cluster, and nothing said otherwise meanwhile. */
async function isWell(): Promise<void> {
  const before = b.payloads.length;
  a.driver.act(machine =>
    machine.send(b.id, 'stream', { kind: 'payload', channel: 'c', bytes: randomBytes(50_000) }),
  );
  await until(() => b.payloads.length === before + 1 && sees([a, b])());
  expect([...a.events, ...b.events].filter(({ kind }) => kind !== 'joined')).toEqual([]);
}

describe('a host is not disturbed by', () => {
  it('datagrams of random and truncated bytes', async () => {
    const stranger = createSocket('udp4');
    const honest = Buffer.from(
      new Seal([]).seal(
        encodePacket({ environment: 1, from: 5, incarnation: 0, hlc: 1, wallMs: 1, messages: [] }),
        'datagram',
        0,
      ),
    );
    const { counters } = a.driver;
    const before = counters.refusedMalformed + counters.undecodable + counters.refusedKey;
    for (let round = 0; round < 300; round++) {
      stranger.send(randomBytes(round * 4), a.port, '127.0.0.1');
      stranger.send(Buffer.concat([honest.subarray(0, 1), randomBytes(round)]), a.port, '127.0.0.1');
      stranger.send(honest.subarray(0, round % honest.length), a.port, '127.0.0.1');
      if (round % 20 === 0) await sleep(1);
    }
    await until(() => counters.refusedMalformed + counters.undecodable + counters.refusedKey - before > 500);
    stranger.close();
    expect(a.driver.machine.refusals().length).toBeLessThanOrEqual(256);
    await isWell();
  });

  it('a length that is never followed by so many bytes', async () => {
    for (const length of [0xffff_ffff, 0x8000_0000, STREAM_PACKET_BYTES_MAX + 1]) {
      const socket = dial(a.port);
      socket.write(framed(Buffer.alloc(10), length));
      await until(() => socket.destroyed);
    }
    expect(a.driver.stats()!.inboundDropped).toBe(3);
    const patient = dial(a.port);
    patient.write(framed(Buffer.alloc(10), STREAM_PACKET_BYTES_MAX));
    await until(() => a.driver.stats()!.inboundBytesNow > 0);
    expect(a.driver.stats()!.inboundBytesNow).toBe(14);
    await isWell();
  });

  it('frames of garbage, whose stream ends with the first of them', async () => {
    const socket = dial(a.port);
    socket.write(Buffer.concat(Array.from({ length: 100 }, () => framed(randomBytes(50)))));
    await until(() => socket.destroyed);
    expect(a.driver.counters.refusedMalformed + a.driver.counters.undecodable).toBe(1);
    await isWell();
  });

  it('other protocols', async () => {
    for (const words of ['GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01\x02\x00\x01\x00', 'SSH-2.0-x\r\n']) {
      const socket = dial(a.port);
      socket.write(words, 'latin1');
      await until(() => socket.destroyed);
    }
    await isWell();
  });

  it('more connections than it takes, of which the silent ones make room', async () => {
    const before = process.memoryUsage().rss;
    for (let count = 0; count < INBOUND_MAX + 200; count++) {
      dial(a.port);
      if (count % 100 === 99) await until(() => sockets.every(({ connecting }) => !connecting));
    }
    await until(() => a.driver.stats()!.inboundCrowdedOut >= 190);
    expect(a.driver.stats()!.inboundNow).toBeLessThanOrEqual(INBOUND_MAX);
    b.driver.act(machine =>
      machine.send(a.id, 'stream', { kind: 'payload', channel: 'c', bytes: randomBytes(50_000) }),
    );
    await until(() => a.payloads.length === 1);
    await isWell();
    expect(process.memoryUsage().rss - before).toBeLessThan(300_000_000);
  });

  it('bytes that come one by one', async () => {
    const socket = dial(a.port);
    socket.setNoDelay(true);
    const frame = framed(Buffer.alloc(5_000), 400_000);
    for (const byte of frame) socket.write(Buffer.of(byte));
    await until(() => a.driver.stats()!.inboundBytesNow === frame.length);
    socket.destroy();
    await until(() => a.driver.stats()!.inboundBytesNow === 0);
    await isWell();
  });
});

describe('a stranger with the key of nobody', () => {
  it('cannot replay what it recorded', async () => {
    const key = randomBytes(32).toString('base64');
    const c = await LoopbackHost.start({ keys: [key] });
    const sealed = new Seal([key]).seal(
      encodePacket({ environment: 1, from: 5, incarnation: 0, hlc: 1, wallMs: 1, messages: [] }),
      'datagram',
      Date.now(),
    );
    const stranger = createSocket('udp4');
    for (let count = 0; count < 10; count++) stranger.send(sealed, c.port, '127.0.0.1');
    await until(() => c.driver.counters.refusedReplay === 9);
    stranger.close();
    await c.driver.close();
  });
});
