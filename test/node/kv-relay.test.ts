import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ByteReader } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { CALL_EVENT, CALLER_WANTS } from '../../src/contract/kv-relay.js';
import { encodeReplica, encodeStore, replicaKey, storeKey } from '../../src/kv/balance/account-codec.js';
import { decodeOrder, encodeAnswer, type OrderAnswer } from '../../src/kv/balance/order.js';
import { SERVICE } from '../../src/kv/keys.js';
import { wholeService } from '../../src/kv/range.js';
import { kvService, serverIdOf } from '../../src/kv/remote/service.js';
import { ASK } from '../../src/kv/route/client.js';
import { KvBegun } from '../../src/node/kv-begun.js';
import type { RpcResult } from '../../src/rpc/failure.js';
import { World } from '../rpc/world.js';
import { APPLY, closeRelays, MATCH, Relayed, silentEnv, two } from './kv-relayed.js';

const NO_LOAD = { bytes: 0, writesPerSecond: 0, queriesPerSecond: 0, queryMicros: 0, fanOut: 0 };
afterEach(() => {
  closeRelays();
  vi.useRealTimers();
});

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

  it('wait for a ring without room, up to 8 MB: then they are dropped and counted', () => {
    const { world, one, other } = two();
    other.congested.add(APPLY);
    other.depthBytes = 8 * 1024 * 1024;
    frame(one, 22, 'a');
    world.run(50);
    other.depthBytes++;
    frame(one, 22, 'b');
    world.run(50);
    other.depthBytes = 0;
    other.drain(APPLY);
    frame(one, 22, 'c');
    world.run(50);
    expect(framesAt(other)).toEqual(['a', 'c']);
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
      const hosts = Array.from({ length: reader.u32() }, () => reader.f64());
      const begun = Array.from({ length: reader.u8() }, () => reader.u8());
      return begun.length === 0 ? { isSettled, self, hosts } : { isSettled, self, hosts, begun };
    });

  it('has what was ever seen to have begun, also after a restart', () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'shoal-begun-'));
    const { log } = silentEnv;
    const account = (service: number, changes: { sole?: boolean; pristine?: boolean }) =>
      Buffer.from(
        encodeReplica({
          ...{ epoch: 1, boundary: wholeService(service), replica: 1, leads: true, term: 1 },
          members: [{ replica: 1, store: 22, role: 0 }],
          ...{ membersAt: 1, genesis: 1, pristine: false, changing: false, sole: false },
          load: { ...NO_LOAD, splitKey: new Uint8Array(), epochSinceMs: 1 },
          ...changes,
        }),
      );
    try {
      const { world, one } = two();
      one.relay.remember(new KvBegun(dataDir, log));
      one.relay.standingIs({ isSettled: true, self: 5, hosts: new Set([5]) });
      const publish = (range: number, bytes: Uint8Array) => {
        one.relay.publish([{ key: replicaKey(22, range), bytes }]);
        world.run(10);
      };
      publish(1, account(SERVICE.INBOX, { sole: true }));
      publish(7, account(SERVICE.MAP, { pristine: true }));
      expect(standingsAt(one)).toEqual([{ isSettled: true, self: 5, hosts: [5] }]);
      publish(7, account(SERVICE.MAP, {}));
      publish(8, account(SERVICE.MAP, {}));
      const told = { isSettled: true, self: 5, hosts: [5], begun: [SERVICE.MAP] };
      expect(standingsAt(one)).toEqual([told]);
      const again = new Relayed(world);
      again.relay.remember(new KvBegun(dataDir, log));
      again.relay.standingIs({ isSettled: true, self: 5, hosts: new Set([5]) });
      again.open(APPLY, 33);
      expect(standingsAt(again)).toEqual([told]);
    } finally {
      rmSync(dataDir, { recursive: true });
    }
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
    const { access } = other.relay;
    const own: string[] = [];
    const ask = () =>
      access!.call(ASK.MUTATE, Buffer.from('mx'), Buffer.from('x'), 10_000, {
        done: () => own.push('done'),
        notDone: reason => own.push(reason),
        unknown: () => own.push('unknown'),
      });
    expect([ask(), own]).toEqual([true, []]);
    other.relay.part({ isSettled: false, self: 6, hosts: new Set([6]) });
    world.run(100);
    expect(heard).toEqual(['unknown-outcome']);
    expect(other.relay.access).toBeUndefined();
    // Nobody has that key, and nobody is asked any more.
    expect([own, ask()]).toEqual([['deadline'], false]);
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
