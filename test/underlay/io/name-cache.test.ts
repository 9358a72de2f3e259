import { describe, expect, it } from 'vitest';
import { NAME_FAILED_MS, NAME_FRESH_MS, NAMES_MAX, NameCache } from '../../../src/underlay/io/name-cache.js';
import { until } from './socket-world.js';

describe('names', () => {
  it('are looked up once for all who ask, and then known', async () => {
    const names = new NameCache(4);
    const found: (string | undefined)[] = [];
    for (let count = 0; count < 5; count++) names.find('localhost', performance.now(), ip => found.push(ip));
    expect(found).toEqual([]);
    await until(() => found.length === 5);
    names.find('localhost', performance.now(), ip => found.push(ip));
    expect(found).toEqual(Array.from({ length: 6 }, () => '127.0.0.1'));
  });

  it('that are too old answer at once and are asked for anew', async () => {
    const names = new NameCache(4);
    const found: (string | undefined)[] = [];
    names.find('localhost', performance.now(), ip => found.push(ip));
    await until(() => found.length === 1);
    names.find('localhost', performance.now() + NAME_FRESH_MS + 1, ip => found.push(ip));
    expect(found).toHaveLength(2);
  });

  it('that do not exist are not asked for again at once', async () => {
    const names = new NameCache(4);
    const found: (string | undefined)[] = [];
    names.find('no-such-host.invalid', performance.now(), ip => found.push(ip));
    await until(() => found.length === 1);
    names.find('no-such-host.invalid', performance.now(), ip => found.push(ip));
    expect([found, names.failures]).toEqual([[undefined, undefined], 1]);
    names.find('no-such-host.invalid', performance.now() + NAME_FAILED_MS + 1, ip => found.push(ip));
    expect(found).toHaveLength(2);
    await until(() => found.length === 3);
    expect(names.failures).toBe(2);
  });

  it('have a bounded number of those who wait for them', async () => {
    const names = new NameCache(4);
    let answered = 0;
    for (let count = 0; count < NAMES_MAX + 10; count++) {
      names.find('x'.repeat(300), performance.now(), () => answered++);
    }
    expect(answered).toBe(NAMES_MAX + 10 - 256);
    await until(() => answered === NAMES_MAX + 10);
    expect(names.size).toBe(1);
  });
});
