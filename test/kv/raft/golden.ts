import { readFileSync, writeFileSync } from 'node:fs';
import { GoldenWorld } from './golden-world.js';

/**
 * Golden scripts: stories of a group of replicas, one a file in test/data/raft/.
 *
 *     # What follows is shown to the reader only.
 *     > propose 1 x          a command; golden-world.ts has them all
 *     1 applies 2/1 x        what it shows, up to an empty line or the next command
 *
 * With GOLDEN_UPDATE=1 in the environment what is shown now takes the place of what is expected. Read it then, every
 * line: it must be what the paper says, and not what the code happens to do.
 */
export function playGolden(path: string): { readonly expected: string; readonly actual: string } {
  const expected = readFileSync(path, 'utf8');
  const actual = play(expected);
  if (process.env.GOLDEN_UPDATE === '1' && actual !== expected) {
    writeFileSync(path, actual);
    return { expected: actual, actual };
  }
  return { expected, actual };
}

function play(script: string): string {
  const world = new GoldenWorld();
  const lines: string[] = [];
  let isShowing = false;
  for (const line of script.split('\n')) {
    if (line.startsWith('> ')) {
      lines.push(line);
      lines.push(...world.run(line.slice(2)));
      isShowing = true;
    } else if (!isShowing || line === '' || line.startsWith('#')) {
      isShowing = false;
      lines.push(line);
    }
  }
  return lines.join('\n');
}
