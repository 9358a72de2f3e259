import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ACK_TIMEOUT_MS,
  CONNECT_TIMEOUT_MS,
  LINK_BYTES_MAX,
  LINK_IDLE_MS,
  StreamLink,
} from '../../../src/underlay/io/stream-link.js';
import { until } from './socket-world.js';

/** A link to a peer that acknowledges only when the test says so. */
describe('a stream link', () => {
  let server: Server;
  let port: number;
  let peers: Socket[];
  let received: number;
  let lost: number[];
  let acknowledged: number;
  let link: StreamLink;

  beforeEach(async () => {
    peers = [];
    received = 0;
    lost = [];
    acknowledged = 0;
    server = createServer(socket => {
      peers.push(socket);
      socket.on('data', chunk => {
        received += chunk.length;
      });
      socket.on('error', () => {});
    });
    await new Promise<void>(resolve => server.listen({ host: '127.0.0.1', port: 0 }, resolve));
    port = (server.address() as { port: number }).port;
    const owner = {
      security: undefined,
      closed: (_link: StreamLink, packets: number) => lost.push(packets),
      acknowledged: (bytes: number) => {
        acknowledged += bytes;
      },
    };
    link = new StreamLink('peer', owner, performance.now());
  });

  afterEach(async () => {
    link.close();
    for (const peer of peers) peer.destroy();
    await new Promise(resolve => server.close(resolve));
  });

  const send = (bytes: number) => link.send(new Uint8Array(bytes), performance.now());
  const acks = (...counts: number[]) => {
    const bytes = Buffer.alloc(counts.length * 4);
    for (const [at, count] of counts.entries()) bytes.writeUInt32BE(count >>> 0, at * 4);
    return bytes;
  };

  it('counts what is not acknowledged, and has room for so much', async () => {
    expect(send(LINK_BYTES_MAX - 4)).toBe(true);
    expect(send(1)).toBe(false);
    link.open('127.0.0.1', port);
    await until(() => received === LINK_BYTES_MAX);
    expect(link.pendingBytes).toBe(LINK_BYTES_MAX);
    peers[0]!.write(acks(1));
    await until(() => link.isIdle);
    expect(acknowledged).toBe(LINK_BYTES_MAX);
    expect(send(1)).toBe(true);
  });

  it('takes acknowledgements cut into bytes, and several at once', async () => {
    link.open('127.0.0.1', port);
    for (let count = 0; count < 5; count++) send(6);
    await until(() => received === 50);
    for (const byte of acks(1)) peers[0]!.write(Buffer.of(byte));
    await until(() => link.pendingBytes === 40);
    peers[0]!.write(acks(2, 3, 4));
    await until(() => link.pendingBytes === 10);
    link.close();
    expect(lost).toEqual([1]);
    expect(acknowledged).toBe(50);
  });

  it('ends when more is acknowledged than was sent', async () => {
    link.open('127.0.0.1', port);
    send(6);
    await until(() => received === 10);
    peers[0]!.write(acks(2));
    await until(() => lost.length === 1);
    expect(lost).toEqual([1]);
  });

  it('ends when nothing moves for too long', async () => {
    link.open('127.0.0.1', port);
    send(6);
    await until(() => received === 10);
    link.sweep(performance.now() + ACK_TIMEOUT_MS - 100);
    expect(lost).toEqual([]);
    link.sweep(performance.now() + ACK_TIMEOUT_MS + 100);
    expect(lost).toEqual([1]);
  });

  it('ends when no connection comes about', () => {
    send(6);
    link.sweep(performance.now() + CONNECT_TIMEOUT_MS + 100);
    expect(lost).toEqual([1]);
    link.open('127.0.0.1', port);
    expect(send(6)).toBe(false);
  });

  it('ends without a loss when it was not needed for long', async () => {
    link.open('127.0.0.1', port);
    send(6);
    await until(() => received === 10);
    peers[0]!.write(acks(1));
    await until(() => link.isIdle);
    link.sweep(performance.now() + LINK_IDLE_MS + 100);
    expect(lost).toEqual([0]);
    await until(() => peers[0]!.destroyed || peers[0]!.readableEnded);
  });

  it('says what was under way when the peer dies', async () => {
    link.open('127.0.0.1', port);
    for (let count = 0; count < 3; count++) send(6);
    await until(() => received === 30);
    peers[0]!.write(acks(1));
    await until(() => link.pendingBytes === 20);
    peers[0]!.resetAndDestroy();
    await until(() => lost.length === 1);
    expect(lost).toEqual([2]);
  });
});
