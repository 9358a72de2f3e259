import { readFileSync } from 'node:fs';

const PARENTS_MAX = 4;

/** The version in package.json, the same from the sources, from `dist/` and from an installed package. */
export function packageVersion(): string {
  let directory = new URL('.', import.meta.url);
  for (let parent = 0; parent < PARENTS_MAX; parent += 1) {
    const found = packageAt(new URL('package.json', directory));
    if (found?.name === 'shoalmq' && found.version !== undefined) return found.version;
    directory = new URL('..', directory);
  }
  return 'unknown';
}

function packageAt(url: URL): { name?: string; version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(url, 'utf8'));
  } catch {
    return undefined;
  }
}
