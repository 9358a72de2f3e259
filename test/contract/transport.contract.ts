import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { openSharedPort } from '../../src/mqtt/io/shared-port.js';
import { ReceiveMemory } from '../../src/mqtt/receive-memory.js';
import type {
  Accept,
  CloseCause,
  Gatherer,
  Listener,
  Peer,
  PeerHandler,
  TransportName,
} from '../../src/mqtt/transport.js';
import type { ByteClient } from '../mqtt/io/byte-client.js';

export interface TransportSettings {
  readonly port: number;
  readonly fd: number | undefined;
  readonly connectionsMax: number;
  readonly endTimeoutMs: number;
}

/** One implementation under test. */
export interface TransportHarness {
  readonly transport: TransportName;
  /** Whether a client can end its side and still be sent what was pending. */
  readonly halfClose: boolean;
  /** Whether listeners share a port by `fd`; otherwise by listening on it again. */
  readonly sharesDescriptor: boolean;
  /** The code in `onClose` after a reset. */
  readonly resetCode: string;
  /** A paused peer holds at most this much in user space. */
  readonly heldBytesMax: number;
  listen(settings: TransportSettings, accept: Accept): Promise<Listener>;
  connect(port: number): Promise<ByteClient>;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** A peer with everything that happened to it, checked as it happens. */
export class Recorder implements PeerHandler {
  readonly peer: Peer;
  received: Buffer[] = [];
  receivedBytes = 0;
  drains = 0;
  closes = 0;
  cause: CloseCause | undefined = undefined;
  /** Set around calls into the peer: no handler method may run within. */
  inCall = false;
  reentered = 0;
  afterClose = 0;
  onBytes: ((chunk: Buffer) => void) | undefined = undefined;
  onDrained: (() => void) | undefined = undefined;

  constructor(peer: Peer) {
    this.peer = peer;
  }

  call<T>(action: (peer: Peer) => T): T {
    this.inCall = true;
    try {
      return action(this.peer);
    } finally {
      this.inCall = false;
    }
  }

  readonly memory = new ReceiveMemory();

  onGathering(gatherer: Gatherer): void {
    setImmediate(() => gatherer.deliverGathered());
  }

  onData(bytes: Buffer, start: number, end: number): void {
    this.#check();
    const chunk = bytes.subarray(start, end);
    if (chunk.length === 0 || chunk.length !== end - start) throw new Error('bytes out of bounds');
    this.received.push(chunk);
    this.receivedBytes += chunk.length;
    this.onBytes?.(chunk);
  }

  onDrain(): void {
    this.#check();
    this.drains++;
    expect(this.peer.pendingBytes).toBe(0);
    this.onDrained?.();
  }

  onClose(cause: CloseCause | undefined): void {
    this.#check();
    this.closes++;
    this.cause = cause;
  }

  bytes(): Buffer {
    return Buffer.concat(this.received);
  }

  #check(): void {
    if (this.inCall) this.reentered++;
    if (this.closes > 0) this.afterClose++;
  }
}

export function pattern(length: number, seed = 7): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 131 + (i >> 8) * 17 + seed) & 255;
  return bytes;
}

export async function until(condition: () => boolean, what: string, timeoutMs = 8_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await pause(2);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

const sockets = () => process.getActiveResourcesInfo().filter(name => /^TCP|^TLS/.test(name)).length;
const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length;

export function transportContract(name: string, harness: TransportHarness): void {
  describe(`${name}: the transport contract`, () => {
    const listeners: Listener[] = [];
    const clients: ByteClient[] = [];
    let recorders: Recorder[] = [];

    const record: Accept = peer => {
      const recorder = new Recorder(peer);
      recorders.push(recorder);
      return recorder;
    };
    const listen = async (settings: Partial<TransportSettings> = {}, accept: Accept = record) => {
      const whole = { port: 0, fd: undefined, connectionsMax: 1000, endTimeoutMs: 2_000, ...settings };
      const listener = await harness.listen(whole, accept);
      listeners.push(listener);
      return listener;
    };
    const connect = async (port: number) => {
      const client = await harness.connect(port);
      clients.push(client);
      return client;
    };
    /** A connected pair: the client and what the server side sees of it. */
    const pair = async (settings: Partial<TransportSettings> = {}) => {
      const listener = await listen(settings);
      const before = recorders.length;
      const client = await connect(listener.port);
      await until(() => recorders.length > before, 'the acceptor');
      return { listener, client, server: recorders[before]! };
    };

    afterEach(async () => {
      await Promise.all(listeners.splice(0).map(listener => listener.destroy()));
      for (const client of clients) client.socket.destroy();
      await Promise.all(clients.splice(0).map(client => client.closed));
      const all = recorders;
      recorders = [];
      for (const recorder of all) {
        expect(recorder.closes, 'onClose exactly once').toBe(1);
        expect(recorder.reentered, 'calls from within calls').toBe(0);
        expect(recorder.afterClose, 'calls after onClose').toBe(0);
        recorder.peer.write(Buffer.from('late'));
        recorder.peer.pause();
        recorder.peer.resume();
        recorder.peer.end();
        recorder.peer.destroy();
        expect(recorder.peer.pendingBytes).toBe(0);
      }
      await until(() => sockets() === 0, 'sockets to go', 3_000);
    });

    afterAll(() => until(() => timers() === 0, 'timers to go', 3_000));

    it('names the transport and the client', async () => {
      const { client, server, listener } = await pair();
      expect(server.peer.transport).toBe(harness.transport);
      expect(listener.transport).toBe(harness.transport);
      expect(server.peer.remoteAddress).toBe('127.0.0.1');
      if (server.peer.remotePort !== 0) expect(server.peer.remotePort).toBe(client.socket.localPort);
      expect(listener.port).toBeGreaterThan(0);
      expect(listener.connections).toBe(1);
      expect(listener.counters.accepted).toBe(1);
    });

    it('echoes bytes in pieces of every size, intact and in order', async () => {
      const { client, server } = await pair();
      server.onBytes = chunk => server.call(peer => peer.write(chunk));
      const sizes = [1, 2, 3, 31, 32, 33, 125, 126, 127, 1000, 65535, 65536, 65537, 300 * KIB];
      const sent = Buffer.concat(sizes.map((size, i) => pattern(size, i)));
      let at = 0;
      for (const size of sizes) {
        client.send(sent.subarray(at, at + size));
        at += size;
        await pause(1);
      }
      await client.untilReceived(sent.length);
      expect(client.received.equals(sent)).toBe(true);
      // Chunks belong to the receiver: what came first is still as it came.
      expect(server.bytes().equals(sent)).toBe(true);
    });

    it('keeps what a slow reader does not take, tells how much, and tells once when it is gone', async () => {
      const { client, server } = await pair();
      client.countOnly = true;
      client.socket.pause();
      const block = pattern(MIB);
      let pending = 0;
      for (let i = 0; i < 24; i++) pending = server.call(peer => peer.write(block));
      expect(pending).toBeGreaterThan(8 * MIB);
      expect(server.peer.pendingBytes).toBe(pending);
      await pause(50);
      expect(server.peer.pendingBytes).toBeGreaterThan(8 * MIB);
      expect(server.drains).toBe(0);
      client.socket.resume();
      await client.untilReceived(24 * MIB);
      await until(() => server.drains > 0, 'onDrain');
      await pause(20);
      expect(server.drains).toBe(1);
      expect(server.peer.pendingBytes).toBe(0);
      // And again: once per fall.
      client.socket.pause();
      for (let i = 0; i < 24; i++) server.call(peer => peer.write(block));
      client.socket.resume();
      await until(() => server.drains === 2, 'the second onDrain');
    });

    it('writes in order before, during and after back-pressure', async () => {
      const { client, server } = await pair();
      client.socket.pause();
      const parts: Buffer[] = [];
      for (let i = 0; i < 300; i++) {
        const part = pattern(1 + ((i * 7919) % (64 * KIB)), i);
        parts.push(part);
        server.call(peer => peer.write(part));
        if (i === 150) client.socket.resume();
        if (i % 50 === 0) await pause(1);
      }
      const all = Buffer.concat(parts);
      client.countOnly = false;
      await client.untilReceived(all.length);
      expect(client.received.equals(all)).toBe(true);
    });

    it('delivers nothing while paused, and everything after', async () => {
      const { client, server } = await pair();
      server.call(peer => peer.pause());
      const bytes = pattern(Math.min(512 * KIB, harness.heldBytesMax));
      for (let at = 0; at < bytes.length; at += 10_000) client.send(bytes.subarray(at, at + 10_000));
      await pause(60);
      expect(server.receivedBytes).toBe(0);
      server.call(peer => peer.resume());
      await until(() => server.receivedBytes === bytes.length, 'what was sent');
      expect(server.bytes().equals(bytes)).toBe(true);
    });

    it('can be paused from within onData, and paused again while catching up', async () => {
      const { client, server } = await pair();
      let runs = 0;
      server.onBytes = () => {
        server.call(peer => peer.pause());
        runs++;
        setTimeout(() => server.call(peer => peer.resume()), 1);
      };
      const bytes = pattern(100 * KIB);
      for (let at = 0; at < bytes.length; at += 5_000) {
        client.send(bytes.subarray(at, at + 5_000));
        await pause(1);
      }
      await until(() => server.receivedBytes === bytes.length, 'what was sent');
      expect(server.bytes().equals(bytes)).toBe(true);
      expect(runs).toBeGreaterThan(1);
    });

    it('flushes before it ends, in order with what was written', async () => {
      // Long enough for TLS on a machine that others use too.
      const { client, server } = await pair({ endTimeoutMs: 15_000 });
      const bytes = pattern(12 * MIB);
      client.socket.pause();
      server.call(peer => {
        peer.write(bytes);
        peer.end();
        peer.write(Buffer.from('after the end'));
      });
      await pause(20);
      client.countOnly = true;
      client.socket.resume();
      await client.until(() => client.ended, 'the end', 15_000);
      expect(client.receivedBytes).toBe(bytes.length);
      client.finish();
      await until(() => server.closes === 1, 'onClose');
      expect(server.cause).toBeUndefined();
    });

    it('lets last words through to a client that is still sending', async () => {
      const { client, server } = await pair();
      server.onBytes = () => {
        server.call(peer => {
          peer.write(Buffer.from('refused'));
          peer.end();
        });
        server.onBytes = undefined;
      };
      for (let i = 0; i < 40; i++) client.send(pattern(16 * KIB));
      await client.until(() => client.ended, 'the end');
      expect(client.received.toString()).toBe('refused');
      client.finish();
      await until(() => server.closes === 1, 'onClose');
    });

    it('gives up ending when the client does not read', async () => {
      const { client, server } = await pair({ endTimeoutMs: 80 });
      client.socket.pause();
      server.call(peer => {
        peer.write(pattern(24 * MIB));
        peer.end();
      });
      await until(() => server.closes === 1, 'onClose', 2_000);
      expect(server.cause?.kind).toBe('limit');
    });

    it('closes in time a client that never closes its side', async () => {
      const { client, server, listener } = await pair({ endTimeoutMs: 80 });
      client.socket.pause();
      server.call(peer => peer.end());
      // uWS itself bounds the wait for the end of the socket, at up to two of its four-second ticks.
      await until(() => server.closes === 1 && listener.connections === 0, 'onClose', 10_000);
      expect(server.cause).toBeUndefined();
    });

    it('destroys at once', async () => {
      const { client, server, listener } = await pair();
      server.call(peer => {
        peer.write(pattern(100));
        peer.destroy();
        peer.destroy();
        expect(peer.write(pattern(10))).toBe(0);
      });
      await until(() => server.closes === 1, 'onClose');
      expect(server.cause).toBeUndefined();
      await client.until(() => client.ended || client.socket.destroyed, 'the end');
      expect(listener.connections).toBe(0);
    });

    it('destroys with much pending', async () => {
      const { client, server } = await pair();
      client.socket.pause();
      server.call(peer => {
        for (let i = 0; i < 8; i++) peer.write(pattern(MIB));
        peer.destroy();
      });
      await until(() => server.closes === 1, 'onClose');
      expect(server.drains).toBe(0);
    });

    it('can be closed from within onData and onDrain', async () => {
      const first = await pair();
      first.server.onBytes = () => first.server.call(peer => peer.destroy());
      first.client.send(pattern(10));
      await until(() => first.server.closes === 1, 'onClose');
      const second = await pair();
      second.server.onDrained = () => second.server.call(peer => peer.destroy());
      second.client.countOnly = true;
      second.server.call(peer => peer.write(pattern(24 * MIB)));
      await until(() => second.server.closes === 1, 'onClose', 15_000);
    });

    it('can be written to, paused, ended and destroyed from within the acceptor', async () => {
      const actions: ((peer: Peer) => void)[] = [
        peer => peer.write(Buffer.from('hello')),
        peer => peer.pause(),
        peer => {
          peer.write(Buffer.from('hello'));
          peer.end();
        },
        peer => peer.destroy(),
      ];
      const listener = await listen({}, peer => {
        const recorder = new Recorder(peer);
        const action = actions[recorders.length]!;
        recorders.push(recorder);
        recorder.call(action);
        return recorder;
      });
      const greeted = await connect(listener.port);
      await greeted.untilReceived(5);
      const held = await connect(listener.port);
      held.send(pattern(100));
      await pause(30);
      expect(recorders[1]!.receivedBytes).toBe(0);
      recorders[1]!.call(peer => peer.resume());
      await until(() => recorders[1]!.receivedBytes === 100, 'what was held');
      const refused = await connect(listener.port);
      await refused.until(() => refused.ended, 'the end');
      expect(refused.received.toString()).toBe('hello');
      refused.finish();
      await connect(listener.port).catch(() => undefined);
      await until(() => recorders[3]?.closes === 1, 'onClose');
    });

    it('tells of an orderly close by the client', async () => {
      const { client, server } = await pair();
      client.send(pattern(100));
      client.finish();
      await until(() => server.closes === 1, 'onClose');
      expect(server.receivedBytes).toBe(100);
      expect(server.cause).toBeUndefined();
    });

    it('tells of a reset by the client', async () => {
      const { client, server } = await pair();
      resetConnection(client);
      await until(() => server.closes === 1, 'onClose');
      expect(server.cause).toEqual({ kind: 'error', code: harness.resetCode });
    });

    it('survives a reset while much is pending', async () => {
      const { client, server } = await pair();
      client.socket.pause();
      for (let i = 0; i < 16; i++) server.call(peer => peer.write(pattern(MIB)));
      resetConnection(client);
      await until(() => server.closes === 1, 'onClose');
      expect(server.cause?.kind).toBe('error');
      expect(server.drains).toBe(0);
    });

    it.runIf(harness.halfClose)('sends what is pending to a client that has closed its side', async () => {
      const { client, server } = await pair();
      client.socket.pause();
      for (let i = 0; i < 12; i++) server.call(peer => peer.write(pattern(MIB)));
      client.finish();
      await pause(20);
      client.countOnly = true;
      client.socket.resume();
      await client.untilReceived(12 * MIB);
      await until(() => server.closes === 1, 'onClose');
      expect(server.cause).toBeUndefined();
    });

    it('serves 200 connections at once', async () => {
      const listener = await listen({}, peer => {
        const recorder = new Recorder(peer);
        recorder.onBytes = chunk => recorder.call(to => to.write(chunk));
        recorders.push(recorder);
        return recorder;
      });
      const many = await Promise.all(Array.from({ length: 200 }, () => connect(listener.port)));
      await until(() => listener.connections === 200, '200 connections');
      for (const [i, client] of many.entries()) client.send(pattern(500 + i, i));
      await Promise.all(many.map((client, i) => client.untilReceived(500 + i)));
      for (const [i, client] of many.entries())
        expect(client.received.equals(pattern(500 + i, i))).toBe(true);
      for (const client of many) client.finish();
      await until(() => listener.connections === 0, 'all to go');
      expect(listener.counters.accepted).toBe(200);
    });

    it('refuses connections above its limit, and takes them again below', async () => {
      const listener = await listen({ connectionsMax: 2 });
      const first = await connect(listener.port);
      await connect(listener.port);
      await until(() => recorders.length === 2, 'two peers');
      const third = await connect(listener.port);
      await until(() => recorders.length === 3, 'the peer to be refused');
      const fourth = await harness.connect(listener.port).catch(() => undefined);
      await fourth?.until(() => fourth.ended || fourth.socket.destroyed, 'the refusal');
      fourth?.socket.destroy();
      await until(() => listener.counters.refusedAtLimit === 1, 'the count');
      expect(recorders.map(({ peer }) => peer.admitted)).toEqual([true, true, false]);
      first.finish();
      third.finish();
      await until(() => listener.connections === 1, 'two to go');
      await connect(listener.port);
      await until(() => recorders.length === 4, 'a fourth peer');
      expect(recorders[3]!.peer.admitted).toBe(true);
    });

    it('stops accepting on close, and leaves what is connected alone', async () => {
      const { client, server, listener } = await pair();
      await listener.close();
      await listener.close();
      await expect(harness.connect(listener.port)).rejects.toThrow();
      client.send(Buffer.from('still here'));
      await until(() => server.receivedBytes === 10, 'bytes after close');
      server.call(peer => peer.write(Buffer.from('yes')));
      await client.untilReceived(3);
    });

    it('destroys all connections, and is done when they know', async () => {
      const { listener } = await pair();
      await connect(listener.port);
      await connect(listener.port);
      await until(() => recorders.length === 3, 'three peers');
      await listener.destroy();
      expect(recorders.map(recorder => recorder.closes)).toEqual([1, 1, 1]);
      expect(listener.connections).toBe(0);
      await listener.destroy();
      await listener.close();
    });

    it('can be opened again on the same port at once', async () => {
      const { listener } = await pair();
      await listener.destroy();
      await pair({ port: listener.port });
    });

    it('says which address is in use', async () => {
      const listener = await listen();
      await expect(listen({ port: listener.port })).rejects.toMatchObject({
        code: 'SHOAL_LISTEN_IN_USE',
        message: expect.stringContaining(`127.0.0.1:${listener.port}`),
      });
    });

    it.runIf(harness.sharesDescriptor)('shares a port, each listener with its own descriptor', async () => {
      const shared = (await openSharedPort('test', '127.0.0.1', 0))!;
      try {
        const settings = async () => ({ port: shared.port, fd: await shared.descriptor() });
        const first = await listen(await settings());
        const second = await listen(await settings());
        expect([first.port, second.port]).toEqual([shared.port, shared.port]);
        expect(new Set([first.fd, second.fd]).size).toBe(2);
        for (let i = 0; i < 10; i++) await connect(shared.port);
        await until(() => first.connections + second.connections === 10, 'ten connections');
        await first.destroy();
        const before = second.counters.accepted;
        for (let i = 0; i < 10; i++) await connect(shared.port);
        await until(() => second.counters.accepted === before + 10, 'the second to take them all');
      } finally {
        await shared.close();
      }
    });
  });
}

function resetConnection(client: ByteClient): void {
  // A TLS socket cannot reset; the one beneath it can, and so ends both.
  const raw = (client.socket as { _parent?: unknown })._parent ?? client.socket;
  (raw as ByteClient['socket']).resetAndDestroy();
  client.socket.destroy();
}
