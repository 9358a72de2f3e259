import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../base/env.js';

/**
 * Of which services this node has ever seen a range that stores share, with something in it: an empty file for each in
 * the data directory, `begun-6d` for the map (the service's number in hexadecimal digits).
 *
 * Bootstrap makes a first range where nobody has any. After a loss of power those who have it may be the last to come
 * back, and what is kept then is unknown to everybody else: the others would begin an empty key space, and say of each
 * key that it is not there. So whoever has seen a key space leaves it to those that have it, however long they take.
 *
 * If all of them are gone for good, with their disks, what they had is lost, and an operator has to say so before
 * anything begins anew: by removing that file from one stopped node.
 */
export class KvBegun {
  private readonly dataDir: string;
  private readonly log: Log;
  private readonly services = new Set<number>();

  /** Under the lock of the data directory. */
  constructor(dataDir: string, log: Log) {
    this.dataDir = dataDir;
    this.log = log;
    for (const name of readdirSync(dataDir)) {
      const digits = FILE.exec(name)?.[1];
      if (digits !== undefined) this.services.add(Number.parseInt(digits, 16));
    }
  }

  get all(): ReadonlySet<number> {
    return this.services;
  }

  /** False if it was known already. */
  add(service: number): boolean {
    if (this.services.has(service)) return false;
    this.services.add(service);
    const file = join(this.dataDir, `begun-${service.toString(16).padStart(2, '0')}`);
    try {
      writeFileSync(file, '', { flush: true });
    } catch (error) {
      this.log.warn(
        { file, err: error },
        'it cannot be remembered that a key space of the cluster has begun',
      );
    }
    return true;
  }
}

const FILE = /^begun-([0-9a-f]{2})$/;
