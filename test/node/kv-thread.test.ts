import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ByteWriter } from '../../src/base/bytes.js';
import { ShoalError } from '../../src/base/errors.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { CALL_EVENT, CALLER_WANTS } from '../../src/contract/kv-relay.js';
import { decodeReplica, decodeStore, replicaKey, storeKey } from '../../src/kv/balance/account-codec.js';
import { decodeAnswer, encodeOrder } from '../../src/kv/balance/order.js';
import type { KvWriter } from '../../src/kv/engine.js';
import { SERVICE } from '../../src/kv/keys.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { OUTCOME } from '../../src/kv/replicated/commands.js';
import { ASK } from '../../src/kv/route/client.js';
import { KvThread } from '../../src/node/kv-thread.js';
import { mapAnswer, ThreadNode, ThreadWorld } from './kv-thread-world.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

function world(count: number, options: ConstructorParameters<typeof ThreadWorld>[1] = {}): ThreadWorld {
  const made = new ThreadWorld(count, options);
  opened.push(made);
  return made;
}

describe('a store thread by itself', () => {
  it('says that it serves, and nothing else before it knows where it stands', () => {
    const { nodes, run } = bound(world(1));
    const [node] = nodes as [ThreadNode];
    run(5000);
    expect(node.storeId).toBe(node.store.ranges.raft.id);
    expect(node.services).toEqual([SERVICE.MAP]);
    expect([node.published.size, node.heard.length]).toEqual([0, 0]);
  });

  it('tells of itself and of its own ranges', () => {
    const { nodes, run } = bound(world(1));
    const [node] = nodes as [ThreadNode];
    const told = new Map<string, Buffer | undefined>();
    const { set } = node.published;
    node.published.set = function (key, bytes) {
      told.set(key, bytes);
      return set.call(this, key, bytes);
    };
    node.standing(false, [101]);
    run(100);
    const own = [...node.store.ranges.raft.replicas][0]!;
    expect(decodeStore(told.get(storeKey(node.storeId))!)).toMatchObject({
      ...{ host: 101, name: 'apply-0@n0', services: [SERVICE.MAP] },
    });
    expect(decodeReplica(told.get(replicaKey(node.storeId, own.rangeId))!)).toMatchObject({
      ...{ sole: true, leads: true },
    });
    // It is not settled.
    run(120_000);
    expect(node.shared).toBeUndefined();
  });

  it('has no timer but its steward’s once its own ranges are at rest', () => {
    const one = world(1, { services: [] });
    const [node] = one.nodes as [ThreadNode];
    one.meet();
    one.run(30_000);
    expect(node.set('a')).toBe(STATUS.OK);
    one.run(30_000);
    expect(vi.getTimerCount()).toBe(1);
    const before = node.wanted;
    one.run(60_000);
    expect(node.wanted).toBe(before);
  });

  it('says what its timers’ work has thrown, once, and does nothing any more', () => {
    const one = world(1, { services: [] });
    const [node] = one.nodes as [ThreadNode];
    node.retain.range.coprocessor.hints = () => {
      throw new Error('on purpose');
    };
    one.meet();
    one.run(5000);
    expect(node.failures).toEqual([new Error('on purpose')]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('answers orders', () => {
    const one = world(1);
    const [node] = one.nodes as [ThreadNode];
    one.meet(false);
    one.settle();
    const own = [...node.store.ranges.raft.replicas][0]!;
    const answer = (order: Uint8Array) => {
      const body = node.ask(OP.KV_STEER, writer => writer.raw(order))!;
      expect(body[0]).toBe(STATUS.OK);
      return decodeAnswer(new Uint8Array(body.subarray(1)));
    };
    expect(answer(encodeOrder({ kind: 'split', range: own.rangeId, key: undefined }))).toMatchObject({
      ...{ kind: 'refused', why: expect.stringContaining('its node') },
    });
    expect(answer(encodeOrder({ kind: 'drain' }))).toEqual({ kind: 'done' });
    expect(answer(Buffer.from('noise'))).toMatchObject({ kind: 'refused' });
  });
});

describe('store threads of three nodes', () => {
  it('make a range with three voters, and serve callers beside the broker', () => {
    const three = world(3);
    const leader = three.form(3);
    const puts = ['a', 'b', 'c'].map(key => three.put(leader, 1, key, `of ${key}`));
    // In the same turn.
    expect(leader.set('t')).toBe(STATUS.OK);
    three.run(100);
    for (const put of puts) expect(mapAnswer(leader, 1, put)).toMatchObject({ kind: 'put' });
    const got = three.get(leader, 2, 'b');
    three.run(100);
    expect(mapAnswer(leader, 2, got)).toMatchObject({ kind: 'found', value: Buffer.from('of b') });
    // Another store asks the leader’s.
    const other = three.nodes.find(node => node !== leader)!;
    const astray = three.get(other, 3, 'b');
    three.run(100);
    expect(mapAnswer(other, 3, astray)).toMatchObject({ kind: 'found' });
  });

  it('know what ranges are asked and hold', () => {
    const three = world(3);
    const leader = three.form(3);
    for (let at = 0; at < 80; at++) {
      three.put(leader, 1, `key ${at}`, 'x'.repeat(1000));
      three.get(leader, 1, 'key 0');
      three.run(500);
    }
    const account = leader.host.board.landscape().stores.find(({ store }) => store === leader.storeId)!;
    const { load } = account.replicas.find(({ sole }) => !sole)!;
    expect(load.bytes).toBeGreaterThan(30_000);
    expect(load.writesPerSecond).toBeGreaterThan(1);
    expect(load.queriesPerSecond).toBeGreaterThan(1);
  });

  it('never hold up the broker: without a quorum its turns go on', () => {
    const three = world(3);
    const leader = three.form(3);
    for (const at of three.nodes.keys()) three.cut.add(at);
    const put = three.put(leader, 1, 'a', 'x');
    for (let at = 0; at < 100; at++) {
      expect(leader.set(`t/${at}`)).toBe(STATUS.OK);
      three.run(100);
    }
    three.run(5000);
    expect(leader.answers(1)).toMatchObject([{ sequence: put, outcome: OUTCOME.UNKNOWN }]);
    expect(leader.retain.messages).toBe(100);
    three.cut.clear();
    three.until(() => three.leader !== undefined, 20_000);
    const again = three.put(three.leader!, 2, 'a', 'y');
    three.run(500);
    expect(mapAnswer(three.leader!, 2, again)).toMatchObject({ kind: 'put' });
  });

  it('go on where they were after a restart', () => {
    const three = world(3);
    const engines = three.nodes.map(({ store }) => store.ranges.raft.engine as MemoryEngine);
    const leader = three.form(3);
    const put = three.put(leader, 1, 'a', 'kept');
    expect(leader.set('t')).toBe(STATUS.OK);
    three.run(1000);
    expect(mapAnswer(leader, 1, put)).toMatchObject({ kind: 'put' });
    for (const [at, engine] of engines.entries()) {
      three.nodes[at]!.close();
      three.nodes[at] = new ThreadNode(`n${at}`, { engine });
    }
    three.meet();
    three.until(() => three.leader !== undefined);
    const got = three.get(three.leader!, 1, 'a');
    three.run(500);
    expect(mapAnswer(three.leader!, 1, got)).toMatchObject({ kind: 'found', value: Buffer.from('kept') });
    expect(three.nodes.map(({ retain }) => retain.messages).sort()).toEqual([0, 0, 1]);
  });
});

describe('callers', () => {
  it('are sent away when they speak nonsense, and not heard any more', () => {
    const one = world(1);
    const [node] = one.nodes as [ThreadNode];
    node.tell(OP.KV_CALL, writer => writer.u32(7).raw(Buffer.from([1, 2, 3])));
    one.settle();
    expect(node.of(OP.KV_CALLER, 7)).toEqual([Buffer.from([CALLER_WANTS.END])]);
    one.attempt(node, 7, ASK.QUERY, Buffer.from('x'));
    one.settle();
    expect(node.answers(7)).toEqual([]);
    node.tell(OP.KV_CALL_EVENT, writer => writer.u32(7).u8(CALL_EVENT.CLOSED));
    one.settle();
    expect(node.heard).toHaveLength(1);
  });

  it('are ended where they end, and have no answers behind that', () => {
    const three = world(3);
    const leader = three.form(3);
    three.put(leader, 5, 'a', 'x');
    leader.tell(OP.KV_CALL_EVENT, writer => writer.u32(5).u8(CALL_EVENT.CLOSED));
    three.run(500);
    expect(leader.answers(5)).toEqual([]);
    three.put(leader, 6, 'a', 'x');
    leader.tell(OP.KV_CALL_EVENT, writer => writer.u32(6).u8(CALL_EVENT.ENDED));
    leader.pump();
    expect(leader.of(OP.KV_CALLER, 6)).toEqual([Buffer.from([CALLER_WANTS.END])]);
    leader.tell(OP.KV_CALL_EVENT, writer => writer.u32(99).u8(CALL_EVENT.CLOSED));
    three.run(500);
  });

  it('do not reach the ranges that are a store’s own', () => {
    const one = world(1);
    const [node] = one.nodes as [ThreadNode];
    const own = [...node.store.ranges.raft.replicas][0]!;
    for (const ask of [ASK.MUTATE, ASK.QUERY]) one.attempt(node, 1, ask, Buffer.from('x'), own.rangeId);
    one.settle();
    const wrong = { outcome: OUTCOME.WRONG_RANGE, places: [] };
    expect(node.answers(1)).toMatchObject([wrong, wrong]);
  });

  it('are sent away without their answers when main reads nothing any more', () => {
    const sent: Buffer[] = [];
    const thread = new KvThread({
      send: (bytes, start, end) => sent.push(Buffer.from(bytes.subarray(start, end))),
      congested: true,
      depthBytes: 2 ** 27,
      schedule: () => undefined,
    });
    expect(thread.answers(7, Buffer.from('answers'))).toBe(false);
    const end = new ByteWriter().u8(OP.KV_CALLER).u32(0).u32(7).u8(CALLER_WANTS.END).copy();
    expect(sent).toEqual([end]);
    thread.frame(1, Buffer.from('frame'));
    expect([sent.length, thread.dropped]).toEqual([1, 1]);
  });

  it('pause while the ring to main is congested', () => {
    const three = world(3, { ringBytes: 16_384 });
    const leader = three.form(3);
    const put = three.put(leader, 1, 'a', 'x'.repeat(10_000));
    three.run(500);
    expect(mapAnswer(leader, 1, put)).toMatchObject({ kind: 'put' });
    leader.isDeaf = true;
    const gets = [1, 2, 3].map(() => three.get(leader, 1, 'a'));
    leader.pump();
    three.run(2000);
    expect(leader.answers(1).length).toBeLessThan(4);
    leader.isDeaf = false;
    three.run(500);
    for (const get of gets) expect(mapAnswer(leader, 1, get)).toMatchObject({ kind: 'found' });
    expect(leader.of(OP.KV_CALLER, 1)).toEqual([
      Buffer.from([CALLER_WANTS.PAUSE]),
      Buffer.from([CALLER_WANTS.RESUME]),
    ]);
  });
});

/** Has no room while it is told so. */
class FullEngine extends MemoryEngine {
  isFull = false;
  /** Transactions that came to nothing. */
  refused = 0;

  override write(...[work, durable]: Parameters<MemoryEngine['write']>): void {
    super.write(writer => this.fill(work, writer), durable);
  }

  override hold(...[work, ended]: Parameters<MemoryEngine['hold']>): void {
    super.hold(writer => this.fill(work, writer), ended);
  }

  private fill(work: (writer: KvWriter) => void, writer: KvWriter): void {
    work(writer);
    if (!this.isFull) return;
    this.refused++;
    throw new ShoalError('SHOAL_STORAGE_FULL', 'on purpose');
  }
}

describe('a disk without room', () => {
  it('is got over by both the broker and the shared ranges, in whichever order they meet it', () => {
    const three = world(2);
    const engine = new FullEngine();
    three.nodes.push(new ThreadNode('n2', { engine }));
    opened.push(three.nodes[2]!);
    three.form(3);
    const full = three.nodes[2]!;
    for (let round = 0; round < 3; round++) {
      expect(full.set(`before/${round}`)).toBe(STATUS.OK);
      engine.isFull = true;
      const puts = [three.put(three.leader!, 10 + round, `k${round}`, 'x')];
      for (let at = 0; at < 20; at++) {
        expect(full.set(`during/${round}`)).toBe(STATUS.UNAVAILABLE);
        three.run(100);
      }
      engine.isFull = false;
      // The own ranges lead on: nobody waits for the next attempt of the shared ones.
      expect(full.set(`behind/${round}`)).toBe(STATUS.OK);
      three.until(() => three.leader !== undefined, 20_000);
      puts.push(three.put(three.leader!, 20 + round, `k${round}`, 'y'));
      three.run(3000);
      expect(mapAnswer(three.leader!, 20 + round, puts[1]!)).toMatchObject({ kind: 'put' });
    }
    expect(engine.refused).toBeGreaterThan(60);
    expect(full.retain.messages).toBe(6);
    const indices = three.nodes.map(({ shared }) => shared!.appliedIndex);
    expect(new Set(indices).size).toBe(1);
  });
});

function bound(one: ThreadWorld): { nodes: readonly ThreadNode[]; run: (ms: number) => void } {
  return { nodes: one.nodes, run: ms => one.run(ms) };
}
