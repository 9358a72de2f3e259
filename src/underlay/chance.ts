import type { Random } from '../base/env.js';

/** A uniform integer in [0, count). */
export function below(random: Random, count: number): number {
  return Math.floor((random.u32() / 0x1_0000_0000) * count);
}

/** `ms` changed by up to a quarter to either side, so that hosts which began together drift apart. */
export function jittered(random: Random, ms: number): number {
  return ms * (0.75 + random.u32() / 0x2_0000_0000);
}
