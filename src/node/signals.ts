import { performance } from 'node:perf_hooks';
import type { Log } from '../base/env.js';
import { complain, report } from './report.js';

/**
 * The first SIGINT or SIGTERM calls `stop` and ends the process: code 0 when it is done within `timeoutMs`,
 * otherwise 1. A second one kills it at once, as the same signal would without a handler (130 or 143 to a shell):
 * `process.exit` would wait for the threads, and a thread that hangs may be why somebody signals again.
 */
export function stopOnSignal(stop: () => Promise<void>, timeoutMs: number, log: Log): void {
  let stopping = false;
  const onSignal = (signal: NodeJS.Signals) => {
    if (stopping) return dieBy(signal);
    stopping = true;
    const began = performance.now();
    log.info({ signal, timeoutMs }, 'stopping');
    setTimeout(() => {
      complain(
        `not stopped within shutdown.timeoutMs (${timeoutMs}), giving up; what was acknowledged is stored`,
      );
      process.exit(1);
    }, timeoutMs);
    stop().then(
      () => {
        log.info({ tookMs: Math.round(performance.now() - began) }, 'stopped');
        process.exit(0);
      },
      error => {
        report(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGINT', () => onSignal('SIGINT'));
  process.on('SIGTERM', () => onSignal('SIGTERM'));
  process.on('SIGHUP', () => {
    // A closed terminal ends the broker; a service manager's "reload" must not.
    if (process.stdin.isTTY) onSignal('SIGHUP');
    else log.info({}, 'SIGHUP: password and ACL files are reread by themselves when they change');
  });
}

/** The kernel's own way; everything acknowledged survives it. */
function dieBy(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
