import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KvStandings } from '../../src/node/kv-standing.js';
import type { KvStanding } from '../../src/node/kv-store-thread.js';
import type { SeedResolution } from '../../src/underlay/io/resolve.js';
import type { UnderlayMachine } from '../../src/underlay/underlay.js';

const OWN = 5;

/** What a node sees of its underlay. */
class Sight {
  hosts = [OWN];
  /** Addresses of seeds that are others. */
  others: string[] = [];
  seeds: SeedResolution[] = [];
  readonly told: KvStanding[] = [];
  readonly standings: KvStandings;

  constructor() {
    const machine = {
      self: { id: OWN },
      hosts: () => this.hosts.map(id => ({ record: { id } })),
      seedStates: () => this.others.map(address => ({ address, answeredMs: 0, tries: 3 })),
    } as unknown as UnderlayMachine;
    const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };
    this.standings = new KvStandings(
      machine,
      () => this.seeds,
      clock,
      standing => this.told.push(standing),
    );
  }

  view(...hosts: number[]): void {
    this.hosts = hosts;
    this.standings.look();
  }

  get last() {
    return this.told.at(-1)!;
  }
}

const seed = (text: string, addresses: string[] = [text]): SeedResolution => ({
  seed: text,
  addresses,
  error: '',
});

let sight: Sight;
beforeEach(() => {
  vi.useFakeTimers();
  sight = new Sight();
});
afterEach(() => {
  sight.standings.close();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

describe('a node is settled', () => {
  it('some seconds after it has found another, so that it knows what that one knows', () => {
    sight.others = ['1.1.1.1:1'];
    sight.view(OWN);
    vi.advanceTimersByTime(30_000);
    sight.view(OWN, 6);
    expect(sight.last).toEqual({ isSettled: false, self: OWN, hosts: new Set([OWN, 6]) });
    vi.advanceTimersByTime(4_900);
    expect(sight.last.isSettled).toBe(false);
    vi.advanceTimersByTime(1_000);
    expect(sight.last).toEqual({ isSettled: true, self: OWN, hosts: new Set([OWN, 6]) });
  });

  it('soon when nobody is to be found', () => {
    sight.seeds = [seed('me:1', ['127.0.0.1:1'])];
    sight.view(OWN);
    vi.advanceTimersByTime(4_000);
    expect(sight.last.isSettled).toBe(false);
    vi.advanceTimersByTime(2_000);
    expect(sight.last.isSettled).toBe(true);
  });

  it('after a minute when its seeds do not answer', () => {
    sight.others = ['1.1.1.1:1'];
    sight.seeds = [seed('1.1.1.1:1')];
    sight.view(OWN);
    vi.advanceTimersByTime(59_000);
    expect(sight.last.isSettled).toBe(false);
    vi.advanceTimersByTime(2_000);
    expect(sight.last.isSettled).toBe(true);
  });

  it('after a minute when the names of its seeds are not known', () => {
    sight.seeds = [seed('nobody:1', [])];
    sight.view(OWN);
    vi.advanceTimersByTime(59_000);
    expect(sight.last.isSettled).toBe(false);
    vi.advanceTimersByTime(2_000);
    expect(sight.last.isSettled).toBe(true);
  });

  it('not when it has lost the other at once: the minute begins anew', () => {
    sight.others = ['1.1.1.1:1'];
    sight.view(OWN);
    vi.advanceTimersByTime(50_000);
    sight.view(OWN, 6);
    vi.advanceTimersByTime(2_000);
    sight.view(OWN);
    vi.advanceTimersByTime(50_000);
    expect(sight.last.isSettled).toBe(false);
    vi.advanceTimersByTime(20_000);
    expect(sight.last.isSettled).toBe(true);
  });

  it('for good, also when it has lost all others', () => {
    sight.view(OWN, 6);
    vi.advanceTimersByTime(10_000);
    sight.view(OWN);
    expect(sight.last).toEqual({ isSettled: true, self: OWN, hosts: new Set([OWN]) });
  });
});

it('says nothing twice, and nothing when it is closed', () => {
  sight.view(OWN, 6);
  sight.view(6, OWN);
  expect(sight.told.length).toBe(1);
  sight.standings.close();
  sight.view(OWN);
  vi.advanceTimersByTime(100_000);
  expect(sight.told.length).toBe(1);
});
