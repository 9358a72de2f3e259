import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GrpcServer } from '../../../src/rpc/io/grpc-server.js';
import { GrpcTls } from '../../../src/rpc/io/grpc-tls.js';
import { GrpcTransport } from '../../../src/rpc/io/grpc-transport.js';
import type { UnarySink } from '../../../src/rpc/transport.js';
import { authority } from '../../underlay/io/certificates.js';
import { ask, CONTEXT, Ear, ECHO, endpointOf, Hearing, MIRROR, pause, until } from '../transport-ends.js';
import { GrpcWorld } from './grpc-world.js';

const one = authority('one');
const other = authority('other');
const host = { ...one.issue('host'), ca: one.ca };
const BODY = Buffer.alloc(10, 1);

let world: GrpcWorld;

beforeEach(() => {
  world = new GrpcWorld();
});

afterEach(() => world.close());

/** Calls that are answered when the test says so. */
class Slow {
  readonly sinks: UnarySink[] = [];
  readonly ears: Ear[] = [];
  readonly endpoint = endpointOf(
    {
      's/slow': (_body, _context, sink) => {
        this.sinks.push(sink);
        this.ears.push(new Ear());
        return this.ears.at(-1)!;
      },
      's/echo': ECHO,
    },
    { 's/mirror': MIRROR },
  );
}

describe('a server that goes', () => {
  it('finishes what it has and takes nothing new', async () => {
    const slow = new Slow();
    const channel = await world.connect(slow.endpoint);
    const states: boolean[] = [];
    channel.onState = isConnected => void states.push(isConnected);
    const running = ask(channel, 's/slow', BODY);
    const hearing = new Hearing();
    const stream = channel.stream('s/mirror', CONTEXT, hearing);
    stream.write(BODY);
    await until(() => slow.sinks.length === 1 && hearing.messages.length === 1, 'both run');
    expect(world.server.callsRunning).toBe(2);
    let isDrained = false;
    const drained = world.server.drain(5_000).then(() => {
      isDrained = true;
    });
    expect(await ask(channel, 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
    expect(await ask(world.open(), 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
    await pause(20);
    expect(isDrained).toBe(false);
    slow.sinks[0]!.done(Buffer.from('late'));
    expect(Buffer.from((await running) as Uint8Array).toString()).toBe('late');
    stream.write(BODY);
    stream.end();
    expect(await hearing.over).toBe('ended');
    expect(hearing.messages).toHaveLength(2);
    await drained;
    expect(states).toContain(false);
    await until(() => world.server.connections === 0, 'no connection is left');
  });

  it('breaks off what is not finished in time', async () => {
    const slow = new Slow();
    const channel = await world.connect(slow.endpoint);
    const running = ask(channel, 's/slow', BODY);
    await until(() => slow.sinks.length === 1, 'it runs');
    const since = performance.now();
    await world.server.drain(100);
    expect(performance.now() - since).toBeGreaterThan(80);
    expect(await running).toMatchObject({ kind: 'unknown-outcome' });
    await until(() => slow.ears[0]!.cancels === 1, 'the service is told');
  });

  it('breaks off everything when it is closed', async () => {
    const slow = new Slow();
    const channel = await world.connect(slow.endpoint);
    const running = ask(channel, 's/slow', BODY);
    await until(() => slow.sinks.length === 1, 'it runs');
    await world.server.close();
    expect(await running).toMatchObject({ kind: 'unknown-outcome' });
    expect(await ask(channel, 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
  });

  it('is found again at the same address', async () => {
    const slow = new Slow();
    const channel = await world.connect(slow.endpoint);
    await ask(channel, 's/echo', BODY);
    const { port } = world.server;
    await world.server.close();
    await world.listen(slow.endpoint, port);
    await until(() => world.server.port === port, 'it listens');
    let answer = await ask(channel, 's/echo', BODY);
    // The first call may still find the connection that broke.
    if (!(answer instanceof Uint8Array)) answer = await ask(channel, 's/echo', BODY);
    expect(answer).toBeInstanceOf(Uint8Array);
  });
});

describe('limits', () => {
  it('of connections: further ones are closed, the first go on', async () => {
    const options = { host: '127.0.0.1', port: 0, connectionsMax: 2 };
    world.server = await GrpcServer.listen(new Slow().endpoint, options);
    const channels = [world.open(), world.open()];
    for (const channel of channels) expect(await ask(channel, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    expect(await ask(world.open(), 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
    for (const channel of channels) expect(await ask(channel, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    expect(world.server.counters).toMatchObject({ accepted: 2, refusedAtLimit: 1 });
  });

  it.each([undefined, host])(
    'of connections of one address, also with TLS (%#): others are let in',
    async tls => {
      world = new GrpcWorld(tls);
      world.server = await GrpcServer.listen(new Slow().endpoint, {
        host: '::',
        port: 0,
        tls,
        connectionsMax: 8,
        connectionsPerAddressMax: 2,
      });
      const { port } = world.server;
      const open = () => world.open(port);
      const channels = [open(), open()];
      for (const channel of channels) expect(await ask(channel, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
      for (const channel of [open(), open()])
        expect(await ask(channel, 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
      expect(world.server.counters).toMatchObject({ accepted: 2, refusedAtLimit: 2, tlsFailed: 0 });
      const other = new GrpcTransport({ tls: tls && new GrpcTls(tls) }).open(`[::1]:${port}`);
      world.channels.push(other);
      expect(await ask(other, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
      channels[0]!.close();
      await until(() => world.server.connections === 2, 'the first is gone');
      for (const channel of [open(), channels[1]!])
        expect(await ask(channel, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    },
  );

  it('of calls on a connection: further ones wait, none is lost', async () => {
    world = new GrpcWorld(undefined, { streamsMax: 4 });
    const channel = await world.connect(new Slow().endpoint);
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask(channel, 's/echo', BODY)));
    expect(answers.every(answer => answer instanceof Uint8Array)).toBe(true);
  });

  it('of calls of a channel: further ones are throttled', async () => {
    const slow = new Slow();
    await world.listen(slow.endpoint);
    const channel = new GrpcTransport({ callsMax: 2 }).open(`127.0.0.1:${world.server.port}`);
    world.channels.push(channel);
    void ask(channel, 's/slow', BODY);
    const second = ask(channel, 's/slow', BODY);
    expect(await ask(channel, 's/echo', BODY)).toMatchObject({ kind: 'throttled' });
    await until(() => slow.sinks.length === 2, 'both arrive');
    slow.sinks[1]!.done(BODY);
    await second;
    expect(await ask(channel, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
  });

  it('of resets, which servers keep: cancelling very many calls does not cost the connection', async () => {
    const slow = new Slow();
    const channel = await world.connect(slow.endpoint);
    const hearing = new Hearing();
    const stream = channel.stream('s/mirror', CONTEXT, hearing);
    stream.write(BODY);
    await until(() => hearing.messages.length === 1, 'the stream runs');
    const sink = { done: () => undefined, failed: () => undefined };
    for (let round = 0; round < 10; round++) {
      const before = slow.sinks.length;
      const calls = Array.from({ length: 400 }, () =>
        channel.unary('s/slow', BODY, { ...CONTEXT, deadlineMs: 300 }, sink),
      );
      await until(() => slow.sinks.length === before + 400, 'they arrive');
      for (const call of calls) call.cancel();
    }
    await until(() => world.server.callsRunning === 1, 'they have met their deadline at the server');
    expect(slow.ears.every(ear => ear.cancels === 1)).toBe(true);
    stream.write(BODY);
    stream.end();
    expect(await hearing.over).toBe('ended');
  });

  it('of the port: it says who has it', async () => {
    await world.listen(new Slow().endpoint);
    const { port } = world.server;
    const again = GrpcServer.listen(new Slow().endpoint, { host: '127.0.0.1', port });
    await expect(again).rejects.toMatchObject({ code: 'SHOAL_LISTEN_IN_USE' });
  });
});

describe('TLS', () => {
  const states: boolean[] = [];

  beforeEach(async () => {
    world = new GrpcWorld(host);
    await world.listen(new Slow().endpoint);
  });

  it('with a certificate of another authority, or none, is refused in words; others go on', async () => {
    const good = world.open();
    expect(await ask(good, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    good.onState = isConnected => void states.push(isConnected);
    const strangers = [
      // Trusts us, and shows what we do not trust.
      { ...other.issue('stranger'), ca: one.ca },
      // We would trust it, it does not trust us.
      { ...one.issue('suspicious'), ca: other.ca },
      { ...other.issue('stranger'), ca: other.ca },
      other.issue('stranger'),
    ];
    for (const tls of strangers) {
      const answer = await ask(world.open(world.server.port, new GrpcTls(tls)), 's/echo', BODY);
      expect(answer).toMatchObject({ kind: 'unavailable' });
      expect((answer as { detail: string }).detail).toMatch(/certificate/i);
    }
    expect(await ask(good, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    expect(states).toEqual([]);
  });

  it('is not mixed with the clear', async () => {
    const { port } = world.server;
    const clear = new GrpcTransport().open(`127.0.0.1:${port}`);
    world.channels.push(clear);
    expect(await ask(clear, 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
    const plain = new GrpcWorld();
    await plain.listen(new Slow().endpoint);
    const secret = world.open(plain.server.port);
    expect(await ask(secret, 's/echo', BODY)).toMatchObject({ kind: 'unavailable' });
    await plain.close();
  });

  it('is renewed while connections run', async () => {
    const client = new GrpcTls(host);
    const early = world.open(world.server.port, client);
    expect(await ask(early, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    const next = { ...other.issue('host'), ca: other.ca };
    expect(() => world.server.renewTls({ ...next, cert: 'none' })).toThrow(/tls/);
    world.server.renewTls(next);
    expect(await ask(world.open(world.server.port, client), 's/echo', BODY)).toMatchObject({
      kind: 'unavailable',
    });
    expect(() => client.renew({ ...next, key: 'none' })).toThrow(/tls/);
    client.renew(next);
    const late = world.open(world.server.port, client);
    expect(await ask(late, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
    expect(await ask(early, 's/echo', BODY)).toBeInstanceOf(Uint8Array);
  });
});
