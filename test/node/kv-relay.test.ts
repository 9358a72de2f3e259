import { afterEach, describe, expect, it, vi } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import type { Env } from '../../src/base/env.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { CALL_EVENT, CALLER_WANTS } from '../../src/contract/kv-relay.js';
import { encodeStore, storeKey } from '../../src/kv/balance/account-codec.js';
import { decodeOrder, encodeAnswer, type OrderAnswer } from '../../src/kv/balance/order.js';
import { kvService, serverIdOf } from '../../src/kv/remote/service.js';
import { KvRelay, LONE_STANDING } from '../../src/node/kv-relay.js';
import type { RpcResult } from '../../src/rpc/failure.js';
import { type Node, World } from '../rpc/world.js';

/** What main has sent a store thread, by op and number of the call. */
interface Sent {
  readonly op: number;
  readonly callId: number;
  readonly body: Buffer;
}

/** A node's relay, and its store threads as far as main can tell. */
class Relayed {
  readonly relay: KvRelay;
  readonly node: Node | undefined;
  readonly sent = new Map<number, Sent[]>();
  readonly congested = new Set<number>();
  depthBytes = 0;

  constructor(world: World, isClustered = true) {
    const env: Env = {
      clock: { monotonicMs: () => performance.now(), wallMs: () => Date.now() },
      random: world.random,
      log: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    };
    const wire = {
      send: (peer: number, bytes: Uint8Array, start: number, end: number) => {
        const body = Buffer.from(bytes.subarray(start + 5, end));
        const callId = Buffer.from(bytes).readUInt32LE(start + 1);
        this.at(peer).push({ op: bytes[start]!, callId, body });
      },
      congested: (peer: number) => this.congested.has(peer),
      depthBytes: () => this.depthBytes,
    };
    this.relay = new KvRelay(env, wire, isClustered ? undefined : LONE_STANDING);
    opened.push(this.relay);
    if (!isClustered) return;
    this.node = world.addNode();
    const { rpc } = this.node;
    const tell = rpc.onAgentOutputs.bind(rpc);
    rpc.onAgentOutputs = outputs => {
      tell(outputs);
      for (const output of outputs) this.relay.onAgentOutput(output);
    };
    this.relay.join({ rpc, overlay: world.landscape.hostOf(this.node), overlayUsed: ignore });
  }

  at(peer: number): Sent[] {
    let sent = this.sent.get(peer);
    if (sent === undefined) this.sent.set(peer, (sent = []));
    return sent;
  }

  /** Takes what was sent under one op. */
  take(peer: number, op: number): Sent[] {
    const all = this.at(peer);
    this.sent.set(
      peer,
      all.filter(sent => sent.op !== op),
    );
    return all.filter(sent => sent.op === op);
  }

  /** A frame of a store thread. */
  say(peer: number, op: number, fill: (writer: ByteWriter) => void, callId = 0): void {
    const writer = new ByteWriter(16).u8(op).u32(callId);
    fill(writer);
    this.relay.onFrame(peer, writer.bytes, 0, writer.length);
  }

  open(peer: number, store: number): void {
    this.say(peer, OP.KV_OPEN, writer => writer.f64(store).u8(0));
  }

  publish(peer: number, entries: Readonly<Record<string, string | undefined>>): void {
    this.say(peer, OP.KV_PUBLISH, writer => {
      const all = Object.entries(entries);
      writer.u32(all.length);
      for (const [key, value] of all)
        writer
          .text(key)
          .u8(value === undefined ? 0 : 1)
          .blob(Buffer.from(value ?? ''));
    });
  }

  /** What a thread has heard of the map, in order. */
  heard(peer: number): string[] {
    return this.take(peer, OP.KV_HEARD).flatMap(({ body }) => {
      const reader = new ByteReader(body);
      return Array.from({ length: reader.u32() }, () => {
        const key = reader.text();
        const isThere = reader.u8() === 1;
        const value = Buffer.from(reader.blob()).toString();
        return isThere ? `${key}=${value}` : `${key} is gone`;
      });
    });
  }

  drain(peer: number): void {
    this.congested.delete(peer);
    this.relay.drained(peer);
  }
}

const ignore = () => undefined;
const opened: KvRelay[] = [];
afterEach(() => {
  for (const relay of opened.splice(0)) relay.close();
  vi.useRealTimers();
});

const APPLY = 3;
const MATCH = 2;

/** Two nodes with a store each, 11 and 22. */
function two(): { world: World; one: Relayed; other: Relayed } {
  const world = new World(7);
  const one = new Relayed(world);
  const other = new Relayed(world);
  one.open(APPLY, 11);
  other.open(APPLY, 22);
  world.run(500);
  return { world, one, other };
}

describe('frames of stores', () => {
  const frame = (from: Relayed, store: number, text: string) =>
    from.say(APPLY, OP.KV_FRAME, writer => writer.f64(store).raw(Buffer.from(text)));
  const framesAt = (of: Relayed, peer = APPLY) =>
    of.take(peer, OP.KV_FRAME).map(({ body }) => body.toString());

  it('go to the thread that has the other store, in order', () => {
    const { world, one, other } = two();
    for (const text of ['a', 'b']) frame(one, 22, text);
    world.run(50);
    expect(framesAt(other)).toEqual(['a', 'b']);
  });

  it('go straight to a thread of the same node, also without a cluster', () => {
    const lone = new Relayed(new World(1), false);
    lone.open(APPLY, 11);
    lone.open(MATCH, 12);
    frame(lone, 12, 'a');
    frame(lone, 99, 'to nobody');
    expect(framesAt(lone, MATCH)).toEqual(['a']);
  });

  it('are dropped and counted while the ring has no room', () => {
    const { world, one, other } = two();
    other.congested.add(APPLY);
    frame(one, 22, 'a');
    world.run(50);
    other.drain(APPLY);
    frame(one, 22, 'b');
    world.run(50);
    expect(framesAt(other)).toEqual(['b']);
    expect(other.relay.dropped).toEqual({ in: 1, out: 0 });
  });
});

/** A caller in the first node, of the store in the second. */
function call(world: World, one: Relayed) {
  const heard: string[] = [];
  const stream = one.node!.rpc.client(kvService).calls.open(
    { key: serverIdOf(22) },
    {
      message: bytes => heard.push(Buffer.from(bytes).toString()),
      room: () => heard.push('room'),
      ended: () => heard.push('ended'),
      failed: ({ kind }) => heard.push(kind),
    },
  );
  const say = (text: string) => {
    stream.send(Buffer.from(text));
    world.run(20);
  };
  return { heard, say, stream };
}

describe('callers', () => {
  const callsAt = (of: Relayed) =>
    of
      .take(APPLY, OP.KV_CALL)
      .map(({ body }) => ({ caller: body.readUInt32LE(), said: body.subarray(4).toString() }));
  const want = (of: Relayed, caller: number, what: number) =>
    of.say(APPLY, OP.KV_CALLER, writer => writer.u32(caller).u8(what));
  const eventsAt = (of: Relayed) =>
    of.take(APPLY, OP.KV_CALL_EVENT).map(({ body }) => [body.readUInt32LE(), body[4]]);

  it('speak with the thread under a number of their own', () => {
    const { world, one, other } = two();
    const [first, second] = [call(world, one), call(world, one)];
    first.say('a');
    second.say('b');
    const calls = callsAt(other);
    expect(calls.map(({ said }) => said)).toEqual(['a', 'b']);
    const [to, also] = calls.map(({ caller }) => caller);
    expect(to).not.toBe(also);
    other.say(APPLY, OP.KV_ANSWERS, writer => writer.u32(also!).raw(Buffer.from('yes')));
    world.run(20);
    expect([first.heard, second.heard]).toEqual([[], ['yes']]);
    first.stream.end();
    world.run(20);
    second.stream.cancel();
    world.run(20);
    expect(eventsAt(other)).toEqual([
      [to, CALL_EVENT.ENDED],
      [also, CALL_EVENT.CLOSED],
    ]);
    // Of one that is gone.
    other.say(APPLY, OP.KV_ANSWERS, writer => writer.u32(also!).raw(Buffer.from('late')));
    want(other, also!, CALLER_WANTS.PAUSE);
    want(other, to!, CALLER_WANTS.END);
    world.run(20);
    expect(first.heard).toEqual(['ended']);
  });

  it('are not read while the store, or the ring to it, takes no more', () => {
    const { world, one, other } = two();
    const { say } = call(world, one);
    say('a');
    const { caller } = callsAt(other)[0]!;
    want(other, caller, CALLER_WANTS.PAUSE);
    // What was on its way comes still.
    for (let at = 0; at < 100; at++) say('x');
    const while1 = callsAt(other).length;
    expect(while1).toBeLessThan(100);
    want(other, caller, CALLER_WANTS.RESUME);
    world.run(100);
    expect(while1 + callsAt(other).length).toBe(100);
    other.congested.add(APPLY);
    for (let at = 0; at < 100; at++) say('y');
    const while2 = callsAt(other).length;
    expect(while2).toBeLessThan(100);
    other.drain(APPLY);
    world.run(100);
    expect(while2 + callsAt(other).length).toBe(100);
  });

  it('are sent away when far too much is on its way to the store', () => {
    const { world, one, other } = two();
    const { say, heard } = call(world, one);
    other.congested.add(APPLY);
    other.depthBytes = 2 ** 30;
    say('a');
    world.run(20);
    expect(heard).toEqual(['ended']);
    expect(callsAt(other)).toEqual([]);
  });

  it('hear when the thread dies, and find its successor where it was', () => {
    const { world, one, other } = two();
    const { say, heard } = call(world, one);
    say('a');
    other.relay.peerLost(APPLY);
    world.run(50);
    expect(heard).toEqual(['unknown-outcome']);
    expect(other.relay.ownStores).toEqual([]);
    other.sent.clear();
    other.open(APPLY, 22);
    world.run(500);
    const again = call(world, one);
    again.say('b');
    expect(callsAt(other).map(({ said }) => said)).toEqual(['b']);
    expect(again.heard).toEqual([]);
  });
});

describe('orders', () => {
  const orders = (of: Relayed) => of.take(APPLY, OP.KV_STEER);
  const answer = (of: Relayed, callId: number, status: number, text: string) =>
    of.say(APPLY, OP.REPLY, writer => writer.u8(status).raw(Buffer.from(text)), callId);
  const words = (result: RpcResult<Uint8Array>) =>
    result.kind === 'ok' ? Buffer.from(result.value).toString() : result.kind;

  it('reach a store of this node by ring, and any other by its node', async () => {
    const { world, one, other } = two();
    const own = one.relay.steer(11, Buffer.from('own'));
    const far = one.relay.steer(22, Buffer.from('far'));
    world.run(20);
    const [first] = orders(one);
    const [second] = orders(other);
    expect([first!.body.toString(), second!.body.toString()]).toEqual(['own', 'far']);
    answer(one, first!.callId, STATUS.OK, 'done');
    // An answer that nobody waits for.
    answer(one, first!.callId, STATUS.OK, 'twice');
    answer(other, second!.callId, STATUS.OK, 'done there');
    world.run(20);
    expect([words(await own), words(await far)]).toEqual(['done', 'done there']);
  });

  it('fail when the store says so, is not there, dies, or is silent', async () => {
    vi.useFakeTimers();
    const { world, one } = two();
    const ask = (store: number) => one.relay.steer(store, Buffer.from('x'));
    const refused = ask(11);
    answer(one, orders(one)[0]!.callId, STATUS.UNAVAILABLE, '');
    const silent = ask(11);
    vi.advanceTimersByTime(10_000);
    const dead = ask(11);
    one.relay.peerLost(APPLY);
    const gone = ask(33);
    world.run(10_000);
    expect(await Promise.all([refused, silent, dead, gone].map(async one => words(await one)))).toEqual([
      'unavailable',
      'deadline',
      'unknown-outcome',
      'server-not-found',
    ]);
    const lone = new Relayed(new World(1), false);
    expect(words(await lone.relay.steer(11, Buffer.from('x')))).toBe('server-not-found');
  });

  it('are refused when too many wait, and when they are too large', async () => {
    const { one } = two();
    const asked = Array.from({ length: 257 }, () => one.relay.steer(11, Buffer.from('x')));
    expect(words(await asked.at(-1)!)).toBe('throttled');
    expect(words(await one.relay.steer(11, Buffer.alloc(100_000)))).toBe('aborted');
  });

  it('to hand over are given again until that is done', async () => {
    const { one } = two();
    const says: OrderAnswer[] = [{ kind: 'begun' }, { kind: 'begun' }, { kind: 'done' }];
    const isDrained = one.relay.drain(2_000);
    for (const say of says) {
      const [order] = await vi.waitUntil(() => {
        const found = orders(one);
        return found.length > 0 && found;
      });
      expect(decodeOrder(order!.body)).toEqual({ kind: 'drain' });
      one.say(
        APPLY,
        OP.REPLY,
        writer => writer.u8(STATUS.OK).raw(Buffer.from(encodeAnswer(say))),
        order!.callId,
      );
    }
    await isDrained;
    expect(orders(one)).toEqual([]);
  });

  it('to hand over are waited for so long and no longer', async () => {
    const { one } = two();
    const beganMs = performance.now();
    await one.relay.drain(100);
    expect(performance.now() - beganMs).toBeLessThan(1_000);
    expect(orders(one).length).toBe(1);
  });
});

describe('the shared map', () => {
  it('is heard by all store threads of all nodes, whole by those that come later', () => {
    const { world, one, other } = two();
    one.publish(APPLY, { a: '1', b: '2' });
    world.run(100);
    expect(one.heard(APPLY)).toEqual(['a=1', 'b=2']);
    expect(other.heard(APPLY).sort()).toEqual(['a=1', 'b=2']);
    other.publish(APPLY, { a: undefined });
    world.run(100);
    expect(one.heard(APPLY)).toEqual(['a is gone']);
    one.open(MATCH, 12);
    expect(one.heard(MATCH)).toEqual(['b=2']);
  });

  it('is told as it is in the end when the ring has room again', () => {
    const { world, one, other } = two();
    other.congested.add(APPLY);
    for (let at = 0; at < 5; at++) {
      one.relay.publish([{ key: 'a', bytes: Buffer.from(String(at)) }]);
      world.run(100);
    }
    expect(other.heard(APPLY)).toEqual([]);
    other.drain(APPLY);
    expect(other.heard(APPLY)).toEqual(['a=4']);
  });

  it('leaves in frames of a bounded size', () => {
    const { world, one } = two();
    const value = 'x'.repeat(16_000);
    for (let at = 0; at < 50; at++) one.publish(APPLY, { [`key-${at}`]: value });
    world.run(100);
    one.sent.clear();
    one.open(MATCH, 12);
    const frames = one.at(MATCH).filter(({ op }) => op === OP.KV_HEARD);
    expect(frames.length).toBeGreaterThan(3);
    for (const { body } of frames) expect(body.length).toBeLessThan(160_000);
    expect(one.heard(MATCH).length).toBe(50);
  });

  it('of a node in no cluster is its own', () => {
    const lone = new Relayed(new World(1), false);
    lone.open(APPLY, 11);
    const account = { host: 1, name: 'apply-0@x', cores: 1, draining: false, services: [] };
    const bytes = encodeStore(account);
    lone.say(APPLY, OP.KV_PUBLISH, writer => writer.u32(1).text(storeKey(11)).u8(1).blob(bytes));
    expect(lone.relay.board.landscape().stores).toMatchObject([
      { store: 11, alive: true, name: 'apply-0@x' },
    ]);
    lone.open(MATCH, 12);
    expect(lone.heard(MATCH).length).toBe(1);
    expect(lone.relay.access).toBeUndefined();
  });
});

describe('the standing of a node', () => {
  const standingsAt = (of: Relayed, peer = APPLY) =>
    of.take(peer, OP.KV_STANDING).map(({ body }) => {
      const reader = new ByteReader(body);
      const [isSettled, self] = [reader.u8() === 1, reader.f64()];
      return { isSettled, self, hosts: Array.from({ length: reader.u32() }, () => reader.f64()) };
    });

  it('is told at first and when it changes, the last one where there was no room', () => {
    const { one } = two();
    expect(standingsAt(one)).toEqual([]);
    one.relay.standingIs({ isSettled: false, self: 5, hosts: new Set([5]) });
    one.congested.add(APPLY);
    one.relay.standingIs({ isSettled: false, self: 5, hosts: new Set([5, 6]) });
    one.relay.standingIs({ isSettled: true, self: 5, hosts: new Set([5, 6]) });
    one.drain(APPLY);
    const [first, last] = [
      { isSettled: false, self: 5, hosts: [5] },
      { isSettled: true, self: 5, hosts: [5, 6] },
    ];
    expect(standingsAt(one)).toEqual([first, last]);
    one.open(MATCH, 12);
    expect(standingsAt(one, MATCH)).toEqual([last]);
  });

  it('without a cluster is that of a host that is alone and begins nothing', () => {
    const lone = new Relayed(new World(1), false);
    lone.open(APPLY, 11);
    expect(standingsAt(lone)).toEqual([{ isSettled: false, self: 1, hosts: [1] }]);
  });

  it('ends its servers and calls when it parts, and keeps what it knew to look at', () => {
    const { world, one, other } = two();
    other.publish(APPLY, { a: '1' });
    world.run(100);
    const { heard, say } = call(world, one);
    say('a');
    other.relay.part({ isSettled: false, self: 6, hosts: new Set([6]) });
    world.run(100);
    expect(heard).toEqual(['unknown-outcome']);
    expect(other.relay.access).toBeUndefined();
    expect(standingsAt(other)).toEqual([{ isSettled: false, self: 6, hosts: [6] }]);
    other.sent.clear();
    other.publish(APPLY, { b: '2' });
    other.open(MATCH, 12);
    world.run(100);
    expect(other.heard(MATCH)).toEqual(['a=1', 'b=2']);
    // The others do not hear of it any more.
    expect(one.heard(APPLY)).toEqual(['a=1']);
    const again = call(world, one);
    again.say('b');
    expect(again.heard).toEqual(['server-not-found']);
  });
});
