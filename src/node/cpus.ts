import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/**
 * The numbers of the CPUs that this process may run on: in a container often not the first ones. No more than Node.js
 * says there is room for, which may know of a quota.
 */
export function allowedCpus(): number[] {
  try {
    const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    if (list !== undefined) return parseCpuList(list).slice(0, availableParallelism());
  } catch {
    // Not Linux; there is no pinning there either.
  }
  return Array.from({ length: availableParallelism() }, (_, cpu) => cpu);
}

/** The kernel's form: `0-3,8,10-11`. */
export function parseCpuList(list: string): number[] {
  return list.split(',').flatMap(part => {
    const [first, last] = part.split('-').map(Number) as [number, number?];
    return Array.from({ length: (last ?? first) - first + 1 }, (_, offset) => first + offset);
  });
}
