import { execFile } from 'node:child_process';
import type { Row, TargetName } from './scenarios.js';
import { metric } from './statistics.js';
import { LOAD, startTarget } from './targets.js';

const LOAD_TIMEOUT_MS = 180_000;

/** One run of one row on one target: the load generator's JSON, or why there is none. */
export type Measurement =
  | { readonly kind: 'measured'; readonly row: string; readonly target: TargetName; readonly result: unknown }
  | { readonly kind: 'failed'; readonly row: string; readonly target: TargetName; readonly reason: string };

export interface Duration {
  readonly warmupSeconds: number;
  readonly seconds: number;
}

function runLoad(args: readonly string[]): Promise<unknown> {
  return new Promise((resolve, reject) => {
    execFile(LOAD, args, { timeout: LOAD_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout));
      else if (error.killed)
        reject(new Error(`the load generator was not done after ${LOAD_TIMEOUT_MS / 1000} s`));
      else reject(new Error(stderr.trim() || `${error.message} ${error.signal ?? ''}`));
    });
  });
}

/** Starts the target afresh, so that no row finds what another left behind, and stops it again. */
export async function measure(row: Row, target: TargetName, duration: Duration): Promise<Measurement> {
  try {
    const server = await startTarget(target);
    try {
      const port = row.transport === 'ws' ? server.wsPort : server.tcpPort;
      const result = await runLoad([
        ...row.load,
        ...(row.transport === 'ws' ? ['--ws'] : []),
        ...['--port', String(port), '--pid', String(server.pid)],
        ...['--warmup', String(duration.warmupSeconds), '--seconds', String(duration.seconds)],
      ]);
      return { kind: 'measured', row: row.name, target, result };
    } finally {
      await server.stop();
    }
  } catch (error) {
    return { kind: 'failed', row: row.name, target, reason: (error as Error).message };
  }
}

/** Messages that are not accounted for, or came wrongly; 0 is right. */
export function faults(result: unknown): number {
  const names = ['lost', 'duplicates', 'disordered', 'stray', 'unacknowledged', 'refused', 'disconnects'];
  let sum = (metric(result, 'refused') ?? 0) + (metric(result, 'disconnects') ?? 0);
  for (const name of names) sum += metric(result, `accounts.${name}`) ?? 0;
  return sum;
}
