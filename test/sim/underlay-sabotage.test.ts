import { describe, expect, it } from 'vitest';
import type { Env } from '../../src/base/env.js';
import type { HostEvent, Ready, Underlay, UnderlayTiming } from '../../src/underlay/underlay.js';
import type { View } from '../../src/underlay/view.js';
import type { SimMachine, Upper } from './underlay-host.js';
import { play, SCENARIOS } from './underlay-scenarios.js';

/**
 * Checkers that cannot fail prove nothing: here machines do what they must not, one thing each, and each scenario has to
 * say so in its own words.
 */

/** How one machine is spoiled; what it leaves out is done as ever. */
type Spoiler = (underlay: Underlay, env: Env) => Partial<SimMachine>;

const viewOf = (underlay: Underlay) => (underlay as unknown as { view: View }).view;

/** All machines are spoiled, or the first one that is made. */
function spoiled(spoiler: Spoiler, who: 'all' | 'first'): Upper {
  let made = 0;
  return {
    wrap(underlay, env) {
      made += 1;
      if (who === 'first' && made > 1) return underlay;
      const changes = spoiler(underlay, env) as Record<string | symbol, unknown>;
      return new Proxy(underlay, {
        get: (target, key) => {
          const value = changes[key] ?? Reflect.get(target, key);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    },
    started: () => undefined,
    turn: () => undefined,
  };
}

/** Its events pass through `change`: none, one, or several for each. */
const eventsChanged =
  (change: (event: HostEvent) => readonly HostEvent[]): Spoiler =>
  underlay => ({
    ready(): Ready {
      const ready = underlay.ready();
      return { ...ready, events: ready.events.flatMap(change) };
    },
  });

const reasonChanged = (from: string, to: 'failed' | 'left'): Spoiler =>
  eventsChanged(event => [event.kind === 'gone' && event.reason === from ? { ...event, reason: to } : event]);

/** Does it once, so long after the machine was made. */
const later =
  (afterMs: number, act: (underlay: Underlay) => void): Spoiler =>
  (underlay, { clock }) => {
    const dueMs = clock.monotonicMs() + afterMs;
    let isDone = false;
    return {
      tick(): void {
        if (!isDone && clock.monotonicMs() >= dueMs && underlay.hosts().length > 1) {
          isDone = true;
          act(underlay);
        }
        underlay.tick();
      },
    };
  };

/** Without asking anybody. */
const givesUpOne = (afterMs: number) =>
  later(afterMs, underlay => {
    const { record } = underlay.hosts()[1]!;
    viewOf(underlay).gone(record.id, record.incarnation, 'failed', underlay.self.id);
  });

const suspectsOne = later(90_000, underlay => {
  const { record } = underlay.hosts()[1]!;
  viewOf(underlay).suspect(record.id, record.incarnation, underlay.self.id);
});

const isAboutH2 = (event: HostEvent) => 'host' in event && event.host.name === 'h2';

/** h2 comes into its view, and it tells nobody. */
const silent = eventsChanged(event => (isAboutH2(event) ? [] : [event]));

const blind: Spoiler = (underlay, env) => ({
  ...silent(underlay, env),
  hosts: () => underlay.hosts().filter(({ record }) => record.name !== 'h2'),
});

/** It believes whoever is said to be alive, however often that one was given up. */
const forgets: Spoiler = underlay => ({
  receive(packet, from, path): void {
    (viewOf(underlay).members as unknown as { gone: Map<number, unknown> }).gone.clear();
    underlay.receive(packet, from, path);
  },
});

const chatters: Spoiler = underlay => ({
  tick(): void {
    const bytes = new Uint8Array(4_000);
    for (const { record } of underlay.hosts().slice(1))
      underlay.send(record.id, 'stream', { kind: 'payload', channel: 'noise', bytes });
    underlay.tick();
  },
});

const overfills: Spoiler = underlay => ({
  ready(): Ready {
    const ready = underlay.ready();
    const message = { kind: 'payload', channel: 'noise', bytes: new Uint8Array(2_000) } as const;
    return {
      ...ready,
      sends: ready.sends.map(({ to, path, messages }) => ({ to, path, messages: [...messages, message] })),
    };
  },
});

/** It does not take the word of an operator, and speaks on. */
const stays: Spoiler = (underlay, env) => {
  underlay.onSelfEvicted = () => undefined;
  return forgets(underlay, env);
};

const givesSeedsUp: Spoiler = (underlay, { clock }) => ({
  tick(): void {
    if (clock.monotonicMs() > 60_000) underlay.setSeeds([]);
    underlay.tick();
  },
});

const givesLostUp: Spoiler = underlay => {
  (underlay as unknown as { joins: { healer: { add: () => void } } }).joins.healer.add = () => undefined;
  return {};
};

interface Crime {
  readonly scenario: string;
  readonly crime: string;
  readonly words: string;
  readonly spoiler?: Spoiler;
  readonly who?: 'first';
  readonly timing?: Partial<UnderlayTiming>;
  readonly hosts?: number;
  readonly seed?: number;
}

const CRIMES: readonly Crime[] = [
  {
    scenario: 'join',
    crime: 'one does not see another',
    words: 'not converged',
    spoiler: blind,
    who: 'first',
  },
  {
    scenario: 'join',
    crime: 'a host comes into the view without an event',
    words: 'no event has said so',
    spoiler: silent,
    who: 'first',
  },
  {
    scenario: 'join',
    crime: 'an event is told twice',
    words: 'it was in the view already',
    spoiler: eventsChanged(event => (event.kind === 'joined' ? [event, event] : [event])),
  },
  {
    scenario: 'join',
    crime: 'a live host is given up in a calm cluster',
    words: 'hosts came or went',
    spoiler: givesUpOne(30_000),
    who: 'first',
  },
  {
    scenario: 'join',
    crime: 'a list grows',
    words: 'entries in its list of hoard',
    spoiler: underlay => ({ entries: () => ({ ...underlay.entries(), hoard: 1_000 }) }),
  },
  { scenario: 'join', crime: 'a quiet cluster is loud', words: 'bytes/s a host', spoiler: chatters },
  { scenario: 'join', crime: 'a datagram is too large', words: 'a datagram packet of', spoiler: overfills },
  { scenario: 'idle', crime: 'a quiet cluster is loud', words: 'bytes/s a host', spoiler: chatters },
  {
    scenario: 'idle',
    crime: 'a host is suspected for nothing',
    words: 'suspected in a faultless network',
    spoiler: suspectsOne,
    who: 'first',
  },
  ...['loss', 'wan', 'kill-tenth', 'churn', 'stop', 'restart', 'pauses'].map(scenario => ({
    scenario,
    crime: 'a live host is given up',
    words: scenario === 'kill-tenth' ? 'hosts came or went' : 'false evictions',
    spoiler: givesUpOne(scenario === 'restart' ? 12_000 : scenario === 'kill-tenth' ? 40_000 : 75_000),
    who: 'first' as const,
  })),
  ...['one-way-link', 'no-datagrams', 'flapping-link'].map(scenario => ({
    scenario,
    crime: 'a host with a bad link is given up',
    words: 'evictions, expected none',
    spoiler: givesUpOne(75_000),
    who: 'first' as const,
  })),
  {
    scenario: 'kill',
    crime: 'death is noticed late',
    words: 'expected below 10 s',
    timing: { probeIntervalMs: 4_000 },
    hosts: 3,
  },
  {
    scenario: 'kill',
    crime: 'death is noticed very late',
    words: 'not converged within 40 s',
    timing: { probeIntervalMs: 20_000 },
  },
  {
    scenario: 'leave',
    crime: 'goodbye is taken for failure',
    words: 'are gone as failed',
    spoiler: reasonChanged('left', 'failed'),
  },
  {
    scenario: 'restart',
    crime: 'the old identity is given up, not replaced',
    words: 'expected replaced',
    spoiler: reasonChanged('replaced', 'failed'),
  },
  {
    scenario: 'evict',
    crime: 'an evicted host does not say so',
    words: 'has not heard of it',
    spoiler: eventsChanged(event => (event.kind === 'self-evicted' ? [] : [event])),
  },
  {
    scenario: 'evict',
    crime: 'the eviction is forgotten',
    words: 'after the eviction: not converged',
    spoiler: stays,
  },
  {
    scenario: 'agents',
    crime: 'a change of agents is kept secret',
    words: 'is not known to all',
    spoiler: () => ({ setAgents: () => undefined }),
  },
  {
    scenario: 'environments',
    crime: 'refusals are not told',
    words: 'does not say so',
    spoiler: () => ({ refusals: () => [] }),
  },
  {
    scenario: 'one-way-link',
    crime: 'the link is not named',
    words: 'neither of them says so',
    spoiler: underlay => ({ hosts: () => underlay.hosts().map(view => ({ ...view, oneWay: false })) }),
  },
  {
    scenario: 'one-way-group',
    crime: 'hosts come and go',
    words: 'joins in four minutes over',
    spoiler: forgets,
  },
  {
    scenario: 'late-seed',
    crime: 'a seed is given up',
    words: 'not converged',
    spoiler: givesSeedsUp,
    hosts: 2,
  },
  ...['halves', 'five-parts', 'shatter'].map(scenario => ({
    scenario,
    crime: 'nobody looks for the lost',
    words: 'after the parts were joined: not converged',
    spoiler: givesLostUp,
    seed: 3,
  })),
];

describe('what must hold in the simulator is noticed when it does not', { timeout: 60_000 }, () => {
  it.each(CRIMES)(
    '$scenario: $crime',
    ({ scenario, words, spoiler, who, timing, hosts, seed = 1 }: Crime) => {
      const story = SCENARIOS.find(({ name }) => name === scenario)!;
      const { failure } = play(story, {
        hosts: hosts ?? Math.max(5, story.hostsMin),
        seed,
        ...(timing === undefined ? {} : { timing }),
        ...(spoiler === undefined ? {} : { upper: spoiled(spoiler, who ?? 'all') }),
      });
      expect(failure ?? 'nothing').toContain(words);
    },
  );
});
