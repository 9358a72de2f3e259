import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { Log } from '../base/env.js';
import type { Closable } from '../base/scope.js';

/**
 * What an mqtt thread opens besides connections: its listeners, its event loop, and the sockets of clients that are
 * told that there is no place for them (`REFUSALS_MAX` in `mqtt/admission.ts`).
 */
const PER_MQTT_THREAD = 32 + 64;
/** Metrics server, `$SYS`, files that are reread, a plugin's own. */
const RESERVE = 128;
const LOOK_MS = 1000;
const LOG_MS = 60_000;
export const DESCRIPTORS_REMEDY =
  'raise the limit of open files (ulimit -n; LimitNOFILE= of a systemd unit; --ulimit nofile= of a container)';

/**
 * How many connections the process's limit of open files leaves room for, at least 1; called when everything below the
 * mqtt threads is open. Node.js has raised the soft limit to the hard one. Infinity where the system does not say.
 */
export function connectionsThatFit(mqttThreads: number): number {
  try {
    const limit = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    if (limit === undefined) return Number.POSITIVE_INFINITY;
    const open = readdirSync('/proc/self/fd').length;
    return Math.max(1, Number(limit) - open - RESERVE - mqttThreads * PER_MQTT_THREAD);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/**
 * Says once a minute, while it lasts, that the process has no descriptor left. Connections alone cannot bring that
 * about ({@link connectionsThatFit}); something else in the process can.
 */
export function watchDescriptors(log: Log): Closable {
  let loggedAtMs = Number.NEGATIVE_INFINITY;
  const timer = setInterval(() => {
    try {
      closeSync(openSync('/dev/null', 'r'));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== 'EMFILE' && code !== 'ENFILE') || performance.now() - loggedAtMs < LOG_MS) return;
      loggedAtMs = performance.now();
      log.error({ code }, `no file can be opened and no connection be accepted: ${DESCRIPTORS_REMEDY}`);
    }
  }, LOOK_MS);
  timer.unref();
  return { close: () => clearInterval(timer) };
}
