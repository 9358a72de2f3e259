import { describe, expect, it } from 'vitest';
import { COUNTER_MAX } from '../../src/crdt/crdt.js';
import type { Delta, Entry } from '../../src/crdt/message.js';
import { OrMap } from '../../src/crdt/or-map.js';
import { bytes, text } from './seeded.js';

const NOTHING: Delta = { entries: [], dropped: [] };

function entry(key: string, replica: number, counter: number, value = `${replica}/${counter}`): Entry {
  return { key, replica, counter, value: bytes(value) };
}

function values(map: OrMap, key: string): string[] {
  return map.values(key).map(text);
}

describe('OrMap', () => {
  it('keeps concurrent values until somebody who saw them writes', () => {
    const [a, b] = [new OrMap(1), new OrMap(2)];
    const one = a.set('k', bytes('one'))!.toDelta();
    const two = b.set('k', bytes('two'))!.toDelta();
    a.apply(two);
    b.apply(one);
    expect(values(a, 'k')).toEqual(['two', 'one']);
    expect(values(b, 'k')).toEqual(['two', 'one']);
    b.apply(a.set('k', bytes('three'))!.toDelta());
    expect(values(b, 'k')).toEqual(['three']);
    expect(b.entries('k')).toMatchObject([{ replica: 1, counter: 2 }]);
    expect([...b.keys()]).toEqual(['k']);
    expect(b.digest).toMatchObject({ count: 1, low: a.digest.low, high: a.digest.high });
  });

  it('lets a write survive a removal that did not see it', () => {
    const [a, b] = [new OrMap(1), new OrMap(2)];
    b.apply(a.set('k', bytes('old'))!.toDelta());
    const removal = b.remove('k').toDelta();
    const write = a.set('k', bytes('new'))!.toDelta();
    a.apply(removal);
    b.apply(write);
    expect(values(a, 'k')).toEqual(['new']);
    expect(values(b, 'k')).toEqual(['new']);
    expect(a.remove('absent').isNews).toBe(false);
  });

  it('removes what one replica has written, and no more', () => {
    const [a, b] = [new OrMap(1), new OrMap(2)];
    const one = a.set('k', bytes('one'))!.toDelta();
    const two = b.set('k', bytes('two'))!.toDelta();
    a.apply(two);
    b.apply(one);
    b.apply(a.removeOf('k', 2).toDelta());
    for (const map of [a, b]) expect(values(map, 'k')).toEqual(['one']);
    expect(a.digest).toMatchObject({ count: 1, low: b.digest.low, high: b.digest.high });
    expect(a.removeOf('k', 2).isNews).toBe(false);
    a.removeOf('k', 1);
    expect(a.has('k')).toBe(false);
  });

  it('knows one range of a replica that it hears of in order, and of one that it met late', () => {
    const [a, b] = [new OrMap(1), new OrMap(2)];
    for (let i = 0; i < 100; i++) a.set(`k${i % 3}`, bytes(`${i}`));
    b.apply(a.toDelta());
    expect(b.toDelta().dropped).toEqual([1, 1, 97]);
    const late = new OrMap(3);
    late.apply({ entries: b.toDelta().entries, dropped: [] });
    for (let i = 0; i < 100; i++) late.apply(a.set(`k${i % 3}`, bytes(`${i}`))!.toDelta());
    expect(late.toDelta().dropped).toEqual([1, 98, 197]);
  });

  it('forgets origins that have no live dot, and takes their late dots for new', () => {
    const [a, b] = [new OrMap(1), new OrMap(2)];
    const write = a.set('k', bytes('v'))!.toDelta();
    b.apply(write);
    expect(b.forget(1)).toBe(false);
    b.remove('k');
    expect([...b.dormantReplicas()]).toEqual([1]);
    expect(b.apply(write).stale).toEqual(write.entries);
    expect(b.forget(1)).toBe(true);
    expect(b.originCount).toBe(0);
    expect(b.forget(1)).toBe(false);
    expect(b.apply(write).keys).toEqual(['k']);
    expect([...b.dormantReplicas()]).toEqual([]);
  });

  it('never takes itself for dormant', () => {
    const map = new OrMap(1);
    map.set('k', bytes('v'));
    map.remove('k');
    expect([...map.dormantReplicas()]).toEqual([]);
    expect(map.forget(1)).toBe(false);
    expect(map.set('k', bytes('w'))!.dots[0]!.entry.counter).toBe(2);
  });

  it('continues above writes of its own that it never made', () => {
    const map = new OrMap(1);
    map.set('mine', bytes('v'));
    const applied = map.apply({ entries: [entry('forged', 1, 50)], dropped: [] });
    expect(map.has('forged')).toBe(false);
    expect(applied.stale).toMatchObject([{ key: 'forged' }]);
    expect(applied.dropped).toEqual([1, 50, 50]);
    expect(map.set('mine', bytes('w'))!.dots[0]!.entry.counter).toBe(51);
    map.apply({ entries: [], dropped: [1, 1, 900] });
    expect(map.has('mine')).toBe(false);
    expect(map.set('mine', bytes('x'))!.dots[0]!.entry.counter).toBe(901);
    map.apply({ entries: [], dropped: [1, COUNTER_MAX, COUNTER_MAX] });
    expect(map.set('mine', bytes('y'))).toBeUndefined();
    expect(values(map, 'mine')).toEqual(['x']);
  });
});

describe('OrMap limits', () => {
  it('refuses keys, values and maps that are too large, and counts what others sent of them', () => {
    const map = new OrMap(1, { keyLengthMax: 4, valueBytesMax: 3, keysMax: 2 });
    expect(map.set('12345', bytes(''))).toBeUndefined();
    expect(map.set('k', bytes('1234'))).toBeUndefined();
    expect(map.set('k', bytes('123'))).toBeDefined();
    const entries = [
      entry('12345', 2, 1, ''),
      entry('k', 2, 2, '1234'),
      entry('l', 2, 3, ''),
      entry('m', 2, 4, ''),
    ];
    const applied = map.apply({ entries, dropped: [] });
    expect(applied.keys).toEqual(['l']);
    expect(map.refused).toBe(3);
    expect(map.size).toBe(2);
    expect(map.set('n', bytes(''))).toBeUndefined();
    expect(map.set('l', bytes('x'))).toBeDefined();
    // What was refused is not taken for seen: it is welcome when there is room.
    map.remove('k');
    expect(map.apply({ entries: [entry('m', 2, 4, '')], dropped: [] }).keys).toEqual(['m']);
  });

  it('drops the same one of too many concurrent values at every replica', () => {
    const entries = Array.from({ length: 9 }, (_, i) => entry('k', i + 10, 1));
    const [a, b] = [new OrMap(1, { dotsPerKeyMax: 4 }), new OrMap(2, { dotsPerKeyMax: 4 })];
    for (const one of entries) a.apply({ entries: [one], dropped: [] });
    b.apply({ entries: [...entries].reverse(), dropped: [] });
    expect(values(a, 'k')).toEqual(['18/1', '17/1', '16/1', '15/1']);
    expect(values(b, 'k')).toEqual(values(a, 'k'));
    expect(a.digest.low).toBe(b.digest.low);
  });

  it('remembers a bounded number of gaps, dormant origins and ranges', () => {
    const map = new OrMap(1, { rangesPerOriginMax: 4, dormantMax: 10 });
    for (let i = 1; i <= 100; i++) map.apply({ entries: [entry('k', 2, 2 * i)], dropped: [] });
    expect(map.toDelta().dropped.length).toBeLessThanOrEqual(4 * 3);
    for (let i = 1; i <= 100; i++) map.apply({ entries: [], dropped: [100 + i, 1, 5] });
    expect([...map.dormantReplicas()]).toEqual(Array.from({ length: 10 }, (_, i) => 191 + i));
    expect(map.originCount).toBe(11);
  });

  it('leaves out malformed parts of a delta', () => {
    const map = new OrMap(1);
    const wrong = [0, -1, 0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY];
    for (const number of wrong) {
      map.apply({ entries: [entry('k', number, 1), entry('k', 2, number)], dropped: [] });
      map.apply({ entries: [], dropped: [number, 1, 1, 2, number, number, 3, 5, 4] });
    }
    map.apply({ entries: [], dropped: [2, 1] });
    expect(map.toDelta()).toEqual(NOTHING);
    expect(map.refused).toBe(wrong.length * 5);
  });
});
