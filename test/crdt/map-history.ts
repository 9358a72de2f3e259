import fc from 'fast-check';
import type { Delta } from '../../src/crdt/message.js';
import { OrMap } from '../../src/crdt/or-map.js';
import { bytes } from './seeded.js';

export const REPLICAS = 4;

/** What happens among a few replicas. `sync` joins the whole state of one into another. */
export type Step =
  | { readonly kind: 'set'; readonly at: number; readonly key: string }
  | { readonly kind: 'remove'; readonly at: number; readonly key: string }
  | { readonly kind: 'sync'; readonly at: number; readonly from: number };

const at = fc.nat(REPLICAS - 1);
const key = fc.constantFrom('a', 'b', 'c', 'd');

export const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('set' as const), at, key }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), at, key }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('sync' as const), at, from: at }) },
  ),
  { maxLength: 60 },
);

/** Plays a story; the maps at its end, and the delta of each step that wrote something. */
export function play(script: readonly Step[]): { maps: OrMap[]; deltas: Delta[] } {
  const maps = Array.from({ length: REPLICAS }, (_, i) => new OrMap(i + 1));
  const deltas: Delta[] = [];
  for (const [i, step] of script.entries()) {
    const map = maps[step.at]!;
    if (step.kind === 'sync') map.apply(maps[step.from]!.toDelta());
    else if (step.kind === 'remove') deltas.push(map.remove(step.key).toDelta());
    else deltas.push(map.set(step.key, bytes(`${i}`))!.toDelta());
  }
  return { maps, deltas };
}

/** A state in a form that equal states share, whatever the order in which they came about. */
export function canonical(map: OrMap): unknown {
  const { entries, dropped } = map.toDelta();
  const triples: string[] = [];
  for (let i = 0; i < dropped.length; i += 3) triples.push(dropped.slice(i, i + 3).join(' '));
  return {
    entries: entries.map(entry => `${entry.replica} ${entry.counter} ${entry.key} ${entry.value}`).sort(),
    dropped: triples.sort(),
    low: map.digest.low,
    high: map.digest.high,
    buckets: map.digest.buckets(),
  };
}

export function joined(...deltas: readonly Delta[]): OrMap {
  const map = new OrMap(1_000);
  for (const delta of deltas) map.apply(delta);
  return map;
}
