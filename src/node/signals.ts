import { performance } from 'node:perf_hooks';
import type { Log } from '../base/env.js';
import { complain, report } from './report.js';

/**
 * The first SIGINT or SIGTERM calls `stop` and ends the process: with code 0 when it is done within `timeoutMs`, with 1
 * when it failed. When it is not done by then, the process says so and kills itself (SIGKILL, 137 to a shell), as a
 * supervisor would next. A second signal kills it at once, as that signal would without a handler (130 or 143).
 *
 * `process.exit` will not do while threads live: it ends them and waits, for ever where one is in native code that does
 * not come back, and where one has WebSockets open uWebSockets.js aborts the process with a native trace.
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
        `not stopped within shutdown.timeoutMs (${timeoutMs}), killing itself; what was acknowledged is stored`,
      );
      dieBy('SIGKILL');
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
    else
      log.info(
        {},
        'SIGHUP: files of passwords, ACLs, cluster keys and cluster certificates are reread by themselves when they change',
      );
  });
}

/**
 * The kernel's own way; everything acknowledged survives it. To the first process of a container no signal from within
 * is fatal, not even SIGKILL, but for the fault that abort() ends in.
 */
function dieBy(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  process.abort();
}
