import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteWriter } from '../../src/base/bytes.js';
import { DueIndex } from '../../src/kv/due-index.js';
import { BY_KEY, BY_TENANT, type Grouping, KeySample, type Reading } from '../../src/kv/key-sample.js';
import { SERVICE, tenantKey } from '../../src/kv/keys.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { type Boundary, type RangeHints, wholeService } from '../../src/kv/range.js';

const WHOLE = wholeService(SERVICE.MAP);

function keyOf(text: string): Uint8Array {
  return Buffer.from(`m${text}`);
}

/** A sample, the engine beneath, and what lies there. */
class Sampled {
  readonly engine = new MemoryEngine();
  readonly sample: KeySample;

  constructor(groupings: readonly Grouping[] = [BY_KEY], boundary: Boundary = WHOLE, reading?: Reading) {
    this.sample = new KeySample(groupings, reading);
    this.sample.reset(boundary);
  }

  put(entries: Iterable<readonly [string, number]>): void {
    this.change(writer => {
      for (const [name, bytes] of entries) {
        const key = keyOf(name);
        this.sample.put(key, key.length + bytes);
        writer.put(key, new Uint8Array(bytes));
      }
    });
  }

  remove(keys: Iterable<string>): void {
    this.change(writer => {
      for (const key of keys) {
        this.sample.remove(keyOf(key));
        writer.remove(keyOf(key));
      }
    });
  }

  private change(work: Parameters<MemoryEngine['write']>[0]): void {
    this.engine.write(work, () => undefined);
  }

  hints(): RangeHints {
    return this.sample.hints(this.engine);
  }

  /** Until nothing is new. */
  settled(): RangeHints {
    let last = this.hints();
    for (let asked = 0; ; asked++) {
      expect(asked).toBeLessThan(1000);
      const next = this.hints();
      if (next === last) return next;
      last = next;
    }
  }

  /** The share of all bytes that lies below the key. */
  shareBelow(key: Uint8Array): number {
    let below = 0;
    let all = 0;
    this.engine.scan(WHOLE.start, WHOLE.end, (at, value) => {
      const bytes = at.length + value.length;
      all += bytes;
      if (Buffer.compare(at, key) < 0) below += bytes;
      return true;
    });
    return below / all;
  }

  get bytes(): number {
    let bytes = 0;
    this.engine.scan(WHOLE.start, WHOLE.end, (key, value) => {
      bytes += key.length + value.length;
      return true;
    });
    return bytes;
  }
}

function numbered(count: number, prefix = 'device/'): [string, number][] {
  return Array.from({ length: count }, (_, at) => [`${prefix}${String(at).padStart(6, '0')}/state`, 20]);
}

function expectFair(sampled: Sampled, { bytes, splitKey }: RangeHints): void {
  expect(bytes / sampled.bytes).toBeGreaterThan(0.7);
  expect(bytes / sampled.bytes).toBeLessThan(1.4);
  expect(sampled.shareBelow(splitKey)).toBeGreaterThan(0.33);
  expect(sampled.shareBelow(splitKey)).toBeLessThan(0.67);
}

describe('a sample of keys', () => {
  it('is exact while there are few', () => {
    const key = fc.string({ minLength: 1, maxLength: 4, unit: fc.constantFrom('a', 'b', 'c') });
    const step = fc.tuple(fc.boolean(), key, fc.nat(50));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), steps => {
        const sampled = new Sampled();
        for (const [isPut, name, bytes] of steps) {
          if (isPut) sampled.put([[name, bytes]]);
          else sampled.remove([name]);
          expect(sampled.hints().bytes).toBe(sampled.bytes);
        }
        const { splitKey } = sampled.settled();
        if (splitKey.length === 0) return;
        expect(sampled.engine.get(splitKey)).toBeDefined();
        expect(Math.abs(sampled.shareBelow(splitKey) - 0.5)).toBeLessThanOrEqual(0.375);
      }),
    );
  });

  it('tells the middle and the bytes of many, whichever are written again or go', () => {
    const sampled = new Sampled();
    sampled.put(numbered(30_000));
    expectFair(sampled, sampled.settled());
    sampled.put(numbered(10_000).map(([key]) => [key, 100]));
    expectFair(sampled, sampled.settled());
    sampled.remove(numbered(20_000).map(([key]) => key));
    const hints = sampled.settled();
    expectFair(sampled, hints);
    expect(Buffer.from(hints.splitKey).toString() > 'mdevice/020000').toBe(true);
  });

  it('walks over what lay there, a share at each call, while others are written', () => {
    const sampled = new Sampled();
    sampled.put(numbered(5000));
    const bytes = sampled.bytes;
    sampled.sample.reset(WHOLE);
    expect(sampled.hints().splitKey.length).toBe(0);
    expect(sampled.hints().bytes).toBeLessThan(bytes / 2);
    sampled.put(numbered(5000, 'zebra/'));
    sampled.remove(numbered(1000).map(([key]) => key));
    expectFair(sampled, sampled.settled());
  });

  it('names nothing where the lesser side would be too small', () => {
    const one = new Sampled();
    one.put([['a', 1000], ...numbered(3)]);
    expect(one.settled().splitKey.length).toBe(0);
    const tenants = new Sampled([BY_TENANT]);
    tenants.put(numbered(100, 'one\0t'));
    tenants.put(numbered(5, 'two\0t'));
    expect(tenants.settled().splitKey.length).toBe(0);
    tenants.put(numbered(50, 'two\0t'));
    expect(Buffer.from(tenants.settled().splitKey).toString()).toBe('mtwo\0');
  });

  it('takes a finer grouping where the coarse one is bad, and never the beginning of the range', () => {
    const sampled = new Sampled([BY_TENANT, BY_KEY], { start: keyOf('one\0t'), end: WHOLE.end });
    sampled.put(numbered(100, 'one\0t'));
    sampled.put(numbered(20, 'two\0t'));
    expectFair(sampled, sampled.settled());
    sampled.put(numbered(80, 'two\0t'));
    expect(Buffer.from(sampled.settled().splitKey).toString()).toBe('mtwo\0');
    const upper = new Sampled([BY_TENANT], { start: keyOf('two\0'), end: WHOLE.end });
    upper.put(numbered(20, 'two\0t'));
    expect(upper.settled().splitKey.length).toBe(0);
  });

  it('leaves out keys that are too long', () => {
    const sampled = new Sampled();
    sampled.put([['a'.repeat(5000), 1]]);
    expect(sampled.settled().bytes).toBe(0);
  });

  it('walks over the entries that are read, and by those between them', () => {
    const sampled = new Sampled([BY_KEY], WHOLE, {
      sizeOf: (key, value) => (key[1] === 0x62 ? key.length + value.length : -1),
      next: key => keyOf(key[1]! < 0x62 ? 'b' : 'd'),
    });
    sampled.put([...numbered(3000, 'a/'), ...numbered(30, 'c/')]);
    sampled.sample.reset(WHOLE);
    expect(sampled.settled()).toMatchObject({ bytes: 0, splitKey: new Uint8Array(0) });
    const few = numbered(10, 'b/');
    sampled.put(few);
    sampled.sample.reset(WHOLE);
    // Once to the first that is read, and from the last to the end.
    const { bytes, splitKey } = sampled.hints();
    expect([bytes, Buffer.from(splitKey).toString()]).toEqual([10 * 35, 'mb/000005/state']);
  });
});

describe('what is due in a range', () => {
  it('is looked for in that range alone', () => {
    const engine = new MemoryEngine();
    const index = new DueIndex(SERVICE.RETAIN, 0x78);
    engine.write(
      writer => {
        for (const tenant of ['a', 'b', 'c', 'd'])
          writer.put(index.entry(tenant, 5).copy(), new Uint8Array(0));
      },
      () => undefined,
    );
    const startOf = (tenant: string) => tenantKey(new ByteWriter(16), SERVICE.RETAIN, tenant, 0).copy();
    const tenants = (): string[] => {
      const due: Parameters<DueIndex['due']>[4] = [];
      index.due(engine, 10, 100, 100, due);
      return due.map(({ tenant }) => tenant);
    };
    expect(tenants()).toEqual(['a', 'b', 'c', 'd']);
    index.reset({ start: startOf('b'), end: startOf('d') });
    expect(tenants()).toEqual(['b', 'c']);
    expect(tenants()).toEqual(['b', 'c']);
  });
});
