import { execFile } from 'node:child_process';
import { readlinkSync } from 'node:fs';

export type PinResult =
  | { readonly kind: 'pinned'; readonly cpu: number; readonly threadId: number }
  | { readonly kind: 'not-pinned'; readonly reason: string };

/** How long `taskset` may take. */
const TIMEOUT_MS = 5000;

/**
 * Binds the calling thread to one CPU (0 is the first), by `taskset` of util-linux; Linux only. Never throws: a
 * thread that is not pinned works as well, only less evenly. Pin only where there are more cores than threads.
 */
export function pinThread(cpu: number): Promise<PinResult> {
  let threadId: number;
  try {
    // Synchronous, since the link names whichever thread asks; its target is "<pid>/task/<tid>".
    threadId = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
  } catch (error) {
    return Promise.resolve({ kind: 'not-pinned', reason: `no /proc/thread-self: ${String(error)}` });
  }
  return new Promise(resolve => {
    execFile(
      'taskset',
      ['-pc', String(cpu), String(threadId)],
      { timeout: TIMEOUT_MS },
      (error, _stdout, stderr) => {
        if (error === null) resolve({ kind: 'pinned', cpu, threadId });
        else resolve({ kind: 'not-pinned', reason: stderr.trim() || error.message });
      },
    );
  });
}
