import { describe, expect, it } from 'vitest';
import { LOAD_WINDOW_MS } from '../../src/kv/balance/landscape.js';
import { LoadMeter } from '../../src/node/load-meter.js';

const IDLE = { writesPerSecond: 0, queriesPerSecond: 0, queryMicros: 0 };
const RANGE = 7;

describe('the load of a range', () => {
  let nowMs = 0;
  const meter = new LoadMeter(() => nowMs);

  function ask(writes: number, queries: number, tookMs: number): void {
    for (let at = 0; at < writes; at++) meter.asked(RANGE, true);
    for (let at = 0; at < queries; at++) {
      meter.asked(RANGE, false);
      meter.ran(RANGE, tookMs);
    }
  }

  it('is the mean of the last window that is over', () => {
    ask(600, 300, 0.25);
    nowMs += LOAD_WINDOW_MS / 2;
    expect(meter.of(RANGE)).toEqual(IDLE);
    nowMs += LOAD_WINDOW_MS / 2;
    const perSecond = 1000 / LOAD_WINDOW_MS;
    const load = { writesPerSecond: 600 * perSecond, queriesPerSecond: 300 * perSecond, queryMicros: 250 };
    expect(meter.of(RANGE)).toEqual(load);
    ask(1, 0, 0);
    expect(meter.of(RANGE)).toEqual(load);
    nowMs += LOAD_WINDOW_MS;
    expect(meter.of(RANGE)).toEqual({ ...IDLE, writesPerSecond: perSecond });
  });

  it('is none when nobody asks', () => {
    nowMs += LOAD_WINDOW_MS;
    expect(meter.of(RANGE)).toEqual(IDLE);
    expect(meter.of(RANGE)).toEqual(IDLE);
    meter.ran(RANGE, 5);
    expect(meter.of(RANGE)).toEqual(IDLE);
    expect(meter.of(99)).toEqual(IDLE);
  });
});
