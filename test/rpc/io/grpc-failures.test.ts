import {
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createNetServer,
  type Server,
  type Socket,
} from 'node:net';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RpcFailure } from '../../../src/rpc/failure.js';
import { GrpcServer } from '../../../src/rpc/io/grpc-server.js';
import { GrpcTls } from '../../../src/rpc/io/grpc-tls.js';
import { GrpcTransport } from '../../../src/rpc/io/grpc-transport.js';
import type { RpcChannel } from '../../../src/rpc/transport.js';
import { authority } from '../../underlay/io/certificates.js';
import { ask, CONTEXT, ECHO, endpointOf, Hearing, pause, until } from '../transport-ends.js';
import { frame, goaway, HEADERS, SETTINGS } from './http2-frames.js';

/**
 * What a caller may conclude when the other side breaks, at every point at which it can: an HTTP/2 server that does just
 * that. `unavailable` must never be said of a call that a server may have begun.
 */

const KEEP_ALIVE_MS = 150;
const GRPC_HEADERS = { ':status': 200, 'content-type': 'application/grpc' };

let closables: (() => void)[] = [];
let events: string[];

beforeEach(() => {
  closables = [];
  events = [];
});

afterEach(async () => {
  for (const close of closables) close();
  await pause(5);
});

function listening(server: Server | Http2Server): Promise<number> {
  closables.push(() => void server.close());
  return new Promise(resolve => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
}

/** A server that does with each call what it is told to. */
async function http2(act: (stream: ServerHttp2Stream, session: ServerHttp2Session) => void): Promise<number> {
  const server = createServer();
  server.on('session', session => {
    closables.push(() => session.destroy());
    session.on('error', () => undefined);
  });
  server.on('stream', stream => {
    stream.on('error', () => undefined);
    act(stream, stream.session as ServerHttp2Session);
  });
  return listening(server);
}

/** HTTP/2 by hand, as far as it takes to receive a call's headers. */
function byHand(act: (socket: Socket, calls: number) => void): Promise<number> {
  return tcp(socket => {
    let bytes = Buffer.alloc(0);
    let at = 24;
    let calls = 0;
    socket.write(frame(SETTINGS, 0, 0));
    socket.on('data', more => {
      bytes = Buffer.concat([bytes, more]);
      while (bytes.length >= at + 9 && bytes.length >= at + 9 + bytes.readUIntBE(at, 3)) {
        const type = bytes[at + 3];
        if (type === SETTINGS && bytes[at + 4] === 0) socket.write(frame(SETTINGS, 1, 0));
        if (type === HEADERS) act(socket, ++calls);
        at += 9 + bytes.readUIntBE(at, 3);
      }
    });
  });
}

async function tcp(act: (socket: Socket) => void): Promise<number> {
  const server = createNetServer(socket => {
    closables.push(() => socket.destroy());
    socket.on('error', () => undefined);
    act(socket);
  });
  return listening(server);
}

function open(port: number, host = '127.0.0.1'): RpcChannel {
  const channel = new GrpcTransport({ limits: { keepAliveMs: KEEP_ALIVE_MS } }).open(`${host}:${port}`);
  channel.onState = isConnected => void events.push(isConnected ? 'connected' : 'broken');
  closables.push(() => channel.close());
  return channel;
}

async function unary(channel: RpcChannel): Promise<Uint8Array | RpcFailure> {
  const answer = await ask(channel, 's/m', Buffer.alloc(8));
  events.push('answered');
  return answer;
}

async function stream(channel: RpcChannel): Promise<RpcFailure | 'ended'> {
  const hearing = new Hearing();
  channel.stream('s/m', CONTEXT, hearing).write(Buffer.alloc(8));
  return hearing.over;
}

/** Both kinds of call end so. */
async function bothEnd(port: number, kind: string): Promise<void> {
  expect(await unary(open(port))).toMatchObject({ kind });
  expect(await stream(open(port))).toMatchObject({ kind });
}

describe('a call that cannot have begun is unavailable', () => {
  it('when nobody listens; the channel hears it first, and connects again when asked', async () => {
    const server = createNetServer();
    const port = await listening(server);
    server.close();
    const channel = open(port);
    expect(await unary(channel)).toMatchObject({ kind: 'unavailable' });
    expect(events).toEqual(['broken', 'answered']);
    channel.connect();
    await until(() => events.length === 3, 'the second attempt fails');
    channel.connect();
    await until(() => events.length === 4, 'the third attempt fails');
    expect(events.slice(2)).toEqual(['broken', 'broken']);
  });

  it('when the address is none', async () => {
    const channel = new GrpcTransport().open('');
    closables.push(() => channel.close());
    expect(await ask(channel, 's/m', Buffer.alloc(1))).toMatchObject({ kind: 'unavailable' });
    const unknown = new GrpcTransport().open('host.invalid:1');
    closables.push(() => unknown.close());
    expect(await ask(unknown, 's/m', Buffer.alloc(1))).toMatchObject({ kind: 'unavailable' });
  });

  it('when the connection is closed before HTTP/2 begins, or begins with something else', async () => {
    await bothEnd(await tcp(socket => socket.destroy()), 'unavailable');
    await bothEnd(await tcp(socket => socket.end('SSH-2.0-OpenSSH_9.2\r\n')), 'unavailable');
    await bothEnd(await tcp(socket => socket.resetAndDestroy()), 'unavailable');
  });

  it('when a server accepts and says nothing', async () => {
    const port = await tcp(() => undefined);
    const channel = new GrpcTransport({ connectTimeoutMs: 100 }).open(`127.0.0.1:${port}`);
    channel.onState = isConnected => void events.push(isConnected ? 'connected' : 'broken');
    closables.push(() => channel.close());
    expect(await unary(channel)).toMatchObject({ kind: 'unavailable' });
    expect(events).toEqual(['broken', 'answered']);
  });

  it('when its stream is refused', async () => {
    await bothEnd(await http2(call => call.close(constants.NGHTTP2_REFUSED_STREAM)), 'unavailable');
  });

  it('when the server goes and says that it has not seen it, which is told of each call', async () => {
    const port = await byHand(socket => socket.write(goaway(0, constants.NGHTTP2_NO_ERROR)));
    await bothEnd(port, 'unavailable');
    const two = open(
      await byHand((socket, calls) => {
        if (calls === 2) socket.end(goaway(1, constants.NGHTTP2_NO_ERROR));
      }),
    );
    expect([await Promise.all([unary(two), unary(two)])].flat()).toMatchObject([
      { kind: 'unknown-outcome' },
      { kind: 'unavailable' },
    ]);
    const closing = await byHand(socket => socket.end(goaway(0, constants.NGHTTP2_NO_ERROR)));
    await bothEnd(closing, 'unavailable');
  });

  it('when it speaks gRPC, and is no server of ours', async () => {
    const port = await http2(call =>
      call.respond({ ...GRPC_HEADERS, 'grpc-status': 12 }, { endStream: true }),
    );
    await bothEnd(port, 'unavailable');
  });
});

describe('a call that may have begun has an unknown outcome', () => {
  const breaks: Record<string, (call: ServerHttp2Stream, session: ServerHttp2Session) => void> = {
    'the connection is reset': (_call, session) => session.socket.resetAndDestroy(),
    'the session is destroyed': (_call, session) => session.destroy(),
    'the server goes after it has seen it, and closes': (call, session) => {
      session.goaway(constants.NGHTTP2_NO_ERROR, call.id!);
      setTimeout(() => session.destroy(), 20);
    },
    'the server goes with an error after it has seen it': (call, session) =>
      session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, call.id!),
    'its stream is reset: cancel': call => call.close(constants.NGHTTP2_CANCEL),
    'its stream is reset: internal error': call => call.close(constants.NGHTTP2_INTERNAL_ERROR),
    'its stream is reset: calm': call => call.close(constants.NGHTTP2_ENHANCE_YOUR_CALM),
    'it ends without status': call => {
      call.respond(GRPC_HEADERS);
      call.end();
    },
    'the connection is closed within the answer': (call, session) => {
      call.respond(GRPC_HEADERS);
      call.write(Buffer.from([0, 0, 0, 0, 9, 1]), () => session.socket.resetAndDestroy());
    },
    'a stranger says unavailable': call =>
      call.respond(
        { ...GRPC_HEADERS, 'grpc-status': 14, 'grpc-message': 'Stream refused by server' },
        { endStream: true },
      ),
    'a proxy answers': call => call.respond({ ':status': 503 }, { endStream: true }),
    'the answer is longer than it may be': call => {
      call.respond(GRPC_HEADERS);
      call.write(Buffer.from([0, 0x7f, 0xff, 0xff, 0xff, 1]));
    },
    'the answer is compressed by means unknown': call => {
      call.respond({ ...GRPC_HEADERS, 'grpc-encoding': 'rot13' });
      call.write(Buffer.from([1, 0, 0, 0, 1, 1]));
    },
  };
  for (const [name, act] of Object.entries(breaks)) {
    it(`when ${name}`, async () => bothEnd(await http2(act), 'unknown-outcome'));
  }

  it('when the server goes with an error, whatever it says to have seen', async () => {
    for (const code of [constants.NGHTTP2_ENHANCE_YOUR_CALM, constants.NGHTTP2_INTERNAL_ERROR])
      await bothEnd(await byHand(socket => socket.end(goaway(1, code))), 'unknown-outcome');
  });

  it('when the connection is closed in good order, or in the middle of a frame', async () => {
    await bothEnd(await byHand(socket => socket.end()), 'unknown-outcome');
    await bothEnd(await byHand(socket => socket.end(frame(HEADERS, 4, 1).subarray(0, 5))), 'unknown-outcome');
  });

  it('when OK comes without an answer', async () => {
    const port = await http2(call =>
      call.respond({ ...GRPC_HEADERS, 'grpc-status': 0 }, { endStream: true }),
    );
    expect(await unary(open(port))).toMatchObject({ kind: 'unknown-outcome' });
    expect(await stream(open(port))).toBe('ended');
  });

  it('when a server falls silent; pings find it out, and the channel hears it first', async () => {
    let calls = 0;
    const behind = await http2(() => void calls++);
    const { createConnection } = await import('node:net');
    let isFrozen = false;
    const port = await tcp(socket => {
      const server = createConnection(behind, '127.0.0.1');
      closables.push(() => server.destroy());
      socket.on('data', bytes => isFrozen || server.write(bytes));
      server.on('data', bytes => isFrozen || socket.write(bytes));
    });
    const channel = open(port);
    const answer = unary(channel);
    await until(() => calls === 1, 'the call arrives');
    isFrozen = true;
    const since = performance.now();
    expect(await answer).toMatchObject({ kind: 'unknown-outcome' });
    expect(performance.now() - since).toBeLessThan(KEEP_ALIVE_MS * 3 + 1_000);
    expect(events).toEqual(['connected', 'broken', 'answered']);
  });
});

describe('a connection that breaks', () => {
  it('is told at once, before the calls that fail with it, and made anew by the next call', async () => {
    const sessions: ServerHttp2Session[] = [];
    const port = await http2((call, session) => {
      if (!sessions.includes(session)) sessions.push(session);
      if (sessions.length === 1) return;
      call.respond({ ...GRPC_HEADERS }, { waitForTrailers: true });
      call.on('wantTrailers', () => call.sendTrailers({ 'grpc-status': 0 }));
      call.end(Buffer.from([0, 0, 0, 0, 1, 7]));
    });
    const channel = open(port);
    const answers = [unary(channel), unary(channel)];
    await until(() => sessions.length > 0, 'a call arrives');
    const since = performance.now();
    sessions[0]!.socket.resetAndDestroy();
    for (const answer of answers) expect(await answer).toMatchObject({ kind: 'unknown-outcome' });
    expect(performance.now() - since).toBeLessThan(1_000);
    expect(events).toEqual(['connected', 'broken', 'answered', 'answered']);
    expect(await unary(channel)).toBeInstanceOf(Uint8Array);
    expect(events.slice(4)).toEqual(['connected', 'answered']);
  });

  it('is told when nothing runs on it', async () => {
    const sockets: Socket[] = [];
    const server = createServer();
    server.on('connection', socket => sockets.push(socket));
    const channel = open(await listening(server));
    channel.connect();
    channel.connect();
    await until(() => events.length === 1, 'connected');
    for (const socket of sockets) socket.destroy();
    await until(() => events.length === 2, 'broken');
    await pause(50);
    expect(events).toEqual(['connected', 'broken']);
    expect(sockets).toHaveLength(1);
  });
});

/** What Node holds of them in this process, also those that are only being connected. */
function sockets(): number {
  return process.getActiveResourcesInfo().filter(name => name.startsWith('TCP')).length;
}

/** More than a kernel lets wait where one is allowed to. */
const FILLING = 4;

/** Somebody who has no room for one more connection, so that the kernel leaves those who try without an answer. */
async function full(): Promise<number> {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    const server = require('node:net').createServer();
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      setImmediate(() => Atomics.wait(workerData, 0, 0) && process.exit());
    });`;
  const worker = new Worker(program, { eval: true, workerData: flag });
  const port = await new Promise<number>(resolve => worker.once('message', resolve));
  const filling = Array.from({ length: FILLING }, () => connectTcp(port, '127.0.0.1'));
  for (const socket of filling) socket.on('error', () => undefined);
  closables.push(() => {
    for (const socket of filling) socket.destroy();
    Atomics.notify(flag, 0);
    void worker.terminate();
  });
  await pause(100);
  expect(filling.at(-1)!.readyState, 'the last of them waits').toBe('opening');
  return port;
}

describe('an attempt to connect leaves nothing behind', () => {
  const tls = new GrpcTls(authority('one').issue('host'));
  const mute = () => tcp(socket => socket.resume());
  const peers: Record<string, { port: () => Promise<number>; tls?: GrpcTls }> = {
    'a server that never speaks HTTP/2': { port: mute },
    'a server that never speaks TLS': { port: mute, tls },
    'a host that takes no connection': { port: full },
  };
  const ends: Record<string, (channel: RpcChannel) => Promise<void> | void> = {
    'closed at once': channel => channel.close(),
    'closed while it waits': async channel => {
      await pause(50);
      channel.close();
    },
    'given up': () => until(() => events.length === 1, 'the attempt ends'),
  };
  for (const [peer, { port, tls }] of Object.entries(peers)) {
    for (const [name, end] of Object.entries(ends)) {
      it(`to ${peer}, ${name}`, async () => {
        const address = `127.0.0.1:${await port()}`;
        const before = sockets();
        const isGivenUp = name === 'given up';
        const connectTimeoutMs = isGivenUp ? 300 : 10_000;
        const channel = new GrpcTransport({ tls, connectTimeoutMs }).open(address);
        channel.onState = isConnected => void events.push(isConnected ? 'connected' : 'broken');
        closables.push(() => channel.close());
        channel.connect();
        if (name !== 'closed at once') await until(() => sockets() > before, 'it tries');
        await end(channel);
        await pause(50);
        await until(() => sockets() === before, 'no socket is left');
        expect(events).toEqual(isGivenUp ? ['broken'] : []);
      });
    }
  }
});

describe('after an attempt that has failed', () => {
  /** gRPC would try again after about a second, also on behalf of a channel that is closed. */
  const BACK_OFF_MS = 1_600;

  it('nothing happens by itself, be the server there again or not', async () => {
    const server = createNetServer(socket => socket.resume());
    const port = await listening(server);
    await new Promise(resolve => server.close(resolve));
    const channels = [open(port), open(port)];
    for (const channel of channels) channel.connect();
    await until(() => events.length === 2, 'both fail');
    channels[0]!.close();
    let connections = 0;
    const again = createNetServer(socket => {
      connections++;
      socket.destroy();
    });
    closables.push(() => void again.close());
    await new Promise<void>(resolve => void again.listen(port, '127.0.0.1', resolve));
    const before = sockets();
    await pause(BACK_OFF_MS);
    expect([connections, sockets() - before, events]).toEqual([0, 0, ['broken', 'broken']]);
    channels[1]!.connect();
    await until(() => connections === 1, 'it tries when it is told to');
  });

  it('nothing is left of many that failed by their certificates', async () => {
    const [one, other] = [authority('one'), authority('other')];
    const endpoint = endpointOf({ 's/echo': ECHO });
    const tls = { ...one.issue('host'), ca: one.ca };
    const server = await GrpcServer.listen(endpoint, { host: '127.0.0.1', port: 0, tls });
    const strange = new GrpcTls({ ...other.issue('stranger'), ca: one.ca });
    const before = sockets();
    const channels = Array.from({ length: 20 }, () =>
      new GrpcTransport({ tls: strange }).open(`127.0.0.1:${server.port}`),
    );
    for (const channel of channels)
      expect(await ask(channel, 's/echo', Buffer.alloc(8))).toMatchObject({ kind: 'unavailable' });
    await pause(BACK_OFF_MS);
    expect([server.connections, sockets() - before]).toEqual([0, 0]);
    expect(server.counters).toMatchObject({ accepted: 20, tlsFailed: 20 });
    for (const channel of channels) channel.close();
    await server.close();
  });
});
