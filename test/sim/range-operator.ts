import { decodeAnswer, encodeOrder, type Order } from '../../src/kv/balance/order.js';
import type { Rules } from '../../src/kv/balance/rules.js';
import { registerKey } from './range-store.js';
import type { RangeWorld } from './range-world.js';

/** Those that can be without for a while. */
const BALANCERS = [
  'replica-count',
  'leader-spread',
  'placement',
  'split',
  'merge',
  'dead-replica',
  'redundant',
];

/** An operator's word to some store about some range, sensible or not: beside what the balancers do. */
export function order(world: RangeWorld): void {
  const { random } = world;
  const living = world.stores.filter(({ node }) => node.isResponsive);
  const known = living.flatMap(store => store.replicas.map(replica => ({ store, replica })));
  if (known.length === 0) return;
  const leading = known.filter(({ replica }) => replica.isLeader);
  const { store, replica } = random.pick(leading.length > 0 && random.chance(0.8) ? leading : known);
  const range = replica.rangeId;
  const some = () => random.pick(world.stores).store.id;
  const members = replica.descriptor?.members.map(({ store: id }) => id) ?? [];
  const member = () => (members.length === 0 ? some() : random.pick(members));
  const kinds: readonly (() => Order)[] = [
    () => ({ kind: 'transfer', range, to: random.chance(0.8) ? member() : some() }),
    () => ({
      kind: 'split',
      range,
      key: random.chance(0.7) ? registerKey(random.below(world.settings.registers)) : undefined,
    }),
    () => ({ kind: 'merge', range }),
    () => ({ kind: 'merge', range }),
    () => ({ kind: 'move', range, from: random.chance(0.8) ? member() : some(), to: some() }),
    // Not forced: refused wherever there is a leader, or could be.
    () => ({ kind: 'balancers' }),
  ];
  const wanted = random.pick(kinds)();
  const answer = decodeAnswer(store.steward.order(encodeOrder(wanted)));
  const words = answer?.kind === 'refused' ? `refused: ${answer.why}` : (answer?.kind ?? 'no answer');
  world.note(store.node.label, `is ordered to ${wanted.kind} ${range.toString(36)}: ${words}`);
  store.node.settle();
}

/** The rules of all change while everything runs, and some balancers stop. */
export function changeRules(world: RangeWorld): void {
  const { random } = world;
  const choices: readonly Partial<Rules>[] = [
    { voters: random.pick([1, 3, 5]) },
    { learners: random.pick([-1, 0, 1]) },
    { mergeBytes: random.pick([0, 2000]) },
    { settleMs: random.pick([1000, 60_000]) },
    { placementSlack: random.pick([0.05, 0.5]) },
    { rangesPerCoreMax: random.pick([1, 20]) },
    { replaceAfterMs: random.pick([5000, 60_000]), deadAfterMs: random.pick([1000, 10_000]) },
  ];
  const changes = Object.assign({}, ...random.sample(choices, random.below(3)));
  const stopped = random.sample(BALANCERS, random.below(3)).sort();
  world.steer({ changes, stopped });
}
