import type { Outcome } from './played.js';
import { play, SCENARIOS } from './underlay-scenarios.js';
import type { Figure, Scenario } from './underlay-story.js';

interface Row {
  readonly label: string;
  readonly scenario: string;
  /** Of the scenario's figures; undefined for the processor time that the scenario took. */
  readonly figure: string | undefined;
  readonly wanted: string;
}

/** The rows of the README: each is one figure of one scenario. */
const ROWS: readonly Row[] = [
  {
    label: 'all hosts join at once through one seed: all see all',
    scenario: 'join',
    figure: 'all see all',
    wanted: '100 hosts: 10 s, 1,000: 30 s',
  },
  {
    label: 'one host dies: first suspected, p50 / p99',
    scenario: 'kill',
    figure: 'first suspected p50/p99',
    wanted: '',
  },
  {
    label: 'one host dies: evicted by the first host, p50 / p99',
    scenario: 'kill',
    figure: 'first evicted p50/p99',
    wanted: '',
  },
  {
    label: 'one host dies: evicted by the last host, p50 / p99',
    scenario: 'kill',
    figure: 'last evicted p50/p99',
    wanted: '3 hosts: 10 s, 100: 15 s',
  },
  {
    label: 'a tenth of the hosts dies at once: converged',
    scenario: 'kill-tenth',
    figure: 'all converged',
    wanted: '30 s',
  },
  {
    label: 'false evictions in one hour with 10 % packet loss',
    scenario: 'loss',
    figure: 'false evictions',
    wanted: 'none',
  },
  {
    label: 'one host of 20 stops for 10 s every minute: false evictions of healthy hosts',
    scenario: 'pauses',
    figure: 'false evictions of healthy hosts',
    wanted: 'none',
  },
  {
    label: 'halves for ten minutes, then joined: one cluster',
    scenario: 'halves',
    figure: 'one cluster',
    wanted: '30 s',
  },
  {
    label: 'five unequal parts for ten minutes, then joined',
    scenario: 'five-parts',
    figure: 'one cluster',
    wanted: '30 s',
  },
  {
    label: 'one host cannot send to one other: evictions',
    scenario: 'one-way-link',
    figure: 'evictions',
    wanted: 'none',
  },
  {
    label: 'a third cannot send to the others, then mended',
    scenario: 'one-way-group',
    figure: 'one cluster',
    wanted: '30 s',
  },
  {
    label: 'half cut off for 20 s of every 40 s, then joined',
    scenario: 'flapping-cut',
    figure: 'one cluster',
    wanted: '30 s',
  },
  {
    label: 'bytes a second that an idle host sends, headers included',
    scenario: 'idle',
    figure: 'bytes/s a host',
    wanted: '100 hosts: 2,000; log N',
  },
  {
    label: 'processor time of the join and ten idle virtual minutes, one core',
    scenario: 'idle',
    figure: undefined,
    wanted: '1,000 hosts: 60 s',
  },
];

const SIZES: readonly number[] = [3, 10, 100, 1_000];

export interface TablePlay {
  readonly scenario: Scenario;
  readonly hosts: number;
}

/** What one play of a scenario gave, and its processor time, which other programs on the machine do not lengthen. */
interface Played {
  readonly figures: readonly Figure[];
  readonly isFailed: boolean;
  readonly processorMs: number;
}

/** What the table needs, all of it or of some scenarios and one size: `tellProgress` is called once for each. */
export function tablePlays(scenarios?: readonly string[], hosts?: number): readonly TablePlay[] {
  const isShown = (name: string) => ROWS.some(row => row.scenario === name);
  return SIZES.filter(size => hosts === undefined || size === hosts).flatMap(size =>
    SCENARIOS.filter(({ name }) => scenarios?.includes(name) !== false)
      .filter(({ name, hostsMin }) => hostsMin <= size && isShown(name))
      .map(scenario => ({ scenario, hosts: size })),
  );
}

/** The table in Markdown. Each cell is one play with this seed; one that failed says so and goes to `tellFailure`. */
export function table(
  plays: readonly TablePlay[],
  seed: number,
  usedMs: () => number,
  tellProgress: (what: string) => void,
  tellFailure: (what: string, outcome: Outcome) => void,
  tellDone: (what: string, outcome: Outcome) => void,
): string {
  const played = new Map<string, Played>();
  for (const { scenario, hosts } of plays) {
    const what = `${scenario.name} ${hosts}`;
    tellProgress(what);
    const startMs = usedMs();
    const outcome = play(scenario, { hosts, seed, isThorough: true, isEncoded: false, isTraced: false });
    // Not the outcome itself, whose trace holds the whole world.
    const isFailed = outcome.failure !== undefined;
    played.set(what, { figures: outcome.figures, isFailed, processorMs: usedMs() - startMs });
    if (isFailed) tellFailure(what, outcome);
    else tellDone(what, outcome);
  }
  const head = ['what', ...SIZES.map(size => `${size.toLocaleString('en')} hosts`), 'wanted'];
  const lines = ROWS.map(row => [
    row.label,
    ...SIZES.map(size => cell(row, played.get(`${row.scenario} ${size}`))),
    row.wanted,
  ]);
  return [head, head.map((_, at) => (at === 0 || at > SIZES.length ? '---' : '---:')), ...lines]
    .map(cells => `| ${cells.join(' | ')} |`)
    .join('\n');
}

function cell(row: Row, played: Played | undefined): string {
  if (played === undefined) return '';
  if (played.isFailed) return '**failed**';
  if (row.figure === undefined) return `${(played.processorMs / 1000).toFixed(1)} s`;
  return played.figures.find(({ what }) => what === row.figure)?.text ?? '?';
}
