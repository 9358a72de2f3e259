import { assert } from '../../base/assert.js';
import type { Configuration } from './configuration.js';

interface Appended {
  readonly index: number;
  readonly configuration: Configuration;
}

/** The configurations of the log: the one that stands before its first entry, and those in entries. Never empty. */
export class ConfigurationHistory {
  private appended: Appended[];

  constructor(index: number, configuration: Configuration) {
    this.appended = [{ index, configuration }];
  }

  /** In force: the last one appended. */
  get current(): Configuration {
    return this.appended.at(-1)!.configuration;
  }

  /** Of the entry that holds the current one, or the index of the snapshot. */
  get currentIndex(): number {
    return this.appended.at(-1)!.index;
  }

  push(index: number, configuration: Configuration): void {
    assert(index > this.currentIndex, 'configurations come in the order of the log');
    this.appended.push({ index, configuration });
  }

  /** Entries from `index` on are gone, and what they said with them. */
  truncate(index: number): void {
    while (this.currentIndex >= index) this.appended.pop();
    assert(this.appended.length > 0, 'the configuration before the log stays');
  }

  /** What was in force at an entry; the first one known, if that is too far back. */
  at(index: number): Configuration {
    let last = this.appended.length - 1;
    while (last > 0 && this.appended[last]!.index > index) last--;
    return this.appended[last]!.configuration;
  }

  /** Forgets what no entry after `index` needs. */
  compact(index: number): void {
    while (this.appended.length > 1 && this.appended[1]!.index <= index) this.appended.shift();
  }

  /** A snapshot took the place of everything. */
  replace(index: number, configuration: Configuration): void {
    this.appended = [{ index, configuration }];
  }
}
