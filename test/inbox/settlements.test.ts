import { describe, expect, it } from 'vitest';
import { OP } from '../../src/contract/contract.js';
import { readAttached, StoreHarness, writeAttach } from '../kv/store-harness.js';
import { attach, detach, ONE, settle, settleRoutes, subscribe, tick, unsubscribe } from './inbox-calls.js';

describe('changes of subscriptions', () => {
  const TWO = { filter: 'b', options: 2, subscriptionId: 0 };

  it('are numbered, unless nothing changes', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    expect(subscribe(store, instance, ONE, TWO)).toEqual({ existed: [0, 0], change: 1 });
    expect(subscribe(store, instance, ONE)).toEqual({ existed: [1], change: 0 });
    expect(subscribe(store, instance, { ...ONE, options: 2 })).toMatchObject({ existed: [1] });
    expect(unsubscribe(store, instance, 'b', 'c').existed).toEqual([1, 0]);
    expect(unsubscribe(store, instance, 'b')).toEqual({ existed: [0], change: 0 });
  });

  it('that are not settled when the owner goes are told to dist, and only they', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    settle(store, instance, subscribe(store, instance, { ...ONE, filter: 'settled' }).change);
    subscribe(store, instance, ONE, TWO);
    unsubscribe(store, instance, 'b');
    detach(store, instance);
    const waiting = store.ask(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    expect(store.reply(waiting)).toBeUndefined();
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['b'], kept: [ONE] }]);
    expect(readAttached(store.reply(waiting)!)).toMatchObject({ instance, present: true });
    detach(store, instance);
    expect(settleRoutes(store)).toEqual([]);
  });

  it('settle one by one: an older one says nothing of a newer one', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    const { change } = subscribe(store, instance, ONE);
    unsubscribe(store, instance, ONE.filter);
    settle(store, instance, change);
    detach(store, instance);
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['a/#'], kept: [] }]);
  });

  it('are told to dist after a crash, and no session expires while they are', () => {
    const crashed = new StoreHarness();
    const { instance } = attach(crashed, { clientId: 'c', expirySeconds: 5 });
    subscribe(crashed, instance, ONE);
    const store = new StoreHarness({ engine: crashed.engine });
    store.inbox.start(9000);
    store.store.endTurn();
    expect(store.take(OP.INBOX_ROUTES)).toEqual([]);
    tick(store, 15_000);
    const [asked] = store.take(OP.INBOX_ROUTES);
    tick(store, 16_000);
    expect(store.take(OP.INBOX_ROUTES)).toEqual([]);
    store.answer(asked!.peer, asked!.callId);
    store.store.endTurn();
    tick(store, 17_000);
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['a/#'], kept: [] }]);
  });

  it('of a session that ends count as routes to remove', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    settle(store, instance, subscribe(store, instance, ONE, TWO).change);
    unsubscribe(store, instance, 'b');
    detach(store, instance, { expirySeconds: 0 });
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['a/#', 'b'], kept: [] }]);
  });
});

describe('when dist has lost all routes', () => {
  const TWO = { filter: '$share/g/b', options: 2, subscriptionId: 0 };

  it('every session tells its own again, though the process dies meanwhile', () => {
    const former = new StoreHarness();
    attach(former, { clientId: 'none' });
    const { instance } = attach(former, { clientId: 'c' });
    settle(former, instance, subscribe(former, instance, ONE, TWO).change);
    settle(former, instance, unsubscribe(former, instance, 'x', ONE.filter).change);
    settle(former, instance, subscribe(former, instance, { ...ONE, options: 2 }).change);
    detach(former, instance);
    expect(settleRoutes(former)).toEqual([]);

    const killed = new StoreHarness({ engine: former.engine });
    killed.inbox.start(9000, true);
    killed.store.endTurn();
    expect(killed.inbox.routesSettled).toBe(false);

    const store = new StoreHarness({ engine: former.engine });
    store.inbox.start(9000);
    store.store.endTurn();
    const waiting = store.ask(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    tick(store, 10_000);
    expect([store.inbox.routesSettled, store.reply(waiting)]).toEqual([false, undefined]);
    expect(settleRoutes(store)).toEqual([{ instance, gone: [], kept: [TWO, { ...ONE, options: 2 }] }]);
    expect(store.inbox.routesSettled).toBe(true);
    expect(readAttached(store.reply(waiting)!)).toMatchObject({ instance, present: true });
  });
});
