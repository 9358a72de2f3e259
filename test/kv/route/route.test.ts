import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CORRECTIONS_MAX, type Place, Route } from '../../../src/kv/route/route.js';
import { between, Model } from '../balance/model.js';

const key = (text: string) => Buffer.from(text);

function place(range: number, start: string, end: string, more: Partial<Place> = {}): Place {
  const boundary = between(start, end);
  return {
    range,
    epoch: 1,
    boundary,
    genesis: 7,
    pristine: false,
    term: 1,
    leader: 1,
    stores: [1, 2, 3],
    ...more,
  };
}

describe('Route', () => {
  it('finds the range of a key, and nothing outside', () => {
    const model = new Model(3);
    const low = model.addRange('a', 'am', [1, 2, 3]);
    const high = model.addRange('am', 'b', [2, 3, 1]);
    const route = new Route();
    route.update(model.landscape());
    expect(route.find(key('a'))).toMatchObject({ range: low.id, leader: 1, stores: [1, 2, 3] });
    expect(route.find(key('al'))).toMatchObject({ range: low.id });
    expect(route.find(key('am'))).toMatchObject({ range: high.id, leader: 2 });
    expect(route.find(key('b'))).toBeUndefined();
    expect(route.find(key('A'))).toBeUndefined();
  });

  it('takes a correction at once, and the landscape when it has caught up', () => {
    const model = new Model(3);
    const range = model.addRange('a', 'b', [1, 2, 3]);
    const route = new Route();
    route.update(model.landscape());
    const { version } = route;
    expect(route.correct(place(range.id, 'a', 'b', { term: 2, leader: 3 }))).toBe(true);
    expect(route.find(key('aa'))?.leader).toBe(3);
    expect(route.version).toBe(version + 1);
    route.update(model.landscape());
    expect(route.find(key('aa'))?.leader).toBe(3);
    range.term = 3;
    range.leader = 2;
    route.update(model.landscape());
    expect(route.find(key('aa'))?.leader).toBe(2);
    expect(route.correct(place(range.id, 'a', 'b', { term: 2, leader: 3 }))).toBe(false);
  });

  it('follows a split of which only one half is known yet, and never gives a key to the old range again', () => {
    const route = new Route();
    route.correct(place(1, 'a', 'b'));
    route.correct(place(1, 'a', 'am', { epoch: 2 }));
    expect(route.find(key('an'))).toBeUndefined();
    expect(route.within(between('a', 'b'))).toMatchObject({ isWhole: false });
    route.correct(place(2, 'am', 'b', { epoch: 2 }));
    expect(route.find(key('an'))?.range).toBe(2);
    expect(route.within(between('a', 'b'))).toMatchObject({ isWhole: true });
    expect(route.correct(place(1, 'a', 'b'))).toBe(false);
  });

  it('follows a merge although the account of the upper range is still there', () => {
    const route = new Route();
    route.correct(place(1, 'a', 'am', { epoch: 2 }));
    route.correct(place(2, 'am', 'b', { epoch: 2 }));
    route.correct(place(1, 'a', 'b', { epoch: 3 }));
    expect(route.within(between('a', 'b')).places.map(({ range }) => range)).toEqual([1]);
    expect(route.find(key('an'))?.range).toBe(1);
  });

  it('prefers the key space that holds data, then the one of the lower genesis', () => {
    const route = new Route();
    route.correct(place(1, 'a', 'b', { genesis: 9 }));
    route.correct(place(2, 'a', 'b', { genesis: 3, pristine: true, epoch: 8 }));
    expect(route.find(key('aa'))?.range).toBe(1);
    route.correct(place(2, 'a', 'b', { genesis: 3, epoch: 9 }));
    expect(route.find(key('aa'))?.range).toBe(2);
  });

  it('prefers who knows the leader to who only heard of a later term', () => {
    const route = new Route();
    route.correct(place(1, 'a', 'b', { term: 4, leader: 2 }));
    expect(route.correct(place(1, 'a', 'b', { term: 5, leader: 0 }))).toBe(false);
    expect(route.find(key('aa'))?.leader).toBe(2);
  });

  it('keeps a bounded number of corrections', () => {
    const route = new Route();
    const name = (at: number) =>
      String.fromCharCode(97 + Math.floor(at / 676), 97 + (Math.floor(at / 26) % 26), 97 + (at % 26));
    for (let i = 0; i <= CORRECTIONS_MAX; i++) route.correct(place(i + 1, name(i), name(i + 1)));
    expect(route.find(key(name(0)))).toBeUndefined();
    expect(route.find(key(name(1)))?.range).toBe(2);
    expect(route.find(key(name(CORRECTIONS_MAX)))?.range).toBe(CORRECTIONS_MAX + 1);
  });

  it('gives each key to at most one range, and that to the newest there is, whatever the order of the news', () => {
    const history = fc.array(fc.tuple(fc.boolean(), fc.nat(1000), fc.nat(25)), { maxLength: 12 });
    fc.assert(
      fc.property(history, fc.infiniteStream(fc.nat()), (steps, chance) => {
        let now: Place[] = [place(1, 'a', 'b')];
        const all: Place[] = [...now];
        let ids = 1;
        for (const [splits, which, at] of steps) {
          const one = now[which % now.length]!;
          const next = now[now.indexOf(one) + 1];
          if (splits) {
            const cut = Buffer.concat([one.boundary.start, key(String.fromCharCode(98 + at))]);
            if (Buffer.compare(cut, one.boundary.end) >= 0) continue;
            const lower = { ...one, epoch: one.epoch + 1, boundary: { start: one.boundary.start, end: cut } };
            const upper = {
              ...one,
              range: ++ids,
              epoch: one.epoch + 1,
              boundary: { start: cut, end: one.boundary.end },
            };
            now = now.flatMap(other => (other === one ? [lower, upper] : [other]));
            all.push(lower, upper);
          } else if (next !== undefined) {
            const epoch = Math.max(one.epoch, next.epoch) + 1;
            const whole = { ...one, epoch, boundary: { start: one.boundary.start, end: next.boundary.end } };
            now = now.flatMap(other => (other === one ? [whole] : other === next ? [] : [other]));
            all.push(whole);
          }
        }
        const route = new Route();
        const left = [...all];
        const draw = chance[Symbol.iterator]();
        while (left.length > 0) route.correct(left.splice(draw.next().value! % left.length, 1)[0]!);
        const cover = route.within(between('a', 'b'));
        expect(cover.isWhole).toBe(true);
        expect(cover.places).toEqual(now);
        for (const one of now) expect(route.find(one.boundary.start)).toEqual(one);
      }),
      { numRuns: 300 },
    );
  });
});
