import { describe, expect, it } from 'vitest';
import { encodeReplica, encodeStore, replicaKey, storeKey } from '../../src/kv/balance/account-codec.js';
import { Board } from '../../src/kv/balance/board.js';
import { encodeAnswer, type OrderAnswer } from '../../src/kv/balance/order.js';
import { kvMetrics } from '../../src/node/kv-metrics.js';
import { rpcFailure } from '../../src/rpc/failure.js';
import { landscapeOf, type RangeSpec, soleReplica } from './kv-stores.js';

const CLOCK = { wallMs: () => 1_234, monotonicMs: () => 5_000 };

function metricsOf(ranges: readonly RangeSpec[], alive: readonly number[], answer?: OrderAnswer) {
  const board = new Board(CLOCK);
  for (const { store, replicas, name } of landscapeOf(3, ranges).stores) {
    const entry = { name, cores: 1, host: 70 + store, services: [0x6d], draining: false };
    board.hear(storeKey(store), encodeStore(entry));
    for (const replica of [...replicas, soleReplica(store)])
      board.hear(replicaKey(store, replica.range), encodeReplica(replica));
  }
  board.hostsAre(new Set(alive.map(store => 70 + store)));
  return kvMetrics({
    ...{
      board,
      access: undefined,
      begunServices: new Set<number>(),
      ownStores: [1, 2],
      dropped: { out: 3, in: 4 },
    },
    steer: async store =>
      store === 1 && answer !== undefined
        ? { kind: 'ok', value: encodeAnswer(answer) }
        : rpcFailure('unavailable', 'gone'),
    publish: () => undefined,
  });
}

async function values(metrics: ReturnType<typeof metricsOf>, name: string): Promise<Record<string, number>> {
  const { values: samples } = await metrics.find(metric => metric.name === `shoalmq_kv_${name}`)!.get();
  return Object.fromEntries(
    samples.map(({ labels, value }) => [Object.values(labels ?? {}).join(' '), value]),
  );
}

describe('metrics of the replicated storage', () => {
  it('count ranges by how they are, and stores', async () => {
    const ranges = [
      { id: 40, to: 'k', stores: [1, 2, 3] },
      { id: 41, from: 'k', stores: [3], more: { genesis: 9 } },
    ];
    const metrics = metricsOf(ranges, [1, 2]);
    expect(await values(metrics, 'stores')).toEqual({ alive: 2, draining: 0, lost: 1 });
    expect(await values(metrics, 'ranges')).toEqual({
      'map well': 0,
      'map changing': 0,
      'map degraded': 1,
      'map no_leader': 0,
      'map no_quorum': 1,
    });
    expect(await values(metrics, 'key_spaces')).toEqual({ map: 2 });
    expect(await values(metrics, 'relay_dropped_total')).toEqual({ out: 3, in: 4 });
  });

  it('ask the stores of this node what their balancers did; one that does not answer counts nothing', async () => {
    const row = { running: true, last: '', lastAgoMs: 0, restsMs: 0 };
    const balancers = [{ ...row, name: 'merge', commands: 5, failures: 2 }];
    const metrics = metricsOf([], [1, 2, 3], { kind: 'balancers', balancers });
    expect(await values(metrics, 'balancer_commands_total')).toMatchObject({ merge: 5, split: 0 });
    expect(await values(metrics, 'balancer_command_failures_total')).toMatchObject({ merge: 2 });
    expect(await values(metricsOf([], []), 'balancer_commands_total')).toMatchObject({ merge: 0 });
  });
});
