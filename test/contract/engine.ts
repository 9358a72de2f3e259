import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KvReader, SnapshotEngine } from '../../src/kv/engine.js';
import { FIRST } from './engine-keys.js';

/** What every `Engine` must do. `open` gives a fresh one; the suite closes it. */
export function engineContract(name: string, open: () => SnapshotEngine): void {
  function withEngine(work: (engine: SnapshotEngine) => void): () => Promise<void> {
    return async () => {
      const engine = open();
      try {
        work(engine);
      } finally {
        await engine.close();
      }
    };
  }

  describe(`${name}: the contract of Engine`, () => {
    it(
      'puts, gets, replaces and removes',
      withEngine(engine => {
        put(engine, 'a', '1');
        put(engine, 'b', '');
        expect([get(engine, 'a'), get(engine, 'b'), get(engine, 'c')]).toEqual(['1', '', undefined]);
        put(engine, 'a', '2');
        expect(get(engine, 'a')).toBe('2');
        engine.write(
          writer => writer.remove(key('a')),
          () => undefined,
        );
        expect(get(engine, 'a')).toBeUndefined();
      }),
    );

    it(
      'sees its own writes within a transaction, in gets and scans',
      withEngine(engine => {
        put(engine, 'b', 'old');
        engine.write(
          writer => {
            writer.put(key('a'), Buffer.from('1'));
            writer.put(key('b'), Buffer.from('2'));
            writer.put(key('c'), Buffer.from('3'));
            writer.remove(key('a'));
            expect(get(writer, 'b')).toBe('2');
            expect(scan(writer, '', 'zz')).toEqual(['b=2', 'c=3']);
            expect(scan(writer, '', 'zz', true)).toEqual(['c=3', 'b=2']);
          },
          () => undefined,
        );
        expect(scan(engine, '', 'zz')).toEqual(['b=2', 'c=3']);
      }),
    );

    it(
      'undoes everything when the work throws, and goes on',
      withEngine(engine => {
        put(engine, 'a', '1');
        let durable = false;
        expect(() =>
          engine.write(
            writer => {
              writer.put(key('a'), Buffer.from('2'));
              writer.put(key('b'), Buffer.from('2'));
              writer.put(key('x'.repeat(5000)), Buffer.from('2'));
              writer.remove(key('a'));
              throw new Error('on purpose');
            },
            () => {
              durable = true;
            },
          ),
        ).toThrow('on purpose');
        expect(durable).toBe(false);
        expect(scan(engine, '', 'zz')).toEqual(['a=1']);
        put(engine, 'c', '3');
        expect(scan(engine, '', 'zz')).toEqual(['a=1', 'c=3']);
      }),
    );

    it(
      'calls durable in the order of the commits, when the data can be read',
      withEngine(engine => {
        const order: (string | undefined)[] = [];
        for (const value of ['1', '2', '3'])
          engine.write(
            writer => writer.put(key('a'), Buffer.from(value)),
            () => order.push(get(engine, 'a')),
          );
        expect(order).toEqual(['1', '2', '3']);
      }),
    );

    it(
      'keeps a large value and many small ones',
      withEngine(engine => {
        const large = 'v'.repeat(3_000_000);
        put(engine, 'large', large);
        engine.write(
          writer => {
            for (let i = 0; i < 5000; i++)
              writer.put(key(`n${String(i).padStart(5, '0')}`), Buffer.from(`${i}`));
          },
          () => undefined,
        );
        expect(get(engine, 'large')).toBe(large);
        expect(scan(engine, 'n', 'o')).toHaveLength(5000);
        expect(scan(engine, 'n01000', 'n01003')).toEqual(['n01000=1000', 'n01001=1001', 'n01002=1002']);
        const first: string[] = [];
        engine.scan(key('n'), key('o'), entry => first.push(text(entry)) < 3);
        expect(first).toEqual(['n00000', 'n00001', 'n00002']);
      }),
    );

    it(
      'keeps what it held for those who have a snapshot, whatever is written',
      withEngine(engine => {
        const long = 'x'.repeat(3000);
        for (let i = 0; i < 1500; i++) put(engine, `n${String(i).padStart(4, '0')}`, `${i}`);
        put(engine, long, 'long');
        const before = scan(engine, '', 'zz');
        const first = engine.snapshot();
        engine.write(
          writer => {
            for (let i = 0; i < 1500; i += 2) writer.remove(key(`n${String(i).padStart(4, '0')}`));
            writer.put(key('n0001'), Buffer.from('new'));
            writer.remove(key(long));
            writer.put(key(`${long}y`), Buffer.from('long, too'));
          },
          () => undefined,
        );
        const second = engine.snapshot();
        for (let i = 0; i < 1500; i += 3) put(engine, `n${String(i).padStart(4, '0')}`, 'newer');
        expect(scan(first, '', 'zz')).toEqual(before);
        expect(scan(first, '', 'zz', true)).toEqual([...before].reverse());
        expect([get(first, 'n0001'), get(first, long), get(first, `${long}y`)]).toEqual([
          '1',
          'long',
          undefined,
        ]);
        expect(scan(second, 'n', 'o')).toHaveLength(750);
        expect([get(second, 'n0001'), get(second, long), get(second, `${long}y`)]).toEqual([
          'new',
          undefined,
          'long, too',
        ]);
        first.close();
        first.close();
        expect(get(second, 'n0003')).toBe('3');
        second.close();
        expect(get(engine, 'n0003')).toBe('newer');
      }),
    );

    it('gives a snapshot what is committed alone, and time', async () => {
      const engine = open();
      put(engine, 'a', '1');
      const snapshot = engine.snapshot();
      expect(() =>
        engine.write(
          writer => {
            writer.put(key('a'), Buffer.from('2'));
            throw new Error('on purpose');
          },
          () => undefined,
        ),
      ).toThrow('on purpose');
      put(engine, 'a', '3');
      await new Promise(resolve => setTimeout(resolve, 20));
      put(engine, 'a', '4');
      expect(get(snapshot, 'a')).toBe('1');
      snapshot.close();
      await engine.close();
    });

    it(
      'behaves as a sorted map does, with keys of any length',
      withEngine(engine => {
        // Long keys share long beginnings, so that directories of directories come about.
        const part = fc.constantFrom(
          'a',
          'b',
          '\0',
          '\u0001',
          'x'.repeat(700),
          'x'.repeat(1023),
          'x'.repeat(1024),
          'y'.repeat(2048),
        );
        const name = fc.array(part, { maxLength: 5 }).map(parts => parts.join(''));
        const step = fc.tuple(fc.boolean(), name, fc.string({ maxLength: 20 }));
        const bounds = fc.tuple(name, name, fc.boolean());
        fc.assert(
          fc.property(
            fc.array(fc.array(step, { maxLength: 12 }), { maxLength: 5 }),
            fc.array(bounds, { maxLength: 8 }),
            (transactions, ranges) => {
              const model = new Map<string, string>();
              for (const steps of transactions)
                engine.write(
                  writer => {
                    for (const [adding, at, value] of steps) {
                      if (adding) writer.put(key(at), Buffer.from(value));
                      else writer.remove(key(at));
                      if (adding) model.set(at, value);
                      else model.delete(at);
                    }
                  },
                  () => undefined,
                );
              for (const at of model.keys()) expect(get(engine, at)).toBe(model.get(at));
              for (const [start, end, reverse] of [...ranges, ['', '~~~', false] as const]) {
                const wanted = [...model]
                  .filter(([at]) => compare(at, start) >= 0 && compare(at, end) < 0)
                  .sort(([a], [b]) => compare(a, b))
                  .map(([at, value]) => `${at}=${value}`);
                if (reverse) wanted.reverse();
                expect(scan(engine, start, end, reverse)).toEqual(wanted);
              }
              engine.write(
                writer => {
                  for (const at of model.keys()) writer.remove(key(at));
                },
                () => undefined,
              );
              expect(scan(engine, '', '~~~')).toEqual([]);
            },
          ),
          { numRuns: 60 },
        );
      }),
    );
  });
}

function key(name: string): Buffer {
  return Buffer.concat([FIRST, Buffer.from(name)]);
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(1)).toString();
}

function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function put(engine: SnapshotEngine, name: string, value: string): void {
  engine.write(
    writer => writer.put(key(name), Buffer.from(value)),
    () => undefined,
  );
}

function get(reader: KvReader, name: string): string | undefined {
  const value = reader.get(key(name));
  return value === undefined ? undefined : Buffer.from(value).toString();
}

function scan(reader: KvReader, start: string, end: string, reverse = false): string[] {
  const out: string[] = [];
  reader.scan(
    key(start),
    key(end),
    (entry, value) => {
      out.push(`${text(entry)}=${Buffer.from(value)}`);
      return true;
    },
    reverse,
  );
  return out;
}
