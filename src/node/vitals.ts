import { performance } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import {
  type CounterBlock,
  EXTERNAL_BYTES,
  HEAP_BYTES,
  LOOP_DELAY_SECONDS,
  LOOP_UTILIZATION,
} from '../base/metrics.js';
import type { Closable } from '../base/scope.js';

const BEAT_MS = 100;
const BEATS_PER_SAMPLE = 10;
const SAMPLES_KEPT = 10;

export interface Vitals extends Closable {
  /** The largest of the last ten seconds. */
  loopDelayMs(): number;
}

/**
 * Measures the thread that calls it into its own block: how late a timer comes ten times a second (the
 * event-loop delay), and once a second memory and how busy the loop was. Keeps no thread alive.
 */
export function startVitals(block: CounterBlock): Vitals {
  const recent = new Float64Array(SAMPLES_KEPT);
  let beat = 0;
  let expectedMs = performance.now() + BEAT_MS;
  let before = performance.eventLoopUtilization();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const lateMs = Math.max(0, nowMs - expectedMs);
    block.observe(LOOP_DELAY_SECONDS, lateMs / 1000);
    expectedMs = nowMs + BEAT_MS;
    const sample = Math.floor(beat / BEATS_PER_SAMPLE) % SAMPLES_KEPT;
    recent[sample] = beat % BEATS_PER_SAMPLE === 0 ? lateMs : Math.max(recent[sample]!, lateMs);
    beat += 1;
    if (beat % BEATS_PER_SAMPLE !== 0) return;
    const after = performance.eventLoopUtilization();
    block.values[LOOP_UTILIZATION] = performance.eventLoopUtilization(after, before).utilization;
    before = after;
    sampleMemory(block);
  }, BEAT_MS);
  timer.unref();
  sampleMemory(block);
  return { close: () => clearInterval(timer), loopDelayMs: () => Math.max(...recent) };
}

function sampleMemory({ values }: CounterBlock): void {
  const { used_heap_size, external_memory } = getHeapStatistics();
  values[HEAP_BYTES] = used_heap_size;
  values[EXTERNAL_BYTES] = external_memory;
}
