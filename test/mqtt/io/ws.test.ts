import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { listenWs, type WsListenOptions } from '../../../src/mqtt/io/ws.js';
import type { Listener } from '../../../src/mqtt/transport.js';
import { pattern, pause, Recorder, transportContract, until } from '../../contract/transport.contract.js';
import { makeCertificates, removeCertificates } from '../../e2e/certificates.js';
import { type ByteClient, type ConnectOptions, connectBytes } from './byte-client.js';
import { wsOptions } from './options.js';

const certificates = makeCertificates();
afterAll(() => removeCertificates(certificates));
const files = { keyFile: certificates.keyFile, certificateFile: certificates.certFile };
const shape = {
  halfClose: false,
  sharesDescriptor: false,
  resetCode: 'WS_CLOSED_ABNORMALLY',
  heldBytesMax: 512 * 1024,
} as const;

transportContract('ws', {
  ...shape,
  transport: 'ws',
  listen: (settings, accept) => listenWs(wsOptions(settings), accept),
  connect: port => connectBytes({ port, webSocket: true }),
});

transportContract('wss', {
  ...shape,
  transport: 'wss',
  listen: (settings, accept) => listenWs({ ...wsOptions(settings), tls: files }, accept),
  connect: port => connectBytes({ port, webSocket: true, tls: { ca: certificates.ca } }),
});

const clients: ByteClient[] = [];
async function connect(options: ConnectOptions): Promise<ByteClient> {
  const client = await connectBytes({ webSocket: true, ...options });
  clients.push(client);
  return client;
}
afterEach(() => {
  for (const client of clients.splice(0)) client.socket.destroy();
});

describe('ws', () => {
  let listener: Listener;
  let recorders: Recorder[] = [];
  const open = async (options: Partial<WsListenOptions> = {}) => {
    recorders = [];
    listener = await listenWs({ ...wsOptions(), ...options }, peer => {
      const recorder = new Recorder(peer);
      recorders.push(recorder);
      return recorder;
    });
    return listener.port;
  };
  const accepted = async (options: Partial<WsListenOptions> = {}) => {
    const client = await connect({ port: await open(options) });
    await until(() => recorders.length === 1, 'the peer');
    return { client, server: recorders[0]! };
  };

  afterEach(async () => {
    await listener.destroy();
    for (const recorder of recorders) expect([recorder.closes, recorder.reentered]).toEqual([1, 0]);
  });

  it('wants mqtt or mqttv3.1 offered, and echoes what it chose [MQTT-6.0.0-3] [MQTT-6.0.0-4]', async () => {
    const port = await open();
    for (const protocols of ['mqtt', 'mqttv3.1', 'mqtt, mqttv3.1', 'mqttv3.1,mqtt']) {
      // The client checks that the first of its offer is chosen.
      await connect({ port, protocols });
    }
    for (const protocols of ['', 'chat', 'MQTT', 'mqttx, xmqtt']) {
      await expect(connect({ port, protocols })).rejects.toMatchObject({ status: 400 });
    }
    expect(listener.counters).toMatchObject({ accepted: 4, handshakeFailed: 4 });
  });

  it('listens on its path only', async () => {
    const port = await open({ path: '/broker/mqtt' });
    await connect({ port, path: '/broker/mqtt' });
    await connect({ port, path: '/broker/mqtt?token=x' });
    for (const path of ['/', '/mqtt', '/broker/mqtt/x']) {
      await expect(connect({ port, path })).rejects.toMatchObject({ status: 404 });
    }
    const url = `http://127.0.0.1:${port}`;
    expect((await fetch(`${url}/broker/mqtt`)).status).toBe(426);
    expect((await fetch(`${url}/x`)).status).toBe(404);
  });

  it('keeps browsers of other origins out', async () => {
    const port = await open({ origins: ['https://app.example'] });
    await connect({ port, headers: { origin: 'https://app.example' } });
    await connect({ port });
    for (const origin of ['https://app.example.evil', 'http://app.example', 'null']) {
      await expect(connect({ port, headers: { origin } })).rejects.toMatchObject({ status: 403 });
    }
  });

  it('believes a proxy about the client only when told to', async () => {
    const headers = { 'x-forwarded-for': '6.6.6.6, ::ffff:203.0.113.9' };
    await connect({ port: await open(), headers });
    await until(() => recorders.length === 1, 'the peer');
    expect(recorders[0]!.peer.remoteAddress).toBe('127.0.0.1');
    await listener.destroy();
    await connect({ port: await open({ addressHeader: 'x-forwarded-for' }), headers });
    await until(() => recorders.length === 1, 'the peer');
    expect(recorders[0]!.peer.remoteAddress).toBe('203.0.113.9');
  });

  it('refuses text frames with 1003 [MQTT-6.0.0-1]', async () => {
    const { client, server } = await accepted();
    client.send(Buffer.from('fine'));
    client.sendFrame(1, Buffer.from('text'));
    client.send(Buffer.from('late'));
    await until(() => server.closes === 1, 'onClose');
    expect(server.cause).toEqual({ kind: 'protocol', reason: 'a WebSocket text frame' });
    expect(server.bytes().toString()).toBe('fine');
    await client.until(() => client.closeCode === 1003, 'the close frame');
  });

  it('joins fragments, answers pings, and skips empty messages', async () => {
    const { client, server } = await accepted();
    client.sendFrame(2, Buffer.from('ab'), false);
    client.sendFrame(9, Buffer.from('ping'));
    client.sendFrame(0, Buffer.from('cd'), false);
    client.sendFrame(0, Buffer.from('ef'), true);
    client.sendFrame(2, Buffer.alloc(0));
    client.send(Buffer.from('gh'));
    await until(() => server.receivedBytes === 8, 'the bytes');
    expect(server.bytes().toString()).toBe('abcdefgh');
    expect(server.received.every(chunk => chunk.length > 0)).toBe(true);
  });

  it('closes on messages above the limit, also in fragments', async () => {
    const { client, server } = await accepted({ messageBytesMax: 1000 });
    client.send(pattern(1000));
    await until(() => server.receivedBytes === 1000, 'a message at the limit');
    client.sendFrame(2, pattern(600), false);
    client.sendFrame(0, pattern(600), true);
    await until(() => server.closes === 1, 'onClose');
    expect(server.cause).toEqual({ kind: 'protocol', reason: 'Received too big message' });
    expect(server.receivedBytes).toBe(1000);
  });

  it('cuts off a client that floods a paused peer, and lets the others be', async () => {
    const { client, server } = await accepted({ heldBytesMax: 100_000 });
    const calm = await connect({ port: listener.port });
    await until(() => recorders.length === 2, 'the second peer');
    server.call(peer => peer.pause());
    recorders[1]!.call(peer => peer.pause());
    calm.send(pattern(50_000));
    for (let i = 0; i < 12; i++) client.send(pattern(10_000));
    await until(() => server.closes === 1, 'onClose');
    expect(server.cause?.kind).toBe('limit');
    expect(server.receivedBytes).toBe(0);
    await client.until(() => client.closeCode === 1013, 'the close frame');
    recorders[1]!.call(peer => peer.resume());
    await until(() => recorders[1]!.receivedBytes === 50_000, 'what was held');
  });

  it('holds no more than its limit for all paused peers together', async () => {
    const { client, server } = await accepted({ heldBytesMax: 100_000, heldTotalBytesMax: 120_000 });
    const other = await connect({ port: listener.port });
    await until(() => recorders.length === 2, 'the second peer');
    for (const recorder of recorders) recorder.call(peer => peer.pause());
    client.send(pattern(90_000));
    await pause(20);
    other.send(pattern(40_000));
    await until(() => recorders[1]!.closes === 1, 'onClose');
    expect(recorders[1]!.cause?.kind).toBe('limit');
    server.call(peer => peer.resume());
    await until(() => server.receivedBytes === 90_000, 'what was held');
    // What was delivered or thrown away counts no more.
    const third = await connect({ port: listener.port });
    await until(() => recorders.length === 3, 'the third peer');
    recorders[2]!.call(peer => peer.pause());
    third.send(pattern(95_000));
    await pause(20);
    recorders[2]!.call(peer => peer.resume());
    await until(() => recorders[2]!.receivedBytes === 95_000, 'what was held');
  });

  it('delivers what a client sent before it closed, also when that was held', async () => {
    const port = await open();
    for (const paused of [false, true]) {
      const client = await connect({ port });
      await until(() => recorders.length === (paused ? 2 : 1), 'the peer');
      const server = recorders.at(-1)!;
      // Whatever is called on a peer that is closing does nothing.
      server.onBytes = () =>
        server.call(peer => [peer.write(Buffer.from('x')), peer.pendingBytes, peer.pause()]);
      if (paused) server.call(peer => peer.pause());
      client.socket.cork();
      client.send(pattern(100));
      client.send(pattern(50));
      client.finish();
      client.socket.uncork();
      if (paused) {
        await client.until(() => client.closeCode !== undefined, 'the close frame');
        await pause(20);
        expect([server.receivedBytes, server.closes]).toEqual([0, 0]);
        server.call(peer => peer.resume());
      }
      await until(() => server.closes === 1, 'onClose');
      expect(server.receivedBytes).toBe(150);
      expect(server.cause).toBeUndefined();
    }
  });

  it('forgets what a closed client sent when nobody wants it', async () => {
    const port = await open({ endTimeoutMs: 60 });
    const closing = async () => {
      const before = recorders.length;
      const client = await connect({ port });
      await until(() => recorders.length > before, 'the peer');
      recorders[before]!.call(peer => peer.pause());
      client.send(pattern(100));
      client.finish();
      await client.until(() => client.closeCode !== undefined, 'the close frame');
      return recorders[before]!;
    };
    const destroyed = await closing();
    destroyed.call(peer => peer.destroy());
    const ended = await closing();
    ended.call(peer => peer.end());
    await until(() => destroyed.closes + ended.closes === 2, 'onClose');
    const left = await closing();
    await until(() => left.closes === 1, 'the time limit');
    await closing();
    await listener.destroy();
    expect(recorders.map(recorder => [recorder.receivedBytes, recorder.closes])).toEqual([
      [0, 1],
      [0, 1],
      [0, 1],
      [0, 1],
    ]);
  });

  it('survives bytes that are no WebSocket frames', async () => {
    const port = await open();
    for (let i = 0; i < 60; i++) {
      const client = await connect({ port });
      client.socket.write(pattern(1 + ((i * 37) % 200), i * 5));
      if (i % 3 === 0) client.socket.end();
      else client.socket.destroy();
    }
    await until(() => listener.connections === 0, 'all to go');
    await connect({ port });
  });
});

describe('ws in several threads', () => {
  const WORKER = new URL('./ws-worker.mjs', import.meta.url);
  const errors: string[] = [];
  const start = async (name: string, port: number) => {
    const { places: _, ...common } = wsOptions({ port });
    const options = { ...common, exclusive: port === 0 };
    const worker = new Worker(WORKER, { workerData: { options, name } });
    worker.on('error', error => errors.push(error.message));
    // Unlike once(), which would reject for the error that comes first.
    const exit = new Promise<number>(resolve => worker.on('exit', resolve));
    const [message] = await once(worker, 'message');
    return { worker, exit, port: message.port as number };
  };

  it('shares a port, and outlives threads that end in whatever way', async () => {
    const a = await start('a', 0);
    const b = await start('b', a.port);
    const threads = { a, b };
    const greet = async () => {
      const client = await connect({ port: a.port });
      await client.untilReceived(1);
      return client;
    };
    const names = new Set<string>();
    let last = await greet();
    for (let i = 0; i < 200 && names.size < 2; i++) {
      last = await greet();
      names.add(last.received.toString());
    }
    expect([...names].sort()).toEqual(['a', 'b']);

    const victim = last.received.toString() as 'a' | 'b';
    const survivor = victim === 'a' ? 'b' : 'a';
    last.send(Buffer.from('throw'));
    await threads[victim].exit;
    expect(errors.splice(0)).toEqual(['thrown on purpose']);
    for (let i = 0; i < 10; i++) expect((await greet()).received.toString()).toBe(survivor);

    const c = await start('c', a.port);
    for (;;) {
      const client = await greet();
      if (client.received.toString() !== 'c') continue;
      client.send(Buffer.from('exit'));
      break;
    }
    expect(await c.exit).toBe(3);
    threads[survivor].worker.postMessage('destroy');
    expect(await threads[survivor].exit).toBe(0);
  });
});
