import { randomBytes } from 'node:crypto';
import { type ClientHttp2Session, connect as http2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GrpcServer } from '../../../src/rpc/io/grpc-server.js';
import { GrpcTls } from '../../../src/rpc/io/grpc-tls.js';
import { GrpcTransport } from '../../../src/rpc/io/grpc-transport.js';
import { STREAM_PATH, UNARY_PATH } from '../../../src/rpc/io/grpc-wire.js';
import { HELD_LOOK_MS } from '../../../src/rpc/io/held-bytes.js';
import type { RpcChannel, StreamCall } from '../../../src/rpc/transport.js';
import { authority } from '../../underlay/io/certificates.js';
import {
  ask,
  CONTEXT,
  Ear,
  ECHO,
  endpointOf,
  Hearing,
  MIRROR,
  pause,
  type StreamMethod,
  until,
} from '../transport-ends.js';
import { GrpcWorld, MESSAGE_BYTES_MAX } from './grpc-world.js';
import * as h2 from './http2-frames.js';

/** What strangers do to the port of a server that has callers to serve. */

const KEEP_ALIVE_MS = 500;
const HELD_BYTES_MAX = 16 << 20;
/** What a server may hold on a stranger's account, with all that a test itself makes. */
const MEMORY_BYTES_MAX = 160 << 20;

let world: GrpcWorld;
let honest: RpcChannel;
let hearing: Hearing;
let stream: StreamCall;
let sockets: Socket[];
let closables: (() => void)[];
let memory: number;
/** Of floods. */
let ears: Ear[];

beforeEach(async () => {
  sockets = [];
  closables = [];
  world = new GrpcWorld();
  ears = [];
  const endpoint = endpointOf({ 's/echo': ECHO }, { 's/mirror': MIRROR, 's/flood': flood });
  world.server = await GrpcServer.listen(endpoint, {
    host: '127.0.0.1',
    port: 0,
    limits: { messageBytesMax: MESSAGE_BYTES_MAX, keepAliveMs: KEEP_ALIVE_MS },
    heldBytesMax: HELD_BYTES_MAX,
    // The honest one lives where the strangers do.
    connectionsPerAddressMax: 1_024,
  });
  honest = world.open();
  hearing = new Hearing();
  stream = honest.stream('s/mirror', CONTEXT, hearing);
  await isWell();
  memory = process.memoryUsage().rss;
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const close of closables) close();
  await world.close();
});

const CHUNK = Buffer.alloc(65_536, 7);

/** Once it is spoken to, it says as much as it may, for ever. */
const flood: StreamMethod = (_context, sink) => {
  const ear = new Ear();
  const more = () => {
    while (!ear.isPaused && ear.cancels === 0) sink.message(CHUNK);
  };
  ear.onWrite = more;
  ear.onResume = more;
  ears.push(ear);
  return ear;
};

/** A stranger's connection; `closed` once the server has ended it. */
function dial(bytes?: h2.Bytes): Socket {
  const socket = connect({ host: '127.0.0.1', port: world.server.port });
  socket.on('error', () => undefined);
  socket.resume();
  sockets.push(socket);
  if (bytes !== undefined) socket.write(bytes);
  return socket;
}

function gone(socket: Socket, what: string): Promise<void> {
  return until(() => socket.destroyed || socket.readableEnded, what);
}

/** The honest caller's connection, calls and stream go on as if nothing were. */
async function isWell(): Promise<void> {
  const before = hearing.messages.length;
  stream.write(Buffer.from('still there'));
  expect(await ask(honest, 's/echo', Buffer.alloc(100))).toBeInstanceOf(Uint8Array);
  await until(() => hearing.messages.length === before + 1, 'the stream goes on');
  expect(hearing.endings).toBe(0);
}

function isFrugal(): void {
  expect(process.memoryUsage().rss - memory).toBeLessThan(MEMORY_BYTES_MAX);
}

const TO = { 'shoal-to': 's%2Fecho/a1/acme/' };
const TO_FLOOD = { 'shoal-to': 's%2Fflood/a1/acme/' };

function headers(path: string, more: Readonly<Record<string, string>> = TO): Record<string, string> {
  return { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', ...more };
}

/** A stranger who speaks HTTP/2; its streams have windows of so many bytes. */
function dialHttp2(initialWindowSize = 65_535): ClientHttp2Session {
  const session = http2(`http://127.0.0.1:${world.server.port}`, { settings: { initialWindowSize } });
  session.on('error', () => undefined);
  closables.push(() => session.destroy());
  return session;
}

/** How the server ends a call: the status of gRPC, else that of HTTP, else the reset. */
function endOf(session: ClientHttp2Session, sent: Record<string, string>, body: h2.Bytes): Promise<string> {
  const call = session.request(sent);
  return new Promise(resolve => {
    call.on('response', answer => {
      if (answer[':status'] !== 200) resolve(`HTTP ${answer[':status']}`);
      else if ('grpc-status' in answer) resolve(status[Number(answer['grpc-status'])]!);
    });
    call.on('trailers', trailers => resolve(status[Number(trailers['grpc-status'])]!));
    call.on('error', () => undefined);
    call.on('close', () => resolve(`reset ${call.rstCode}`));
    call.resume();
    call.end(body);
  });
}

describe('a server is not disturbed by', () => {
  it('random bytes, other protocols and truncated frames', async () => {
    const openings = [
      randomBytes(100),
      randomBytes(100_000),
      Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'),
      Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
      Buffer.concat([h2.opening(), randomBytes(5_000)]),
      Buffer.concat([h2.opening(), h2.frame(h2.DATA, 0, 0, Buffer.alloc(10))]),
      Buffer.concat([h2.opening(), h2.frame(h2.HEADERS, 4, 1, randomBytes(500))]),
      Buffer.concat([h2.opening(), Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])]),
      Buffer.concat([h2.opening(), h2.frame(h2.HEADERS, 4, 2, h2.headerBlock(UNARY_PATH))]),
    ];
    const strangers = openings.map(bytes => [dial(bytes), bytes.subarray(0, 20).toString('latin1')] as const);
    for (const [socket, words] of strangers) await gone(socket, words);
    // Cut anywhere, a call is no call.
    const whole = Buffer.concat([
      h2.opening(),
      h2.call(1, UNARY_PATH, TO),
      h2.frame(h2.DATA, 1, 1, h2.message(9)),
    ]);
    for (let length = 1; length < whole.length; length += 7) dial().end(whole.subarray(0, length));
    await isWell();
    await until(() => world.server.connections === 1 && world.server.callsRunning === 1, 'none is left');
    isFrugal();
  });

  it('connections that say nothing, or stop in the middle', async () => {
    for (let at = 0; at < 200; at++) dial();
    for (let at = 0; at < 50; at++) dial(h2.PREFACE.subarray(0, 10));
    for (let at = 0; at < 50; at++) dial(h2.opening());
    await until(() => world.server.connections > 250, 'they are there');
    await isWell();
    await until(() => world.server.connections === 1, 'pings have found them out');
    await isWell();
    isFrugal();
  });

  it('calls that are none', async () => {
    const before = world.server.counters.calls;
    const socket = dial(h2.opening());
    let id = 1;
    const send = (path: string, headers: Record<string, string>, ...data: h2.Bytes[]): void => {
      socket.write(h2.call(id, path, headers));
      for (const body of data) socket.write(h2.frame(h2.DATA, body === data.at(-1) ? 1 : 0, id, body));
      id += 2;
    };
    for (const path of [UNARY_PATH, STREAM_PATH]) {
      send(path, {}, h2.message(4));
      for (const to of [
        '',
        '/',
        '%/a/b/',
        'a/b/c',
        'a/b/c/d',
        'a/b/c/99999999999',
        '%C3%28/a/b/',
        'x'.repeat(9_000),
      ])
        send(path, { 'shoal-to': to }, h2.message(4));
      send(path, { ...TO, 'grpc-timeout': 'soon' }, h2.message(4));
      send(path, { ...TO, 'grpc-timeout': '99999999H' }, h2.message(4));
      send(path, { ...TO, 'grpc-encoding': 'rot13' }, h2.message(4, 4, 1));
      send(path, { ...TO, 'grpc-encoding': 'gzip' }, h2.message(4, 4, 1));
      send(path, TO, h2.message(0x7fff_ffff, 100));
      send(path, TO, h2.message(4), h2.message(4), h2.message(4));
      send(path, TO, Buffer.alloc(3));
      send(path, TO, Buffer.alloc(0));
    }
    send('/shoalmq.Rpc/Other', TO, h2.message(4));
    send('/', {}, h2.message(4));
    send(UNARY_PATH, { ...TO, 'content-type': 'text/html' }, h2.message(4));
    await until(() => world.server.counters.calls > before + 20, 'they have arrived');
    await isWell();
    socket.destroy();
    await until(() => world.server.callsRunning === 1, 'none is left');
  });

  it('calls that are none, each of which gets a definite answer', async () => {
    const session = dialHttp2();
    const small = h2.message(4);
    const ends: Record<string, Promise<string>> = {};
    for (const [name, path, to] of [
      ['Unary', UNARY_PATH, TO],
      ['Stream', STREAM_PATH, { 'shoal-to': 's%2Fmirror/a1/acme/' }],
    ] as const) {
      const end = (sent: Record<string, string>, body: h2.Bytes = small) =>
        endOf(session, headers(path, sent), body);
      ends[`${name}: no destination`] = end({});
      ends[`${name}: no destination that can be read`] = end({ 'shoal-to': '%C3%28/a/b/' });
      ends[`${name}: no service of that name`] = end({ 'shoal-to': 's%2Fnone/a/b/' });
      ends[`${name}: an unknown compression`] = end({ ...to, 'grpc-encoding': 'rot13' }, h2.message(4, 4, 1));
      ends[`${name}: too large`] = end(to, h2.message(MESSAGE_BYTES_MAX + 100, 100));
      ends[`${name}: cut short`] = end(to, h2.message(4, 3));
    }
    ends['no method of ours'] = endOf(session, headers('/shoalmq.Rpc/Other'), small);
    ends['no gRPC'] = endOf(session, { ...headers(UNARY_PATH), 'content-type': 'text/html' }, small);
    const heard: Record<string, string> = {};
    for (const [what, end] of Object.entries(ends)) heard[what] = await end;
    expect(heard).toEqual({
      'Unary: no destination': 'ABORTED',
      'Unary: no destination that can be read': 'ABORTED',
      'Unary: no service of that name': 'UNAVAILABLE',
      'Unary: an unknown compression': 'UNIMPLEMENTED',
      'Unary: too large': 'RESOURCE_EXHAUSTED',
      'Unary: cut short': 'ABORTED',
      'Stream: no destination': 'ABORTED',
      'Stream: no destination that can be read': 'ABORTED',
      'Stream: no service of that name': 'UNAVAILABLE',
      'Stream: an unknown compression': 'UNIMPLEMENTED',
      'Stream: too large': 'RESOURCE_EXHAUSTED',
      'Stream: cut short': 'UNKNOWN',
      'no method of ours': 'UNIMPLEMENTED',
      'no gRPC': 'HTTP 415',
    });
    await isWell();
    isFrugal();
  });

  it('callers who may send more than it takes', async () => {
    const large = new GrpcTransport({ limits: { messageBytesMax: 8 * MESSAGE_BYTES_MAX } });
    const channel = large.open(`127.0.0.1:${world.server.port}`);
    world.channels.push(channel);
    const talk = new Hearing();
    const talking = channel.stream('s/mirror', CONTEXT, talk);
    talking.write(CHUNK);
    const body = Buffer.alloc(4 * MESSAGE_BYTES_MAX);
    const answers = Array.from({ length: 5 }, () => ask(channel, 's/echo', body));
    for (const answer of answers) expect(await answer).toMatchObject({ kind: 'aborted' });
    const doubtful = new Hearing();
    channel.stream('s/mirror', CONTEXT, doubtful).write(body);
    expect(await doubtful.over).toMatchObject({ kind: 'unknown-outcome' });
    // The connection bears it, and what else runs there.
    talking.write(CHUNK);
    await until(() => talk.messages.length === 2, 'the other stream goes on');
    expect(await ask(channel, 's/echo', CHUNK)).toBeInstanceOf(Uint8Array);
    await isWell();
    isFrugal();
  });

  it('messages that grow when they are decompressed', async () => {
    const bomb = gzipSync(Buffer.alloc(64 << 20));
    const head = Buffer.alloc(5);
    head[0] = 1;
    head.writeUInt32BE(bomb.length, 1);
    const socket = dial(h2.opening());
    const body = Buffer.concat([head, bomb]);
    for (let id = 1; id < 60; id += 2) {
      socket.write(h2.call(id, UNARY_PATH, { ...TO, 'grpc-encoding': 'gzip' }));
      for (let at = 0; at < body.length; at += 16_384) {
        const isLast = at + 16_384 >= body.length;
        socket.write(h2.frame(h2.DATA, isLast ? 1 : 0, id, body.subarray(at, at + 16_384)));
      }
    }
    await until(() => world.server.counters.calls > 3, 'they arrive');
    await sleep(300);
    await isWell();
    isFrugal();
  });

  it('floods: headers without end, resets, pings, settings', async () => {
    const block = h2.headerBlock(UNARY_PATH, TO);
    const continued = dial(h2.opening());
    continued.write(h2.frame(h2.HEADERS, 0, 1, block));
    const more = h2.frame(h2.CONTINUATION, 0, 1, Buffer.alloc(1_000, 0x40));
    for (let at = 0; at < 1_000; at++) continued.write(more);
    const large = dial(h2.opening());
    large.write(h2.call(1, UNARY_PATH, { big: 'x'.repeat(15_000) }));
    for (let id = 3; id < 21; id += 2) large.write(h2.call(id, UNARY_PATH, { big: 'x'.repeat(15_000) }));
    const resetting = dial(h2.opening());
    for (let at = 0; at < 20_000; at++) {
      const id = at * 2 + 1;
      resetting.write(Buffer.concat([h2.frame(h2.HEADERS, 4, id, block), h2.reset(id, 8)]));
    }
    const pinging = dial(h2.opening());
    pinging.pause();
    const ping = Buffer.concat(Array.from({ length: 100 }, () => h2.frame(h2.PING, 0, 0, Buffer.alloc(8))));
    const setting = Buffer.concat(Array.from({ length: 100 }, () => h2.frame(h2.SETTINGS, 0, 0)));
    for (let at = 0; at < 2_000; at++) pinging.write(at % 2 === 0 ? ping : setting);
    await gone(continued, 'headers without end');
    await gone(resetting, 'resets');
    await isWell();
    isFrugal();
    // Less than what it sent: resets are counted, and the connection closed.
    expect(world.server.counters.calls).toBeLessThan(5_000);
  });

  it('very many messages that never end: the connection is closed that has most of them', async () => {
    const stranger = dialHttp2();
    const modest = dialHttp2();
    const begin = (session: ClientHttp2Session, path: string, sent: number): void => {
      const call = session.request(headers(path));
      call.on('error', () => undefined);
      call.write(h2.message(MESSAGE_BYTES_MAX, sent));
    };
    begin(modest, UNARY_PATH, 1_000);
    for (let at = 0; at < 100; at++)
      begin(stranger, at % 2 === 0 ? UNARY_PATH : STREAM_PATH, MESSAGE_BYTES_MAX - 1);
    await until(() => stranger.destroyed, 'closed');
    expect(world.server.counters.crowdedOut).toBe(1);
    await isWell();
    expect(modest.destroyed).toBe(false);
  });

  it('callers who ask for much and read nothing', async () => {
    const stranger = dialHttp2(0);
    for (let at = 0; at < 60; at++) {
      const call = stranger.request(headers(UNARY_PATH));
      call.on('error', () => undefined);
      call.pause();
      call.end(h2.message(MESSAGE_BYTES_MAX));
    }
    await until(() => stranger.destroyed, 'closed');
    expect(world.server.counters.crowdedOut).toBe(1);
    await isWell();
    isFrugal();
    await until(() => world.server.callsRunning === 1, 'none is left');
  });
});

describe('a server bounds what it holds for slow readers', () => {
  function openFloods(session: ClientHttp2Session, count: number): void {
    for (let at = 0; at < count; at++) {
      const call = session.request(headers(STREAM_PATH, TO_FLOOD));
      call.on('error', () => undefined);
      call.pause();
      call.write(h2.message(1));
    }
  }

  it('of streams: their services are told to wait', async () => {
    const stranger = dialHttp2(0);
    openFloods(stranger, 40);
    await until(() => ears.filter(ear => ear.isPaused).length === 40, 'all wait');
    await pause(2 * HELD_LOOK_MS);
    await isWell();
    isFrugal();
    expect([stranger.destroyed, world.server.counters.crowdedOut]).toEqual([false, 0]);
    stranger.destroy();
    await until(() => ears.every(ear => ear.cancels === 1), 'they are told that nobody listens');
    expect(world.server.callsRunning).toBe(1);
  });

  it('of very many streams: the connection is closed', async () => {
    const stranger = dialHttp2(0);
    openFloods(stranger, 100);
    await until(() => stranger.destroyed, 'closed');
    expect(world.server.counters.crowdedOut).toBe(1);
    await isWell();
    isFrugal();
    await until(() => ears.every(ear => ear.cancels === 1), 'they are told that nobody listens');
  });

  it('that do not even read what arrives: pings find them out', async () => {
    const socket = dial(h2.opening());
    socket.pause();
    for (let id = 1; id < 41; id += 2) {
      socket.write(h2.call(id, UNARY_PATH, TO));
      for (let left = 16; left > 0; left--) {
        const body = left === 16 ? h2.message(MESSAGE_BYTES_MAX, 16_000) : Buffer.alloc(16_000, 7);
        socket.write(h2.frame(h2.DATA, 0, id, body));
      }
    }
    await until(() => world.server.connections === 2, 'it is there');
    await isWell();
    await until(() => world.server.connections === 1, 'it is gone');
    await isWell();
    isFrugal();
    expect(world.server.callsRunning).toBe(1);
  });

  it('on a connection whose other calls go on', async () => {
    const slow = Array.from({ length: 30 }, () => new Hearing());
    const calls = slow.map(each => honest.stream('s/flood', CONTEXT, each));
    for (const call of calls) {
      call.pause();
      call.write(CHUNK.subarray(0, 1));
    }
    await until(() => ears.filter(ear => ear.isPaused).length === 30, 'all wait');
    await isWell();
    isFrugal();
    const before = ears.reduce((sum, ear) => sum + Number(ear.isPaused), 0);
    expect(before).toBe(30);
    slow[0]!.onMessage = () => slow[0]!.messages.length > 100 && calls[0]!.cancel();
    calls[0]!.resume();
    await until(() => slow[0]!.messages.length > 100, 'one that reads again is served');
    expect(slow.slice(1).every(({ messages, endings }) => messages.length + endings === 0)).toBe(true);
    await isWell();
    for (const call of calls) call.cancel();
    await until(() => world.server.callsRunning === 1, 'none is left');
  });
});

describe('a server with mutual TLS is not disturbed by', () => {
  it('handshakes that stop, fail, or are none', async () => {
    const one = authority('one');
    const tls = { ...one.issue('host'), ca: one.ca };
    await world.close();
    world = new GrpcWorld(tls);
    await world.listen(endpointOf({ 's/echo': ECHO }, { 's/mirror': MIRROR }));
    honest = world.open();
    hearing = new Hearing();
    stream = honest.stream('s/mirror', CONTEXT, hearing);
    await isWell();
    for (let at = 0; at < 100; at++) dial();
    for (let at = 0; at < 50; at++) dial(Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]));
    const random = dial(randomBytes(1_000));
    const clear = dial(h2.opening());
    await gone(random, 'random bytes');
    await gone(clear, 'HTTP/2 in the clear');
    await isWell();
    expect(world.server.counters.tlsFailed).toBeGreaterThan(0);
  });

  it('callers with certificates of another authority, however often they come', async () => {
    const [one, other] = [authority('one'), authority('other')];
    const tls = { ...one.issue('host'), ca: one.ca };
    await world.close();
    world = new GrpcWorld(tls);
    await world.listen(endpointOf({ 's/echo': ECHO }, { 's/mirror': MIRROR }));
    honest = world.open();
    hearing = new Hearing();
    stream = honest.stream('s/mirror', CONTEXT, hearing);
    await isWell();
    const strange = new GrpcTls({ ...other.issue('stranger'), ca: one.ca });
    for (let round = 0; round < 5; round++) {
      const strangers = Array.from({ length: 20 }, () => world.open(world.server.port, strange));
      const answers = await Promise.all(strangers.map(channel => ask(channel, 's/echo', CHUNK)));
      for (const answer of answers) expect(answer).toMatchObject({ kind: 'unavailable' });
      await isWell();
    }
    await until(() => world.server.connections === 1, 'none is left');
    expect(world.server.counters).toMatchObject({ tlsFailed: 100, calls: 1 + 6 });
    isFrugal();
  });
});
