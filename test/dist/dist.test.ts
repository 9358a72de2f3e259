import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteReader } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { ROUTE_RESULT, type Route } from '../../src/contract/dist.js';
import {
  inboxRoute,
  readRoutes,
  type Sent,
  StoreHarness,
  shardRoute,
  TENANT,
  writeRoutes,
} from '../kv/store-harness.js';

function add(store: StoreHarness, routes: Route[], peer = 1): number[] {
  const callId = store.ask(peer, OP.DIST_ADD, writer => writeRoutes(writer, routes));
  store.store.endTurn();
  answerInvalidations(store);
  return results(store.reply(callId)!);
}

function results(reply: ByteReader): number[] {
  expect(reply.u8()).toBe(STATUS.OK);
  const out: number[] = [];
  for (let left = reply.u32(); left > 0; left--) out.push(reply.u8());
  expect(reply.remaining).toBe(0);
  return out;
}

function remove(store: StoreHarness, routes: Route[]): number[] {
  return results(store.call(1, OP.DIST_REMOVE, writer => writeRoutes(writer, routes)));
}

function match(store: StoreHarness, topic: string, tenant = TENANT): Route[] {
  const callId = store.ask(1, OP.DIST_MATCH, writer => writer.text(tenant).text(topic));
  return readRoutes(store.reply(callId)!);
}

function answerInvalidations(store: StoreHarness): Sent[] {
  const asked = store.take(OP.DIST_INVALIDATE);
  for (const { peer, callId } of asked) if (callId !== 0) store.answer(peer, callId);
  return asked;
}

function filtersOf({ body }: Sent): string[] {
  const reader = new ByteReader(body);
  expect(reader.text()).toBe(TENANT);
  const out: string[] = [];
  for (let left = reader.u32(); left > 0; left--) out.push(reader.text());
  return out;
}

/** The rules of MQTT 5 section 4.7, level by level. */
function matches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false;
  const wanted = filter.split('/');
  const levels = topic.split('/');
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '#') return true;
    if (i >= levels.length) return false;
    if (wanted[i] !== '+' && wanted[i] !== levels[i]) return false;
  }
  return wanted.length === levels.length;
}

describe('dist routes', () => {
  it('adds, replaces, matches and removes', () => {
    const store = new StoreHarness();
    expect(add(store, [shardRoute('a/+', 0), inboxRoute('a/#', 'c'), shardRoute('b', 1)])).toEqual([0, 0, 0]);
    expect(match(store, 'a/x')).toHaveLength(2);
    expect(match(store, 'a/x', 'other')).toEqual([]);
    expect(add(store, [inboxRoute('a/#', 'c', { options: 2, subscriptionId: 5 })])).toEqual([0]);
    expect(match(store, 'a')).toEqual([inboxRoute('a/#', 'c', { options: 2, subscriptionId: 5 })]);
    expect(remove(store, [inboxRoute('a/#', 'c'), inboxRoute('a/#', 'c'), shardRoute('x', 0)])).toEqual([
      ROUTE_RESULT.OK,
      ROUTE_RESULT.NONE,
      ROUTE_RESULT.NONE,
    ]);
    expect(match(store, 'a')).toEqual([]);
  });

  it('keeps routes of one filter apart by group, order and receiver', () => {
    const store = new StoreHarness();
    const routes = [
      inboxRoute('f', 'c'),
      inboxRoute('f', 'c', { group: 'g' }),
      inboxRoute('f', 'c', { group: 'g', ordered: true }),
      inboxRoute('f', 'd', { group: 'g' }),
      shardRoute('f', 0, { group: 'g', members: 3 }),
      shardRoute('f', 1, { group: 'g', members: 1 }),
    ];
    add(store, routes);
    expect(match(store, 'f')).toHaveLength(routes.length);
    for (const [i, route] of routes.entries()) {
      expect(remove(store, [route])).toEqual([ROUTE_RESULT.OK]);
      expect(match(store, 'f')).toHaveLength(routes.length - 1 - i);
    }
  });

  it('holds the limit of members in a group', () => {
    const store = new StoreHarness({ groupMembersMax: 3 });
    expect(add(store, [shardRoute('f', 0, { group: 'g', members: 2 })])).toEqual([ROUTE_RESULT.OK]);
    expect(add(store, [shardRoute('f', 1, { group: 'g', members: 2 })])).toEqual([ROUTE_RESULT.GROUP_FULL]);
    expect(add(store, [inboxRoute('f', 'c', { group: 'g' })])).toEqual([ROUTE_RESULT.OK]);
    expect(add(store, [inboxRoute('f', 'd', { group: 'g' })])).toEqual([ROUTE_RESULT.GROUP_FULL]);
    expect(add(store, [shardRoute('f', 0, { group: 'g', members: 1 })])).toEqual([ROUTE_RESULT.OK]);
    expect(add(store, [inboxRoute('f', 'd', { group: 'g' })])).toEqual([ROUTE_RESULT.OK]);
    remove(store, [inboxRoute('f', 'c', { group: 'g' })]);
    expect(add(store, [inboxRoute('f', 'e', { group: 'g' })])).toEqual([ROUTE_RESULT.OK]);
    expect(add(store, [inboxRoute('f', 'e', { group: 'h' })])).toEqual([ROUTE_RESULT.OK]);
  });

  it('matches as a naive walk over all filters does', () => {
    const level = fc.constantFrom('a', 'b', '', '$x', 'long-level-name');
    const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map(levels => levels.join('/'));
    const filter = fc
      .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 1, maxLength: 4 }), fc.boolean())
      .map(([levels, open]) => [...levels, ...(open ? ['#'] : [])].join('/'));
    const step = fc.record({ add: fc.boolean(), filter, client: fc.constantFrom('c', 'd', 'e') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.array(topic, { maxLength: 10 }), (steps, topics) => {
        const store = new StoreHarness();
        const model = new Set<string>();
        for (const { add: adding, filter, client } of steps) {
          if (adding) {
            add(store, [inboxRoute(filter, client)]);
            model.add(`${filter} ${client}`);
          } else {
            const [result] = remove(store, [inboxRoute(filter, client)]);
            expect(result === ROUTE_RESULT.OK).toBe(model.delete(`${filter} ${client}`));
          }
        }
        const restarted = new StoreHarness({ engine: store.engine });
        for (const topic of topics) {
          const wanted = [...model].filter(route => matches(route.split(' ')[0]!, topic)).sort();
          for (const at of [store, restarted]) {
            const found = match(at, topic).map(
              ({ filter, receiver }) => `${filter} ${receiver.kind === 'inbox' ? receiver.clientId : ''}`,
            );
            expect(found.sort()).toEqual(wanted);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('dist invalidation', () => {
  it('replies to an add only when every other mqtt thread has dropped its cached topics', () => {
    const store = new StoreHarness({ mqttPeers: [1, 2, 3] });
    const callId = store.ask(1, OP.DIST_ADD, writer =>
      writeRoutes(writer, [shardRoute('a/+', 0), shardRoute('b', 0)]),
    );
    store.store.endTurn();
    const asked = store.take(OP.DIST_INVALIDATE);
    expect(asked.map(({ peer, callId }) => [peer, callId !== 0])).toEqual([
      [1, false],
      [2, true],
      [3, true],
    ]);
    expect(filtersOf(asked[0]!)).toEqual(['a/+', 'b']);
    expect(store.reply(callId)).toBeUndefined();
    store.answer(2, asked[1]!.callId);
    expect(store.reply(callId)).toBeUndefined();
    store.answer(3, asked[2]!.callId);
    expect(store.reply(callId)).toBeDefined();
  });

  it('tells the requester before its reply', () => {
    const store = new StoreHarness({ mqttPeers: [1] });
    store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [inboxRoute('a', 'c')]));
    store.store.endTurn();
    expect(store.sent.map(({ op }) => op)).toEqual([OP.DIST_INVALIDATE, OP.REPLY]);
  });

  it('sends one frame per thread and turn, and waits for all when several asked', () => {
    const store = new StoreHarness();
    const first = store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [shardRoute('a', 0)]));
    const second = store.ask(2, OP.DIST_ADD, writer => writeRoutes(writer, [shardRoute('b', 1)]));
    store.store.endTurn();
    const asked = store.take(OP.DIST_INVALIDATE);
    expect(asked.map(frame => [frame.peer, frame.callId !== 0, filtersOf(frame)])).toEqual([
      [1, true, ['a', 'b']],
      [2, true, ['a', 'b']],
    ]);
    store.answer(1, asked[0]!.callId);
    expect(store.reply(first)).toBeUndefined();
    store.answer(2, asked[1]!.callId);
    expect(store.reply(first)).toBeDefined();
    expect(store.reply(second)).toBeDefined();
  });

  it('does not wait for a thread that died, and drops what led to it', () => {
    const store = new StoreHarness();
    add(store, [shardRoute('a', 1), inboxRoute('a', 'c')], 2);
    const callId = store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [shardRoute('b', 0)]));
    store.store.endTurn();
    expect(store.reply(callId)).toBeUndefined();
    store.store.peerLost(2, 0);
    expect(store.reply(callId)).toBeDefined();
    store.store.endTurn();
    expect(match(store, 'a')).toEqual([inboxRoute('a', 'c')]);
    expect(
      answerInvalidations(store)
        .filter(({ peer }) => peer === 1)
        .flatMap(filtersOf),
    ).toContain('a');
  });

  it('does not wait for a thread that is not there', () => {
    const store = new StoreHarness();
    store.absentPeers.add(2);
    const callId = store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [shardRoute('b', 0)]));
    store.store.endTurn();
    expect(store.reply(callId)).toBeDefined();
  });

  it('tells of a removal without waiting, and of nothing when nothing changed', () => {
    const store = new StoreHarness();
    add(store, [shardRoute('a', 0)]);
    add(store, [shardRoute('a', 0)]);
    expect(store.take(OP.DIST_INVALIDATE)).toEqual([]);
    remove(store, [shardRoute('a', 0)]);
    expect(store.take(OP.DIST_INVALIDATE).map(({ callId }) => callId)).toEqual([0, 0]);
    remove(store, [shardRoute('a', 0)]);
    expect(store.take(OP.DIST_INVALIDATE)).toEqual([]);
  });
});

describe('dist durability', () => {
  it('holds back the writes of transient routes, and writes them with the next durable ones', () => {
    const store = new StoreHarness();
    add(store, [shardRoute('a', 0)]);
    expect(match(new StoreHarness({ engine: store.engine }), 'a')).toEqual([]);
    add(store, [inboxRoute('b', 'c')]);
    expect(match(new StoreHarness({ engine: store.engine }), 'a')).toEqual([shardRoute('a', 0)]);
    remove(store, [shardRoute('a', 0)]);
    store.store.tick(0);
    store.store.endTurn();
    expect(match(new StoreHarness({ engine: store.engine }), 'a')).toEqual([]);
  });

  it('drops the shard routes of the own node at start', () => {
    const store = new StoreHarness();
    add(store, [shardRoute('a', 0), inboxRoute('a', 'c')]);
    add(store, [
      shardRoute('a', 3, { receiver: { kind: 'shard', node: 'node-b', shard: 3 } }),
      inboxRoute('z', 'c'),
    ]);
    const restarted = new StoreHarness({ engine: store.engine });
    expect(match(restarted, 'a')).toHaveLength(3);
    restarted.dist.purgeNode();
    restarted.store.endTurn();
    const left = match(restarted, 'a').map(({ receiver }) =>
      receiver.kind === 'shard' ? receiver.node : 'inbox',
    );
    expect(left.sort()).toEqual(['inbox', 'node-b']);
  });
});
