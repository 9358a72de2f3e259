import { expect } from 'vitest';
import { ByteReader } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import type { Subscription } from '../../src/contract/inbox.js';
import {
  type Attach,
  type Attached,
  message,
  readAttached,
  readPushes,
  readSubscriptions,
  type StoreHarness,
  type Target,
  TENANT,
  writeAttach,
  writeInsert,
  writeSubscriptions,
} from '../kv/store-harness.js';

// What an mqtt thread asks an inbox, as calls.

export function attach(store: StoreHarness, options: Attach, peer = 1): Attached {
  return readAttached(store.call(peer, OP.INBOX_ATTACH, writer => writeAttach(writer, options)));
}

export function detach(
  store: StoreHarness,
  instance: number,
  options: {
    expirySeconds?: number;
    nowMs?: number;
    discard?: boolean;
    sentSeq?: number;
    connection?: number;
  } = {},
): ByteReader {
  return store.call(1, OP.INBOX_DETACH, writer =>
    writer
      .u53(instance)
      .u32(options.connection ?? 1)
      .u32(options.expirySeconds ?? 0xffff_ffff)
      .u53(options.nowMs ?? 2000)
      .u8(options.discard ? 1 : 0)
      .u53(options.sentSeq ?? 0),
  );
}

export function insert(
  store: StoreHarness,
  payload: string,
  targets: readonly (string | Target)[],
  source = 0,
  packetId = 0,
): { status: number; results: number[] } {
  const reply = store.call(2, OP.INBOX_INSERT, writer =>
    writeInsert(
      writer,
      message('a/b', payload),
      targets.map(target => (typeof target === 'string' ? { clientId: target } : target)),
      source,
      packetId,
    ),
  );
  const status = reply.u8();
  const results: number[] = [];
  for (let left = reply.u32(); left > 0; left--) results.push(reply.u8());
  return { status, results };
}

export function pull(store: StoreHarness, instance: number, fromSeq: number, credit: number, peer = 1): void {
  store.ask(peer, OP.INBOX_PULL, writer => writer.u53(instance).u53(fromSeq).u32(credit), false);
  store.store.endTurn();
}

export function acked(store: StoreHarness, instance: number, ...seqs: number[]): void {
  store.ask(
    1,
    OP.INBOX_ACKED,
    writer => {
      writer.u53(instance).u32(seqs.length);
      for (const seq of seqs) writer.u53(seq);
    },
    false,
  );
  store.store.endTurn();
}

export function payloads(store: StoreHarness): string[] {
  return readPushes(store.take(OP.INBOX_MESSAGES)).map(
    ({ seq, message: { payload } }) => `${seq}:${payload}`,
  );
}

export const ONE = { filter: 'a/#', options: 1, subscriptionId: 7 };

export function subscribe(store: StoreHarness, instance: number, ...subscriptions: Subscription[]): Change {
  return readChange(
    store.call(1, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(instance), subscriptions)),
  );
}

export function unsubscribe(store: StoreHarness, instance: number, ...filters: string[]): Change {
  return readChange(
    store.call(1, OP.INBOX_UNSUBSCRIBE, writer => {
      writer.u53(instance).u32(filters.length);
      for (const filter of filters) writer.text(filter);
    }),
  );
}

export interface Change {
  existed: number[];
  change: number;
}

export function readChange(reply: ByteReader): Change {
  expect(reply.u8()).toBe(STATUS.OK);
  const existed: number[] = [];
  for (let left = reply.u32(); left > 0; left--) existed.push(reply.u8());
  const change = reply.u32();
  expect(reply.remaining).toBe(0);
  return { existed, change };
}

export function settle(store: StoreHarness, instance: number, change: number): void {
  store.ask(1, OP.INBOX_SETTLED, writer => writer.u53(instance).u32(change), false);
}

export function tick(store: StoreHarness, nowMs: number): void {
  store.store.tick(nowMs);
  store.store.endTurn();
}

/** Does what INBOX_ROUTES asks, until nothing is asked any more. */
export function settleRoutes(
  store: StoreHarness,
): { instance: number; gone: string[]; kept: Subscription[] }[] {
  const out: { instance: number; gone: string[]; kept: Subscription[] }[] = [];
  for (;;) {
    const asked = store.take(OP.INBOX_ROUTES);
    if (asked.length === 0) return out;
    for (const { peer, callId, body } of asked) {
      const reader = new ByteReader(body);
      expect([reader.text(), reader.text()]).toEqual([TENANT, 'c']);
      const instance = reader.u53();
      const gone: string[] = [];
      for (let left = reader.u32(); left > 0; left--) gone.push(reader.text());
      out.push({ instance, gone, kept: readSubscriptions(reader) });
      expect(reader.remaining).toBe(0);
      store.answer(peer, callId);
    }
    store.store.endTurn();
    store.store.endTurn();
  }
}
