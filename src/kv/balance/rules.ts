/** What operators may change while the store runs. Times in milliseconds. */
export interface Rules {
  /** Odd. Where fewer stores live, the highest odd number that they allow. */
  readonly voters: number;
  /** Learners for each range; -1: one on every store that has no voter. */
  readonly learners: number;
  /** A store that is gone for so long is replaced where another can take its place. */
  readonly replaceAfterMs: number;
  /** A member that does not answer while its store lives and does not hold it is taken out after this. */
  readonly deadAfterMs: number;
  /** A service without a range is left so for this long, twice it at most: others may just be starting. */
  readonly bootstrapAfterMs: number;
  /** A difference of less than this between the costs of two stores is left alone; a share of the higher one. */
  readonly placementSlack: number;
  readonly splitBytes: number;
  readonly splitWritesPerSecond: number;
  readonly splitQueryMicros: number;
  readonly splitFanOut: number;
  /** A store leads no more ranges than this for each core, if splitting is what would bring more. */
  readonly rangesPerCoreMax: number;
  /** Two neighbours that together are below both are cold. */
  readonly mergeBytes: number;
  readonly mergeWritesPerSecond: number;
  /** A range that was split or merged is left alone for so long. */
  readonly settleMs: number;
}

export const DEFAULT_RULES: Rules = {
  voters: 3,
  learners: 0,
  replaceAfterMs: 300_000,
  deadAfterMs: 15_000,
  bootstrapAfterMs: 5_000,
  placementSlack: 0.2,
  splitBytes: 1024 * 1024 * 1024,
  splitWritesPerSecond: 50_000,
  splitQueryMicros: 500,
  splitFanOut: 100_000,
  rangesPerCoreMax: 8,
  mergeBytes: 64 * 1024 * 1024,
  mergeWritesPerSecond: 500,
  settleMs: 600_000,
};

interface Bounds {
  readonly min: number;
  readonly max: number;
  readonly whole: boolean;
}

const DAY_MS = 86_400_000;
const BOUNDS: Readonly<Record<keyof Rules, Bounds>> = {
  voters: { min: 1, max: 9, whole: true },
  learners: { min: -1, max: 100, whole: true },
  replaceAfterMs: { min: 1000, max: DAY_MS, whole: true },
  deadAfterMs: { min: 1000, max: DAY_MS, whole: true },
  bootstrapAfterMs: { min: 0, max: DAY_MS, whole: true },
  placementSlack: { min: 0.05, max: 1, whole: false },
  splitBytes: { min: 1024 * 1024, max: 2 ** 50, whole: true },
  splitWritesPerSecond: { min: 1, max: 1e9, whole: true },
  splitQueryMicros: { min: 1, max: 1e9, whole: true },
  splitFanOut: { min: 1, max: 1e9, whole: true },
  rangesPerCoreMax: { min: 1, max: 1000, whole: true },
  mergeBytes: { min: 0, max: 2 ** 50, whole: true },
  mergeWritesPerSecond: { min: 0, max: 1e9, whole: true },
  settleMs: { min: 1000, max: DAY_MS, whole: true },
};

/** `rules` with `changes` made to them, or what is wrong with these: a text for the operator. */
export function changedRules(rules: Rules, changes: Readonly<Record<string, unknown>>): Rules | string {
  const changed: Record<string, number> = { ...rules };
  for (const [key, value] of Object.entries(changes)) {
    const bounds = Object.hasOwn(BOUNDS, key) ? BOUNDS[key as keyof Rules] : undefined;
    if (bounds === undefined) return `no rule is called ${key}; there are ${Object.keys(BOUNDS).join(', ')}`;
    const { min, max, whole } = bounds;
    if (typeof value !== 'number' || !(value >= min && value <= max) || (whole && !Number.isInteger(value)))
      return `${key} wants a ${whole ? 'whole ' : ''}number from ${min} to ${max}, not ${String(value)}`;
    changed[key] = value;
  }
  return contradiction(changed as unknown as Rules) ?? (changed as unknown as Rules);
}

/** Halves of what was just split must not be cold enough to be merged again. */
function contradiction(rules: Rules): string | undefined {
  if (rules.voters % 2 === 0) return `voters wants an odd number, not ${rules.voters}`;
  if (rules.mergeBytes * 2 > rules.splitBytes) return 'mergeBytes wants to be at most half of splitBytes';
  if (rules.mergeWritesPerSecond * 2 > rules.splitWritesPerSecond)
    return 'mergeWritesPerSecond wants to be at most half of splitWritesPerSecond';
  return undefined;
}
