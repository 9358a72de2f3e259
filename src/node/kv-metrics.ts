import { setTimeout as sleep } from 'node:timers/promises';
import { BALANCERS } from '../kv/balance/governor.js';
import { type BalancerReport, decodeAnswer, encodeOrder } from '../kv/balance/order.js';
import { collected } from './cluster-metrics.js';
import type { KvSource } from './kv-routes.js';
import { RANGE_STATES, type RangeRow, rangesReport, STORE_STATES, storesReport } from './kv-view.js';
import type { CollectedMetric, Sample } from './prometheus.js';

export interface KvMetricsSource extends KvSource {
  /** Frames of stores that were dropped for want of room, since the start. */
  readonly dropped: { readonly out: number; readonly in: number };
}

/** Until the stores of this node have said what their balancers did. */
const ASKED_MS_MAX = 1_000;

/** The families of the replicated storage, `shoalmq_kv_*`, as this node sees it and as its own stores have it. */
export function kvMetrics(kv: KvMetricsSource): CollectedMetric[] {
  const gauge = (short: string, help: string, read: Parameters<typeof collected>[3]) =>
    collected('gauge', `shoalmq_kv_${short}`, help, read);
  const shared = () => rangesReport(kv.board.landscape()).ranges.filter(({ sole }) => !sole);
  return [
    gauge('stores', 'Stores of the cluster as this node sees them.', () => {
      const { stores } = storesReport(kv.board.landscape(), kv.ownStores, 0);
      return STORE_STATES.map(
        state => [{ state }, stores.filter(store => store.state === state).length] as const,
      );
    }),
    gauge(
      'ranges',
      'Ranges that stores share, as this node sees them; alert on no_quorum and no_leader.',
      () => {
        const rows = shared();
        return servicesOf(rows).flatMap(service =>
          RANGE_STATES.filter(state => state !== 'lost').map(state => {
            const count = rows.filter(row => row.service === service && row.state === state).length;
            return [{ service, state: state.replace('-', '_') }, count] as const;
          }),
        );
      },
    ),
    gauge('key_spaces', 'Beginnings of a service that hold data; more than 1 want an operator.', () => {
      const rows = shared();
      return servicesOf(rows).map(service => {
        const held = rows.filter(row => row.service === service && !row.pristine);
        return [{ service }, new Set(held.map(({ genesis }) => genesis)).size] as const;
      });
    }),
    collected(
      'counter',
      'shoalmq_kv_relay_dropped_total',
      'Frames between stores that the main thread found no room for; they are sent again.',
      () => [
        [{ direction: 'out' }, kv.dropped.out],
        [{ direction: 'in' }, kv.dropped.in],
      ],
    ),
    balancerMetric(kv, 'commands', 'Commands that balancers of this node gave.', ({ commands }) => commands),
    balancerMetric(kv, 'command_failures', 'Those that were refused or failed.', ({ failures }) => failures),
  ];
}

function servicesOf(rows: readonly RangeRow[]): readonly string[] {
  return [...new Set(rows.map(({ service }) => service))].sort();
}

/** Store threads have these, so they are asked when somebody scrapes. */
function balancerMetric(
  kv: KvMetricsSource,
  short: string,
  help: string,
  figure: (report: BalancerReport) => number,
): CollectedMetric {
  const name = `shoalmq_kv_balancer_${short}_total`;
  const get = async () => {
    const reports = (await Promise.all(kv.ownStores.map(store => reportsOf(kv, store)))).flat();
    const values: Sample[] = BALANCERS.map(({ name: balancer }) => {
      const value = reports.filter(row => row.name === balancer).reduce((sum, row) => sum + figure(row), 0);
      return { labels: { balancer }, value };
    });
    return { name, help, type: 'counter' as const, values, aggregator: 'sum' as const };
  };
  return { name, help, type: 'counter', get };
}

async function reportsOf(kv: KvMetricsSource, store: number): Promise<readonly BalancerReport[]> {
  const patience = new AbortController();
  const late = sleep(ASKED_MS_MAX, undefined, { signal: patience.signal }).catch(() => undefined);
  const result = await Promise.race([kv.steer(store, BALANCERS_ORDER), late]);
  patience.abort();
  const answer = result?.kind === 'ok' ? decodeAnswer(result.value) : undefined;
  return answer?.kind === 'balancers' ? answer.balancers : [];
}

const BALANCERS_ORDER = encodeOrder({ kind: 'balancers' });
