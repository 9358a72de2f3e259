import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HostRecord } from '../../src/underlay/message.js';
import type { HostEvent, HostView } from '../../src/underlay/underlay.js';
import { idHash, percentile, ViewReplay } from './underlay-checkers.js';

const SELF = 1;

function record(id: number, incarnation = 0): HostRecord {
  return {
    id,
    incarnation,
    name: `h${id}`,
    address: `10.0.0.${id}:4800`,
    version: '1',
    startedMs: 0,
    agents: [],
  };
}

function view(host: HostRecord, state: 'alive' | 'suspect' = 'alive'): HostView {
  return { record: host, state, sinceMs: 0, roundTripMs: -1, clockSkewMs: 0, oneWay: false };
}

function replayed(...events: HostEvent[]): ViewReplay {
  const replay = new ViewReplay('me', SELF);
  for (const event of events) replay.apply(event);
  return replay;
}

describe('ViewReplay', () => {
  const joined: HostEvent = { kind: 'joined', host: record(2) };
  const suspected: HostEvent = { kind: 'suspected', host: record(2) };
  const gone: HostEvent = { kind: 'gone', host: record(2), reason: 'failed' };

  it('takes a life from joining to going', () => {
    const replay = replayed(joined, suspected, { kind: 'trusted', host: record(2, 1) });
    replay.compare([view(record(SELF)), view(record(2, 1))]);
    expect(replay.size).toBe(2);
    replay.apply(gone.host.incarnation === 0 ? { ...gone, host: record(2, 1) } : gone);
    replay.compare([view(record(SELF))]);
    expect(replay.digest).toBe(new ViewReplay('me', SELF).digest);
  });

  it.each<[string, HostEvent[]]>([
    ['already', [joined, joined]],
    ['not in the view', [gone]],
    ['not in the view', [joined, gone, gone]],
    ['suspected already', [joined, suspected, suspected]],
    ['not suspected', [joined, { kind: 'trusted', host: record(2) }]],
    ['nothing has changed', [joined, { kind: 'updated', host: record(2) }]],
    [
      'went back',
      [
        { kind: 'joined', host: record(2, 3) },
        { kind: 'suspected', host: record(2, 2) },
      ],
    ],
    ['the host itself', [{ kind: 'joined', host: record(SELF) }]],
    [
      'self-evicted twice',
      [
        { kind: 'self-evicted', by: 2 },
        { kind: 'self-evicted', by: 2 },
      ],
    ],
  ])('refuses a stream with an event that cannot be: %s', (words, events) => {
    expect(() => replayed(...events)).toThrow(words);
  });

  it.each<[string, HostView[]]>([
    ['twice', [view(record(SELF)), view(record(2)), view(record(2))]],
    ['no event has said so', [view(record(SELF)), view(record(2)), view(record(3))]],
    ['suspect in the view', [view(record(SELF)), view(record(2), 'suspect')]],
    ['not that of its last event', [view(record(SELF)), view(record(2, 1))]],
    ['missing in its own view', [view(record(2))]],
    ['without an event', [view(record(SELF))]],
  ])('refuses a view that is not what the events say: %s', (words, views) => {
    expect(() => replayed(joined).compare(views)).toThrow(words);
  });
});

describe('idHash', () => {
  it('gives sets of hosts digests that differ', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 2 ** 53 - 1 }), { minLength: 2 }),
        ([one, other]) => {
          expect(idHash(one!)).not.toBe(idHash(other!));
        },
      ),
    );
  });
});

describe('percentile', () => {
  it('is a value of the list', () => {
    expect(percentile([5, 1, 3, 2, 4], 0.5)).toBe(3);
    expect(percentile([5, 1, 3, 2, 4], 0.99)).toBe(5);
    expect(percentile([], 0.5)).toBeNaN();
  });
});
