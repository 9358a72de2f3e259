import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OP, STATUS } from '../../src/contract/contract.js';
import type { Message } from '../../src/contract/message.js';
import { writeMessage } from '../../src/contract/message.js';
import { message, readMessageCopy, StoreHarness, TENANT } from '../kv/store-harness.js';
import { Broker } from '../mqtt/harness.js';

function set(
  store: StoreHarness,
  topic: string,
  payload: string,
  more: Partial<Message> = {},
  tenant = TENANT,
): number {
  return store
    .call(1, OP.RETAIN_SET, writer =>
      writeMessage(
        writer.text(tenant).u53(more.publishedAtMs ?? 0),
        message(topic, payload, { retain: true, ...more }),
      ),
    )
    .u8();
}

interface Page {
  topics: string[];
  more: boolean;
  cursor: Uint8Array;
}

function page(store: StoreHarness, filter: string, options: Partial<ScanOptions> = {}): Page {
  const {
    nowMs = 0,
    messagesMax = 1000,
    bytesMax = 1 << 20,
    cursor = new Uint8Array(0),
    tenant = TENANT,
  } = options;
  const reply = store.call(1, OP.RETAIN_SCAN, writer =>
    writer.text(tenant).text(filter).u53(nowMs).u32(messagesMax).u32(bytesMax).blob(cursor),
  );
  expect(reply.u8()).toBe(STATUS.OK);
  const topics: string[] = [];
  for (let left = reply.u32(); left > 0; left--)
    topics.push(Buffer.from(readMessageCopy(reply).topic).toString());
  const more = reply.u8() === 1;
  const next = Buffer.from(reply.blob());
  expect(reply.remaining).toBe(0);
  expect(next.length > 0).toBe(more);
  return { topics, more, cursor: next };
}

interface ScanOptions {
  nowMs: number;
  messagesMax: number;
  bytesMax: number;
  cursor: Uint8Array;
  tenant: string;
}

function scan(store: StoreHarness, filter: string, options: Partial<ScanOptions> = {}): string[] {
  const out: string[] = [];
  let cursor = new Uint8Array(0) as Uint8Array;
  for (let calls = 0; calls < 10_000; calls++) {
    const { topics, more, cursor: next } = page(store, filter, { ...options, cursor });
    out.push(...topics);
    if (!more) return out;
    cursor = next;
  }
  throw new Error('a scan ends');
}

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

/** Order of the topics' bytes, level by level. */
function byLevel(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a.replaceAll('/', '\0')), Buffer.from(b.replaceAll('/', '\0')));
}

describe('retained messages', () => {
  it('sets, replaces and clears', () => {
    const store = new StoreHarness();
    set(store, 'a/b', 'one');
    set(store, 'a/b', 'two');
    set(store, 'a', 'x', {}, 'other');
    expect(scan(store, 'a/b')).toEqual(['a/b']);
    expect(scan(store, '#')).toEqual(['a/b']);
    expect(store.retain.messages).toBe(2);
    expect(set(store, 'a/b', '')).toBe(STATUS.OK);
    expect(set(store, 'a/b', '')).toBe(STATUS.OK);
    expect(scan(store, '#')).toEqual([]);
    set(store, 'a', '', {}, 'other');
    expect([store.retain.messages, store.retain.bytes]).toEqual([0, 0]);
  });

  it('finds what a naive filter finds, in order, in pages of any size', () => {
    const level = fc.constantFrom('a', 'b', 'c', '', '$x', 'a-', 'aa', '\u0001', 'ä');
    const topic = fc.array(level, { minLength: 1, maxLength: 5 }).map(levels => levels.join('/'));
    const filter = fc
      .tuple(fc.array(fc.oneof(level, fc.constant('+')), { maxLength: 5 }), fc.boolean())
      .map(([levels, open]) => [...levels, ...(open || levels.length === 0 ? ['#'] : [])].join('/'));
    fc.assert(
      fc.property(
        fc.uniqueArray(topic, { maxLength: 60 }),
        fc.array(filter, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 300 }),
        (topics, filters, messagesMax, bytesMax) => {
          const store = new StoreHarness();
          for (const topic of topics) set(store, topic, 'x');
          for (const filter of filters) {
            const wanted = topics.filter(topic => matches(filter, topic)).sort(byLevel);
            expect(scan(store, filter, { messagesMax, bytesMax })).toEqual(wanted);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('holds the limits, and lets shrink and clear whatever they are', () => {
    const store = new StoreHarness({ retain: { messagesMax: 2, bytesMax: 150 } });
    expect(set(store, 'a', 'x')).toBe(STATUS.OK);
    expect(set(store, 'b', 'x')).toBe(STATUS.OK);
    expect(set(store, 'c', 'x')).toBe(STATUS.LIMIT);
    expect(set(store, 'a', 'y'.repeat(300))).toBe(STATUS.LIMIT);
    expect(set(store, 'a', 'z')).toBe(STATUS.OK);
    expect(set(store, 'a', '')).toBe(STATUS.OK);
    expect(set(store, 'c', 'x')).toBe(STATUS.OK);
  });

  it('leaves expired messages out and removes them in its own time', () => {
    const store = new StoreHarness();
    set(store, 'a/short', 'x', { expirySeconds: 5, publishedAtMs: 1000 });
    set(store, 'a/long', 'x', { expirySeconds: 50, publishedAtMs: 1000 });
    set(store, 'a/renewed', 'x', { expirySeconds: 5, publishedAtMs: 1000 });
    set(store, 'a/renewed', 'x', { expirySeconds: 50, publishedAtMs: 1000 });
    set(store, 'b/short', 'x', { expirySeconds: 5, publishedAtMs: 1000 }, 'other');
    expect(scan(store, '#', { nowMs: 5999 })).toHaveLength(3);
    expect(scan(store, '#', { nowMs: 6000 })).toEqual(['a/long', 'a/renewed']);
    expect(store.retain.messages).toBe(4);
    store.store.tick(6000);
    store.store.endTurn();
    expect(store.retain.messages).toBe(2);
    store.store.tick(51_000);
    store.store.endTurn();
    expect([store.retain.messages, store.retain.bytes]).toEqual([0, 0]);
  });

  it('remembers counts and messages over a restart', () => {
    const store = new StoreHarness();
    set(store, 'a', 'x');
    set(store, 'b/c', 'x');
    const restarted = new StoreHarness({ engine: store.engine });
    expect(restarted.retain.messages).toBe(2);
    expect(restarted.retain.bytes).toBe(store.retain.bytes);
    expect(scan(restarted, '#')).toEqual(['a', 'b/c']);
  });

  it('does a bounded share per call, and skips what cannot match', () => {
    const store = new StoreHarness();
    for (let i = 0; i < 3000; i++) {
      store.ask(1, OP.RETAIN_SET, writer =>
        writeMessage(writer.text(TENANT).u53(0), message(`dev/${i}/temperature/now`, 'x')),
      );
      store.ask(1, OP.RETAIN_SET, writer =>
        writeMessage(writer.text(TENANT).u53(0), message(`dev/${i}/z`, 'x')),
      );
    }
    store.finish();
    const first = page(store, 'dev/+/z');
    expect(first.more).toBe(true);
    expect(first.topics.length).toBeGreaterThan(100);
    expect(first.topics.length).toBeLessThan(1001);
    expect(scan(store, 'dev/+/z')).toHaveLength(3000);
    expect(page(store, 'dev/2999/z')).toMatchObject({ topics: ['dev/2999/z'], more: false });
    expect(page(store, 'nothing/+/here')).toMatchObject({ topics: [], more: false });
  });

  it('works for so long per call, and comes to an end however slow the store is', () => {
    const store = new StoreHarness();
    const topics = Array.from({ length: 300 }, (_, i) => `dev/${1000 + i}/a`);
    for (const topic of topics) set(store, topic, 'x');
    expect(page(store, 'dev/#')).toMatchObject({ topics, more: false });
    store.msPerLook = 1000;
    const first = page(store, 'dev/#');
    expect(first.more).toBe(true);
    expect(first.topics.length).toBeGreaterThan(0);
    expect(first.topics.length).toBeLessThan(30);
    expect(scan(store, 'dev/#')).toEqual(topics);
    expect(scan(store, 'dev/+/a')).toEqual(topics);
    expect(scan(store, 'dev/+/b')).toEqual([]);
  });
});

describe('No Local', () => {
  it('withholds what its own client publishes, but not what it has retained before', () => {
    for (const expiry of [undefined, 1000]) {
      const broker = new Broker();
      const client = broker.connect({ clientId: 'own', expiry });
      client.publish('t', 'kept', { qos: 1, retain: true });
      client.subscribe('t', { qos: 1, nl: true });
      client.publish('t', 'live', { qos: 1, retain: true });
      expect(client.messages().map(({ payload, retain }) => [`${payload}`, retain])).toEqual([
        ['kept', true],
      ]);
      broker.close();
    }
  });
});
