import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NameCache } from '../../../src/underlay/io/name-cache.js';
import { LINK_BYTES_MAX } from '../../../src/underlay/io/stream-link.js';
import { POOL_BYTES_MAX, StreamPool } from '../../../src/underlay/io/stream-pool.js';
import {
  FRAME_TIMEOUT_MS,
  INBOUND_IDLE_MS,
  PARTIAL_BYTES_MAX,
  StreamServer,
} from '../../../src/underlay/io/stream-server.js';
import { streamSecurity } from '../../../src/underlay/io/stream-tls.js';
import { STREAM_PACKET_BYTES_MAX } from '../../../src/underlay/transport.js';
import { authority } from './certificates.js';
import { until } from './socket-world.js';

function frame(length: number, bytes = length): Buffer {
  const buffer = Buffer.alloc(4 + bytes);
  buffer.writeUInt32BE(length, 0);
  return buffer;
}

describe('a stream server', () => {
  let server: StreamServer;
  let port: number;
  let clients: Socket[];
  let frames: number;
  const sink = {
    frame: () => {
      frames++;
      return true;
    },
  };

  beforeEach(async () => {
    clients = [];
    frames = 0;
    server = new StreamServer(undefined, sink);
    port = await server.listen('127.0.0.1', 0, true);
  });

  afterEach(async () => {
    for (const client of clients) client.destroy();
    await server.close();
  });

  const dial = (to = port): Socket => {
    const client = connect({ host: '127.0.0.1', port: to });
    client.on('error', () => {});
    client.resume();
    clients.push(client);
    return client;
  };

  it('drops who says nothing, or does not finish what it began', async () => {
    const [silent, slow, honest] = [dial(), dial(), dial()];
    slow.write(Buffer.concat([frame(10), frame(100, 1)]));
    honest.write(frame(10));
    await until(() => frames === 2 && server.size === 3 && server.pendingBytes === 5);
    server.sweep(performance.now() + FRAME_TIMEOUT_MS - 1_000);
    expect(server.counters.dropped).toBe(0);
    server.sweep(performance.now() + FRAME_TIMEOUT_MS + 1_000);
    await until(() => silent.destroyed && slow.destroyed && server.size === 1);
    expect([server.counters.dropped, server.pendingBytes, honest.destroyed]).toEqual([2, 0, false]);
  });

  it('closes what is idle, later than a sender does', async () => {
    const client = dial();
    client.write(frame(10));
    await until(() => frames === 1);
    server.sweep(performance.now() + INBOUND_IDLE_MS - 1_000);
    expect(server.size).toBe(1);
    server.sweep(performance.now() + INBOUND_IDLE_MS + 1_000);
    await until(() => client.destroyed);
    expect(server.counters.dropped).toBe(0);
  });

  it('holds a bounded amount of what is incomplete', async () => {
    const count = Math.ceil(PARTIAL_BYTES_MAX / STREAM_PACKET_BYTES_MAX) + 6;
    const piece = frame(STREAM_PACKET_BYTES_MAX, STREAM_PACKET_BYTES_MAX - 1);
    let most = 0;
    for (let turn = 0; turn < count; turn++) {
      const before = server.pendingBytes + server.counters.dropped * piece.length;
      dial().write(piece);
      await until(() => {
        most = Math.max(most, server.pendingBytes);
        return server.pendingBytes + server.counters.dropped * piece.length >= before + piece.length;
      });
    }
    expect(server.counters.dropped).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(PARTIAL_BYTES_MAX + 65_536);
  });

  it('with TLS drops who does not shake hands', async () => {
    const { cert, key } = authority('a').issue('host');
    const secure = new StreamServer(streamSecurity({ cert, key }), sink);
    const securePort = await secure.listen('127.0.0.1', 0, true);
    const client = dial(securePort);
    await until(() => secure.size === 1);
    secure.sweep(performance.now() + FRAME_TIMEOUT_MS + 1_000);
    await until(() => client.destroyed && secure.size === 0);
    await secure.close();
  });
});

describe('a pool of streams', () => {
  let server: Server;
  let port: number;
  const accepted: Socket[] = [];

  beforeEach(async () => {
    server = createServer(socket => accepted.push(socket.on('error', () => {})));
    await new Promise<void>(resolve => server.listen({ host: '0.0.0.0', port: 0 }, resolve));
    port = (server.address() as { port: number }).port;
  });

  afterEach(async () => {
    for (const socket of accepted.splice(0)) socket.destroy();
    await new Promise(resolve => server.close(resolve));
  });

  it('holds a bounded amount for all addresses together, and tells of the rest', async () => {
    const failures: string[] = [];
    const pool = new StreamPool(new NameCache(4), undefined, to => failures.push(to));
    const size = STREAM_PACKET_BYTES_MAX;
    const perLink = Math.floor(LINK_BYTES_MAX / (size + 4));
    const links = Math.ceil(POOL_BYTES_MAX / (perLink * (size + 4))) + 1;
    const bytes = new Uint8Array(size);
    for (let link = 1; link <= links; link++) {
      for (let count = 0; count < perLink; count++) pool.send(`127.0.1.${link}:${port}`, bytes);
    }
    expect(pool.bytes).toBeLessThanOrEqual(POOL_BYTES_MAX);
    expect(pool.bytes).toBeGreaterThan(POOL_BYTES_MAX - size - 4);
    await until(() => failures.length > 0);
    pool.close();
    expect([pool.bytes, pool.size]).toEqual([0, 0]);
  });

  it('closes the idle link that was used earliest for a new one when there are too many', async () => {
    const failures: string[] = [];
    const pool = new StreamPool(new NameCache(4), undefined, to => failures.push(to), 2);
    for (const link of [1, 2, 3]) pool.send(`127.0.1.${link}:${port}`, new Uint8Array(6));
    await until(() => failures.length === 1 && accepted.length === 2);
    expect(failures).toEqual([`127.0.1.3:${port}`]);
    for (const socket of accepted) socket.write(Buffer.of(0, 0, 0, 1));
    await until(() => pool.bytes === 0);
    pool.send(`127.0.1.3:${port}`, new Uint8Array(6));
    await until(() => accepted.length === 3);
    expect([pool.size, failures.length]).toEqual([2, 1]);
    pool.close();
  });
});
