import { type Outcome, play, SCENARIOS } from './underlay-scenarios.js';
import type { Scenario } from './underlay-story.js';

interface Row {
  readonly label: string;
  readonly scenario: string;
  /** Of the scenario's figures; undefined for the real time that the scenario took. */
  readonly figure: string | undefined;
  readonly wanted: string;
  readonly hostsMax?: number;
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
    label: 'one host dies: first detection, p50 / p99',
    scenario: 'kill',
    figure: 'first detection p50/p99',
    wanted: '',
  },
  {
    label: 'one host dies: last host informed, p50 / p99',
    scenario: 'kill',
    figure: 'last informed p50/p99',
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
    hostsMax: 100,
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
    label: 'real time that ten idle virtual minutes take',
    scenario: 'idle',
    figure: undefined,
    wanted: '1,000 hosts: 60 s',
  },
];

const SIZES: readonly number[] = [3, 10, 100, 1_000];

/** What one play of a scenario gave, and its real time. */
interface Played {
  readonly outcome: Outcome;
  readonly realMs: number;
}

/** How often `tellProgress` will be called. */
export const TABLE_PLAYS = plays().length;

/** The table in Markdown. Each cell is one play with this seed; one that failed says so and goes to `tellFailure`. */
export function table(
  seed: number,
  nowMs: () => number,
  tellProgress: (what: string) => void,
  tellFailure: (what: string, outcome: Outcome) => void,
): string {
  const played = new Map<string, Played>();
  for (const { scenario, hosts } of plays()) {
    const what = `${scenario.name} ${hosts}`;
    tellProgress(what);
    const startMs = nowMs();
    const outcome = play(scenario, { hosts, seed, isThorough: true, isEncoded: false, isTraced: false });
    played.set(what, { outcome, realMs: nowMs() - startMs });
    if (outcome.failure !== undefined) tellFailure(what, outcome);
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

function plays(): { readonly scenario: Scenario; readonly hosts: number }[] {
  const names = new Set(ROWS.map(({ scenario }) => scenario));
  return SIZES.flatMap(hosts =>
    SCENARIOS.filter(({ name, hostsMin }) => names.has(name) && hostsMin <= hosts)
      .filter(({ name }) => ROWS.every(row => row.scenario !== name || hosts <= (row.hostsMax ?? hosts)))
      .map(scenario => ({ scenario, hosts })),
  );
}

function cell(row: Row, played: Played | undefined): string {
  if (played === undefined) return '';
  if (played.outcome.failure !== undefined) return '**failed**';
  if (row.figure === undefined) return `${(played.realMs / 1000).toFixed(1)} s`;
  return played.outcome.figures.find(({ what }) => what === row.figure)?.text ?? '?';
}
