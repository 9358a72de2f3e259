import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RPC_FAILURE_CODES } from '../../src/rpc/failure.js';
import type { CallContext, RpcChannel, RpcEndpoint, StreamSink, UnarySink } from '../../src/rpc/transport.js';
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
  type UnaryMethod,
  until,
} from './transport-ends.js';

/** One server and one channel to it; both are closed by `close`. */
export interface RpcWorld {
  /** Bytes of a body at most; Infinity where there is no such limit. */
  readonly messageBytesMax: number;
  /** Serves this, and opens a channel to it. */
  connect(endpoint: RpcEndpoint): Promise<RpcChannel>;
  close(): Promise<void>;
}

function numbered(at: number, bytes = 4): Buffer {
  const body = Buffer.alloc(bytes, at & 0xff);
  body.writeUInt32LE(at);
  return body;
}

function numbers(messages: readonly Uint8Array[]): number[] {
  return messages.map(body => Buffer.from(body.buffer, body.byteOffset, body.length).readUInt32LE());
}

/** What every transport has to hold; `transport.ts` and `handlers.ts` say it in words. */
export function transportContract(name: string, makeWorld: () => RpcWorld): void {
  describe(`calls by ${name}`, () => {
    let world: RpcWorld;
    beforeEach(() => {
      world = makeWorld();
    });
    afterEach(() => world.close());

    unaryContract(() => world);
    streamContract(() => world);
    pressureContract(() => world);
  });
}

const never: UnaryMethod = () => new Ear();

function unaryContract(world: () => RpcWorld): void {
  it('answers a unary call, with bodies from empty to the limit', async () => {
    const channel = await world().connect(endpointOf({ 's/echo': ECHO }));
    for (const bytes of [0, 1, 100, 65_536, Math.min(world().messageBytesMax, 1 << 20)]) {
      const body = Buffer.alloc(bytes, 7);
      const answer = await ask(channel, 's/echo', body);
      expect(answer).toBeInstanceOf(Uint8Array);
      expect(Buffer.compare(answer as Uint8Array, body)).toBe(0);
    }
  });

  it('carries the method, the server, the tenant in any script, and what is left of the deadline', async () => {
    const heard: { method: string; context: CallContext }[] = [];
    const endpoint: RpcEndpoint = {
      unary(method, body, context, sink) {
        heard.push({ method, context });
        sink.done(body);
        return new Ear();
      },
      stream(method, context, sink) {
        heard.push({ method, context });
        sink.ended();
        return new Ear();
      },
    };
    const channel = await world().connect(endpoint);
    const names = ['', 'acme', 'müller & söhne/1', '株式会社', '%41', '\n', 'a b c'];
    for (const tenant of names) {
      await ask(channel, `s/${tenant}`, Buffer.alloc(1), { tenant, deadlineMs: 5_000, server: tenant });
      const hearing = new Hearing();
      channel.stream(`s/${tenant}`, { tenant, deadlineMs: 70, server: tenant }, hearing);
      await hearing.over;
    }
    const twice = names.flatMap(name => [name, name]);
    expect(heard.map(({ context }) => context.tenant)).toEqual(twice);
    expect(heard.map(({ context }) => context.server)).toEqual(twice);
    expect(heard.map(({ method }) => method)).toEqual(twice.map(name => `s/${name}`));
    for (let at = 0; at < heard.length; at++) {
      expect(heard[at]!.context.deadlineMs).toBeLessThanOrEqual(at % 2 === 0 ? 5_000 : 70);
      expect(heard[at]!.context.deadlineMs).toBeGreaterThan(at % 2 === 0 ? 100 : 0);
    }
    channel.stream('s/x', { ...CONTEXT, deadlineMs: Number.POSITIVE_INFINITY }, new Hearing());
    await until(() => heard.at(-1)!.context.deadlineMs === Number.POSITIVE_INFINITY, 'no deadline');
  });

  it('hands a failure of the server through, kind and words', async () => {
    const fail: UnaryMethod = (body, _context, sink) => {
      sink.failed({ kind: RPC_FAILURE_CODES[body[0]!]!, detail: 'because: ∞ % 7' });
      return new Ear();
    };
    const channel = await world().connect(endpointOf({ 's/fail': fail }));
    for (const [at, kind] of RPC_FAILURE_CODES.entries()) {
      expect(await ask(channel, 's/fail', Buffer.of(at))).toEqual({ kind, detail: 'because: ∞ % 7' });
    }
  });

  it('tells nothing after a cancel, and tells the server', async () => {
    const seen: string[] = [];
    const ears: Ear[] = [];
    const late: UnarySink[] = [];
    const method: UnaryMethod = (_body, _context, sink) => {
      late.push(sink);
      ears.push(new Ear());
      return ears.at(-1)!;
    };
    const channel = await world().connect(endpointOf({ 's/late': method, 's/echo': ECHO }));
    const sink = { done: () => void seen.push('done'), failed: () => void seen.push('failed') };
    const call = channel.unary('s/late', Buffer.alloc(1), CONTEXT, sink);
    await until(() => late.length === 1, 'the call arrives');
    call.cancel();
    call.cancel();
    await until(() => ears[0]!.cancels === 1, 'the server is told');
    late[0]!.done(Buffer.alloc(1));
    channel.unary('s/late', Buffer.alloc(1), CONTEXT, sink).cancel();
    await ask(channel, 's/echo', Buffer.alloc(1));
    await pause(30);
    expect(seen).toEqual([]);
    expect(ears[0]!.cancels).toBe(1);
  });

  it('takes the first reply of a server and no other', async () => {
    const twice: UnaryMethod = (_body, _context, sink) => {
      sink.done(Buffer.from('first'));
      sink.done(Buffer.from('second'));
      sink.failed({ kind: 'aborted', detail: 'third' });
      return new Ear();
    };
    const channel = await world().connect(endpointOf({ 's/twice': twice }));
    const answers: unknown[] = [];
    const push = (answer: unknown) => void answers.push(answer);
    channel.unary('s/twice', Buffer.alloc(1), CONTEXT, { done: push, failed: push });
    await until(() => answers.length > 0, 'an answer');
    await pause(20);
    expect(answers).toHaveLength(1);
    expect(Buffer.from(answers[0] as Uint8Array).toString()).toBe('first');
  });

  it('refuses bodies over the limit, in both directions, and goes on', async () => {
    const { messageBytesMax } = world();
    if (!Number.isFinite(messageBytesMax)) return;
    let calls = 0;
    const big: UnaryMethod = (_body, _context, sink) => {
      calls++;
      sink.done(Buffer.alloc(messageBytesMax + 1));
      return new Ear();
    };
    const channel = await world().connect(endpointOf({ 's/big': big, 's/echo': ECHO }));
    const detail = expect.stringContaining(`${messageBytesMax}`);
    const sent = await ask(channel, 's/big', Buffer.alloc(messageBytesMax + 1));
    expect(sent).toMatchObject({ kind: 'aborted', detail });
    expect(calls).toBe(0);
    const answered = await ask(channel, 's/big', Buffer.alloc(1));
    expect(answered).toMatchObject({ kind: 'unknown-outcome', detail });
    expect(calls).toBe(1);
    expect(await ask(channel, 's/echo', Buffer.alloc(1))).toBeInstanceOf(Uint8Array);
  });

  it('never calls a sink from within the channel', async () => {
    const channel = await world().connect(endpointOf({ 's/echo': ECHO }));
    let isWithin = true;
    const seen: boolean[] = [];
    const note = () => void seen.push(isWithin);
    const sink = { done: note, failed: note, message: note, room: note, ended: note };
    channel.onState = note;
    channel.connect();
    channel.unary('s/echo', Buffer.alloc(1), CONTEXT, sink);
    channel.unary('s/none', Buffer.alloc(1), { ...CONTEXT, deadlineMs: 0 }, sink);
    channel.stream('s/none', CONTEXT, sink);
    isWithin = false;
    await until(() => seen.length >= 3, 'three answers');
    isWithin = true;
    channel.close();
    channel.unary('s/echo', Buffer.alloc(1), CONTEXT, sink);
    const before = seen.length;
    isWithin = false;
    await until(() => seen.length > before, 'a fourth');
    expect(new Set(seen)).toEqual(new Set([false]));
  });

  it('answers nothing but unavailable once it is closed', async () => {
    const channel = await world().connect(endpointOf({ 's/echo': ECHO }));
    await ask(channel, 's/echo', Buffer.alloc(1));
    channel.close();
    channel.close();
    expect(await ask(channel, 's/echo', Buffer.alloc(1))).toMatchObject({ kind: 'unavailable' });
    const hearing = new Hearing();
    channel.stream('s/echo', CONTEXT, hearing);
    expect(await hearing.over).toMatchObject({ kind: 'unavailable' });
  });
}

function streamContract(world: () => RpcWorld): void {
  it('carries messages both ways in order, and both ends', async () => {
    const channel = await world().connect(endpointOf({}, { 's/mirror': MIRROR }));
    const hearing = new Hearing();
    const call = channel.stream('s/mirror', CONTEXT, hearing);
    for (let at = 0; at < 500; at++) call.write(numbered(at, 4 + (at % 300)));
    call.end();
    expect(await hearing.over).toBe('ended');
    expect(numbers(hearing.messages)).toEqual(Array.from({ length: 500 }, (_, at) => at));
    expect(hearing.endings).toBe(1);
  });

  it('carries empty messages and large ones', async () => {
    const channel = await world().connect(endpointOf({}, { 's/mirror': MIRROR }));
    const hearing = new Hearing();
    const call = channel.stream('s/mirror', CONTEXT, hearing);
    const sizes = [0, Math.min(world().messageBytesMax, 1 << 20), 0, 0, 65_536, 1];
    for (const bytes of sizes) call.write(Buffer.alloc(bytes, 3));
    call.end();
    expect(await hearing.over).toBe('ended');
    expect(hearing.messages.map(body => body.length)).toEqual(sizes);
  });

  it('lets the server end first, or fail with a reason', async () => {
    const speech: StreamMethod = (_context, sink) => {
      for (let at = 0; at < 3; at++) sink.message(numbered(at));
      sink.ended();
      return new Ear();
    };
    const refusal: StreamMethod = (_context, sink) => {
      sink.failed({ kind: 'throttled', detail: 'too many' });
      return new Ear();
    };
    const channel = await world().connect(endpointOf({}, { 's/speech': speech, 's/refusal': refusal }));
    const first = new Hearing();
    const call = channel.stream('s/speech', CONTEXT, first);
    expect(await first.over).toBe('ended');
    expect(numbers(first.messages)).toEqual([0, 1, 2]);
    call.write(Buffer.alloc(1));
    call.end();
    call.cancel();
    const second = new Hearing();
    channel.stream('s/refusal', CONTEXT, second);
    expect(await second.over).toEqual({ kind: 'throttled', detail: 'too many' });
    expect(first.endings).toBe(1);
  });

  it('tells the server of a cancel, and not of an end', async () => {
    const ear = new Ear();
    const channel = await world().connect(endpointOf({}, { 's/listen': () => ear }));
    const mine = new Hearing();
    const call = channel.stream('s/listen', CONTEXT, mine);
    call.write(Buffer.alloc(1));
    await until(() => ear.bodies.length === 1, 'a message');
    call.cancel();
    call.write(Buffer.alloc(1));
    await until(() => ear.cancels === 1, 'the server is told');
    await pause(20);
    expect(ear).toMatchObject({ ends: 0, cancels: 1 });
    expect(ear.bodies).toHaveLength(1);
    expect(mine.endings).toBe(0);
  });

  it('is not ended by its deadline, which is for the core to keep', async () => {
    const channel = await world().connect(endpointOf({}, { 's/mirror': MIRROR }));
    const mine = new Hearing();
    const call = channel.stream('s/mirror', { ...CONTEXT, deadlineMs: 10 }, mine);
    call.write(numbered(1));
    await pause(80);
    call.write(numbered(2));
    call.end();
    expect(await mine.over).toBe('ended');
    expect(numbers(mine.messages)).toEqual([1, 2]);
  });

  it('ends a stream whose message is over the limit, on either side', async () => {
    const { messageBytesMax } = world();
    if (!Number.isFinite(messageBytesMax)) return;
    const ears: Ear[] = [];
    const big: StreamMethod = (_context, sink) => {
      const ear = new Ear();
      ear.onWrite = () => sink.message(Buffer.alloc(messageBytesMax + 1));
      ears.push(ear);
      return ear;
    };
    const channel = await world().connect(endpointOf({}, { 's/big': big }));
    const mine = new Hearing();
    channel.stream('s/big', CONTEXT, mine).write(Buffer.alloc(messageBytesMax + 1));
    expect(await mine.over).toMatchObject({ kind: 'aborted' });
    const theirs = new Hearing();
    channel.stream('s/big', CONTEXT, theirs).write(Buffer.alloc(1));
    expect(await theirs.over).toMatchObject({ kind: 'unknown-outcome' });
    await until(() => ears.at(-1)!.cancels === 1, 'the server hears of it');
  });

  it('fails the streams that run when the channel closes', async () => {
    const ear = new Ear();
    const channel = await world().connect(endpointOf({ 's/never': never }, { 's/listen': () => ear }));
    const mine = new Hearing();
    channel.stream('s/listen', CONTEXT, mine).write(Buffer.alloc(1));
    await until(() => ear.bodies.length === 1, 'a message');
    channel.close();
    expect(await mine.over).toMatchObject({ kind: 'unknown-outcome' });
    await until(() => ear.cancels === 1, 'the server is told');
  });
}

/** Writes until there is no room, at most so much. */
function fill(write: (body: Uint8Array) => boolean, bytesMax: number): number {
  let bytes = 0;
  while (bytes < bytesMax) {
    bytes += 65_536;
    if (!write(Buffer.alloc(65_536))) break;
  }
  return bytes;
}

/** What both sides, both kernels and the windows hold; far below what is offered. */
const HELD_BYTES_MAX = 8 << 20;
const OFFERED_BYTES = 64 << 20;

function pressureContract(world: () => RpcWorld): void {
  it('pushes back on a caller whose server takes no more, and goes on when it does', async () => {
    const ear = new Ear();
    ear.hasRoom = false;
    let served: StreamSink | undefined;
    const slow: StreamMethod = (_context, sink) => {
      served = sink;
      ear.onEnd = () => sink.ended();
      return ear;
    };
    const channel = await world().connect(endpointOf({}, { 's/slow': slow }));
    const mine = new Hearing();
    const call = channel.stream('s/slow', CONTEXT, mine);
    const write = (body: Uint8Array) => call.write(body);
    let sent = fill(write, OFFERED_BYTES);
    await until(() => served !== undefined, 'the stream arrives');
    for (let more = 1; more > 0; ) {
      const { rooms } = mine;
      await pause(50);
      more = mine.rooms > rooms ? fill(write, OFFERED_BYTES) : 0;
      sent += more;
    }
    expect(sent).toBeLessThan(HELD_BYTES_MAX);
    expect(ear.bodies.length).toBeLessThanOrEqual(1);
    ear.hasRoom = true;
    served!.room();
    await until(() => mine.rooms > 0, 'room');
    call.end();
    expect(await mine.over).toBe('ended');
    expect(total(ear.bodies)).toBe(sent);
  });

  it('pushes back on a server whose caller takes no more, and goes on when it does', async () => {
    let sent = 0;
    const ear = new Ear();
    const fast: StreamMethod = (_context, sink) => {
      const more = () => {
        while (!ear.isPaused && sent < OFFERED_BYTES / 4) {
          sent += 65_536;
          sink.message(Buffer.alloc(65_536));
        }
        if (sent >= OFFERED_BYTES / 4) sink.ended();
      };
      ear.onResume = more;
      ear.onWrite = more;
      return ear;
    };
    const channel = await world().connect(endpointOf({}, { 's/fast': fast }));
    const mine = new Hearing();
    const call = channel.stream('s/fast', CONTEXT, mine);
    call.pause();
    call.write(Buffer.alloc(1));
    await until(() => sent > 0, 'it begins');
    for (let before = 0; before < sent; await pause(50)) before = sent;
    expect(sent).toBeLessThan(HELD_BYTES_MAX);
    expect(mine.messages).toHaveLength(0);
    call.resume();
    expect(await mine.over).toBe('ended');
    expect(total(mine.messages)).toBe(sent);
    expect(sent).toBe(OFFERED_BYTES / 4);
  });

  it('delivers nothing while paused', async () => {
    const channel = await world().connect(endpointOf({}, { 's/mirror': MIRROR }));
    const mine = new Hearing();
    const call = channel.stream('s/mirror', CONTEXT, mine);
    mine.onMessage = () => call.pause();
    for (let at = 0; at < 5; at++) call.write(numbered(at));
    call.end();
    for (let count = 1; count <= 5; count++) {
      await until(() => mine.messages.length === count, `message ${count}`);
      await pause(10);
      expect(mine.messages).toHaveLength(count);
      expect(mine.endings).toBe(0);
      call.resume();
    }
    expect(await mine.over).toBe('ended');
    expect(numbers(mine.messages)).toEqual([0, 1, 2, 3, 4]);
  });
}

function total(bodies: readonly Uint8Array[]): number {
  return bodies.reduce((sum, body) => sum + body.length, 0);
}
