import { expect, it } from 'vitest';
import { Broker } from './harness.js';

it('works', () => {
  const broker = new Broker({ shards: 3 });
  const a = broker.connect({ shard: 0 });
  const b = broker.connect({ shard: 1 });
  const c = broker.connect({ shard: 2, version: 4 });
  expect(b.subscribe('a/+', { qos: 1 })).toEqual([1]);
  expect(c.subscribe('a/b', { qos: 2 })).toEqual([2]);
  a.publish('a/b', 'x', { qos: 2 });
  expect(b.receive()).toEqual(['x']);
  expect(c.receive()).toEqual(['x']);
  broker.close();
});
