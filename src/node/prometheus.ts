import { type CounterBlock, METRICS, type MetricFamily } from '../base/metrics.js';

/** One thread's counters and the name that its `thread` label gets. */
export interface ThreadCounters {
  readonly thread: string;
  readonly block: CounterBlock;
}

export interface Sample {
  readonly metricName?: string;
  readonly labels: Record<string, string>;
  readonly value: number;
}

/** What a prom-client registry asks of a metric. */
export interface CollectedMetric {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  get(): Promise<{ name: string; help: string; type: string; values: Sample[]; aggregator: string }>;
}

/** Every family of `base/metrics`, read from all threads when it is asked for. */
export function collectFamilies(threads: () => readonly ThreadCounters[]): CollectedMetric[] {
  return METRICS.map(family => {
    const { name, help, type } = family;
    const combinations = labelCombinations(family);
    return {
      name,
      help,
      type,
      get: async () => {
        const values = threads().flatMap(counters =>
          type === 'histogram' ? histogramSamples(family, counters) : samples(combinations, counters),
        );
        return { name, help, type, values, aggregator: 'sum' };
      },
    };
  });
}

interface Combination {
  readonly index: number;
  readonly labels: Record<string, string>;
}

/** The labels of each value of a family; values that stand for nothing are left out. */
export function labelCombinations({ base, size, labels, type }: MetricFamily): Combination[] {
  if (type === 'histogram') return [];
  const combinations: Combination[] = [];
  for (let offset = 0; offset < size; offset += 1) {
    let rest = offset;
    const entries = labels.toReversed().map(({ name, values }): [string, string] => {
      const value = values[rest % values.length]!;
      rest = Math.floor(rest / values.length);
      return [name, value];
    });
    if (entries.some(([, value]) => value === '')) continue;
    combinations.push({ index: base + offset, labels: Object.fromEntries(entries.reverse()) });
  }
  return combinations;
}

function samples(combinations: readonly Combination[], { thread, block }: ThreadCounters): Sample[] {
  return combinations.map(({ index, labels }) => ({
    labels: { ...labels, thread },
    value: block.values[index]!,
  }));
}

/** Cumulative, as the text format wants them. */
function histogramSamples({ name, base, bounds }: MetricFamily, { thread, block }: ThreadCounters): Sample[] {
  const { values } = block;
  let count = 0;
  const buckets = [...bounds, Number.POSITIVE_INFINITY].map((bound, offset) => {
    count += values[base + offset]!;
    const le = bound === Number.POSITIVE_INFINITY ? '+Inf' : String(Number(bound.toPrecision(9)));
    return { metricName: `${name}_bucket`, labels: { le, thread }, value: count };
  });
  // The count is the last bucket's, not the stored one: a thread may have counted in between.
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels: { thread }, value: values[base + bounds.length + 1]! },
    { metricName: `${name}_count`, labels: { thread }, value: count },
  ];
}
