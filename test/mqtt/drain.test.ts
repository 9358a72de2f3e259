import { afterEach, describe, expect, it } from 'vitest';
import { Broker } from './harness.js';

let broker: Broker;
afterEach(() => broker.close());

const WILL = { topic: 'will', payload: 'gone', qos: 1 };

describe('drain', () => {
  for (const farewell of ['keep-will', 'drop-will'] as const) {
    it(`sends all away, stores what is under way, and with ${farewell} treats wills so`, () => {
      broker = new Broker({ shards: 2 });
      const keeper = broker.connect({ clientId: 'keeper', expiry: 100, clean: false });
      keeper.subscribe(['will', 't'], { qos: 1 });
      keeper.cut();
      const young = broker.connect({ will: WILL });
      const old = broker.connect({ version: 4 });
      const silent = broker.socket();
      young.sendPublish('t', 'last', { qos: 1 });
      const [shard] = broker.shards;
      shard!.drain(farewell);
      shard!.drain(farewell);
      broker.pump();
      young.take('disconnect', { reasonCode: 0x8b });
      expect([young.closed, old.closed, silent.closed]).toEqual([true, true, true]);
      expect(shard!.idle).toBe(true);
      const again = broker.connect({ clientId: 'keeper', expiry: 100, clean: false, shard: 1 });
      expect(again.receive()).toEqual(farewell === 'keep-will' ? ['last', 'gone'] : ['last']);
    });
  }

  it('is not over while a store owes an answer', () => {
    broker = new Broker();
    const client = broker.connect({ expiry: 100 });
    broker.applyEngine.held = true;
    broker.shards[0]!.drain('drop-will');
    broker.pump();
    expect(client.closed).toBe(true);
    expect(broker.shards[0]!.idle).toBe(false);
    broker.applyEngine.release();
    broker.pump();
    expect(broker.shards[0]!.idle).toBe(true);
  });

  it('closes at once what finished its handshake too late', () => {
    broker = new Broker();
    broker.shards[0]!.drain('drop-will');
    const late = broker.socket();
    broker.pump();
    expect(late.closed).toBe(true);
    expect(broker.shards[0]!.idle).toBe(true);
  });
});
