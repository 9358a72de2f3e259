import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hashKeys } from '../../src/topic/hash.js';
import { NameIndex } from '../../src/topic/name-index.js';
import { matches } from '../../src/topic/topic.js';
import { ADVERSARIAL_FILTERS, ADVERSARIAL_TOPICS, arbFilter, arbTopic } from './arbitrary.js';

const keys = hashKeys(11);

function set(index: NameIndex<string>, name: string, value = name): string | undefined {
  const bytes = Buffer.from(`>${name}<`);
  return index.set(bytes, 1, bytes.length - 1, value);
}

function remove(index: NameIndex<string>, name: string): string | undefined {
  const bytes = Buffer.from(`>${name}<`);
  return index.delete(bytes, 1, bytes.length - 1);
}

function collected(index: NameIndex<string>, filter: string): string[] {
  const out: string[] = [];
  index.collect(filter, out);
  return out.sort();
}

describe('NameIndex', () => {
  test('agrees with the oracle on the awkward cases', () => {
    const index = new NameIndex<string>(keys);
    for (const name of ADVERSARIAL_TOPICS) set(index, name);
    for (const filter of ADVERSARIAL_FILTERS) {
      expect(collected(index, filter), filter).toEqual(
        ADVERSARIAL_TOPICS.filter(name => matches(filter, name)).sort(),
      );
    }
  });

  test('collects as the oracle does, after any sets and deletes', () => {
    const step = fc.record({ name: arbTopic, value: fc.constantFrom('p', 'q'), add: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.array(arbFilter, { maxLength: 10 }),
        (steps, filters) => {
          const index = new NameIndex<string>(keys);
          const model = new Map<string, string>();
          for (const { name, value, add } of steps) {
            expect(add ? set(index, name, value) : remove(index, name)).toBe(model.get(name));
            if (add) model.set(name, value);
            else model.delete(name);
          }
          expect(index.size).toBe(model.size);
          for (const [name, value] of model)
            expect(index.get(Buffer.from(name), 0, Buffer.byteLength(name))).toBe(value);
          for (const filter of filters) {
            const wanted = [...model].filter(([name]) => matches(filter, name)).map(([, value]) => value);
            expect(collected(index, filter)).toEqual(wanted.sort());
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test('a name above others is kept when those below go, and they when it goes', () => {
    const index = new NameIndex<string>(keys);
    for (const name of ['a', 'a/b/c', 'a/b']) set(index, name);
    expect(remove(index, 'a/b')).toBe('a/b');
    expect(collected(index, 'a/#')).toEqual(['a', 'a/b/c']);
    expect(remove(index, 'a')).toBe('a');
    expect(collected(index, '#')).toEqual(['a/b/c']);
    expect(remove(index, 'a/b/c')).toBe('a/b/c');
    expect(remove(index, 'a/b/c')).toBeUndefined();
    expect(index.size).toBe(0);
  });

  test('a name of 65,535 separators is walked without recursion', () => {
    const index = new NameIndex<string>(keys);
    const deep = '/'.repeat(65_535);
    set(index, deep, 'deep');
    expect(collected(index, '#')).toEqual(['deep']);
    expect(collected(index, `${'/'.repeat(60_000)}/#`)).toEqual(['deep']);
    expect(remove(index, deep)).toBe('deep');
  });

  test('clear empties, and the index goes on', () => {
    const index = new NameIndex<string>(keys);
    set(index, 'a/b');
    index.clear();
    expect(collected(index, '#')).toEqual([]);
    set(index, 'a/c');
    expect(collected(index, 'a/+')).toEqual(['a/c']);
  });
});
