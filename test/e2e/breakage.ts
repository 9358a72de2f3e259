import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { sleep } from './client/client.js';

/** A publish to this topic breaks the mqtt thread that the publisher is connected to, under {@link breakingPlugin}. */
export const BREAKING_TOPIC = 'break/thread';

/** Asked whether anybody may publish to that topic, it throws later, in nobody's call. */
const PLUGIN = `
export const hooks = {
  authorizer: {
    version: 1,
    mayPublish(identity, topic) {
      if (topic === '${BREAKING_TOPIC}') setTimeout(() => { throw new Error('a bug in a plugin'); }, 0);
      return true;
    },
    maySubscribe: () => true,
  },
};
`;

/** A file that is gone after the tests of this suite. */
function writtenFile(name: string, content: (folder: string) => string): string {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-breakage-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = join(folder, name);
  writeFileSync(file, content(folder));
  return file;
}

/** A plugin with a bug, for `auth.plugin`. */
export function breakingPlugin(): string {
  return writtenFile('broken.mjs', () => PLUGIN);
}

/** Breaks threads of a broker that is started with `env`, by their number within the process. */
export interface ThreadBreaker {
  readonly env: Readonly<Record<string, string>>;
  break(thread: number): void;
}

/** Loaded by every thread of the process, it looks for an order to break, and throws in nobody's call. */
export function threadBreaker(): ThreadBreaker {
  let order = '';
  const hook = writtenFile('break.cjs', folder => {
    order = join(folder, 'order');
    return `
const { isMainThread, threadId } = require('node:worker_threads');
const { existsSync, readFileSync, rmSync } = require('node:fs');
const order = ${JSON.stringify(order)};
const look = () => {
  if (!existsSync(order) || readFileSync(order, 'utf8') !== String(threadId)) return;
  rmSync(order);
  throw new Error('a bug');
};
if (!isMainThread) setInterval(look, 5).unref();
`;
  });
  return { env: { NODE_OPTIONS: `--require ${hook}` }, break: thread => writeFileSync(order, `${thread}`) };
}

/** Waits until `check` says yes. */
export async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (await check()) return;
    await sleep(50);
  }
  throw new Error(`not within five seconds: ${what}`);
}
