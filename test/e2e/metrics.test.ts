import { beforeEach, describe, expect, it } from 'vitest';
import { get, useBroker } from './broker.js';
import { packet } from './client/bytes.js';
import { attempt, connect, sleep, unique } from './client/client.js';

const THREADS = ['main', 'mqtt-0', 'mqtt-1', 'match-0', 'apply-0'];
const QUEUE_MAX = 5;
/** Threads copy what their rings have counted, and look at their memory, once a second. */
const SAMPLE_MS = 1300;

const broker = useBroker({
  transports: ['tcp', 'ws'],
  set: {
    'threads.mqtt': 2,
    'limits.queueMessagesMax': QUEUE_MAX,
    'limits.packetBytesMax': 100_000,
    'limits.connectionBufferBytesMax': 16_384,
  },
});

// What the clients of the test before still leave would be counted.
beforeEach(() => broker.expectCalm());

type Scrape = (name: string, labels?: string) => number;

/** All values at one moment; asked for a name and a part of the labels, the sum of the samples that have both. */
async function scrape(): Promise<Scrape> {
  const { body } = await get(broker.metricsPort, '/metrics');
  const samples = [...body.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)];
  return (name, labels = '') => {
    const found = samples.filter(([, family, own]) => family === name && (own ?? '').includes(labels));
    if (found.length === 0) throw new Error(`no sample of ${name}{${labels}}`);
    return found.reduce((sum, [, , , value]) => sum + Number(value), 0);
  };
}

/** What each measure (a name without our prefix, and a part of the labels) rose by. */
async function rises(measures: readonly string[], act: () => Promise<void>): Promise<Record<string, number>> {
  const before = await scrape();
  await act();
  await sleep(SAMPLE_MS);
  const after = await scrape();
  return Object.fromEntries(
    measures.map(measure => {
      const [name, labels] = measure.split(' ') as [string, string?];
      return [measure, after(`shoalmq_${name}`, labels) - before(`shoalmq_${name}`, labels)];
    }),
  );
}

describe('/metrics', () => {
  it('counts connections, sessions, packets, bytes and messages, each once', async () => {
    const [topic, clientId] = [unique('t'), unique('c')];
    const measures = {
      'connections transport="tcp"': 1,
      'connections transport="ws"': 1,
      'sessions kind="persistent_online"': 1,
      'sessions kind="transient"': 1,
      'connects_total version="5"': 2,
      subscriptions: 1,
      'packets_received_total type="connect"': 2,
      'packets_sent_total type="connack"': 2,
      'packets_received_total type="publish"': 6,
      'packets_received_total type="subscribe"': 1,
      'packets_sent_total type="publish"': 6,
      'packets_sent_total type="puback"': 2,
      'packets_sent_total type="pubrec"': 2,
      'packets_received_total type="pubrel"': 2,
      'publishes_total qos="0"': 2,
      'publishes_total qos="1"': 2,
      'publishes_total qos="2"': 2,
      'deliveries_total qos="0"': 2,
      'deliveries_total qos="1"': 2,
      'deliveries_total qos="2"': 2,
      'bytes_received_total type="publish"':
        2 * (2 + 2 + topic.length + 1 + 1) + 4 * (2 + 2 + topic.length + 2 + 1 + 1),
      'bytes_sent_total type="puback"': 8,
    } as const;
    const found = await rises(Object.keys(measures), async () => {
      const subscriber = await connect(broker, { version: 5, clientId, expiry: 60 });
      await subscriber.subscribe(topic, { qos: 2 });
      const publisher = await connect(broker, { version: 5, transport: 'ws' });
      for (const qos of [0, 1, 2, 0, 1, 2] as const) await publisher.publish(topic, 'x', { qos });
      await subscriber.receiveTexts(6);
    });
    expect(found).toEqual(measures);
    await (await connect(broker, { version: 5, clientId, expiry: 0 })).disconnect();
  });

  it('counts what is dropped, by its reason', async () => {
    const [topic, clientId] = [unique('t'), unique('c')];
    const publisher = await connect(broker, { version: 5 });
    const sleeper = await connect(broker, { version: 5, clientId, expiry: 60 });
    await sleeper.subscribe(`${topic}/kept`, { qos: 1 });
    await sleeper.disconnect();
    const small = await connect(broker, { version: 5, properties: { maximumPacketSize: 100 } });
    await small.subscribe(`${topic}/large`);
    const slow = await connect(broker);
    await slow.subscribe(`${topic}/flood`);
    slow.wire.pause();
    const found = await rises(
      ['queue_full', 'no_receiver', 'too_large', 'slow_consumer', 'not_authorized'].map(
        reason => `drops_total reason="${reason}"`,
      ),
      async () => {
        for (let index = 0; index < QUEUE_MAX + 3; index++)
          await publisher.publish(`${topic}/kept`, 'x', { qos: 1 });
        for (let index = 0; index < 4; index++) await publisher.publish(`${topic}/nobody`, 'x', { qos: 1 });
        await publisher.publish(`${topic}/large`, 'x'.repeat(500), { qos: 1 });
        for (let index = 0; index < 800; index++) publisher.post(`${topic}/flood`, 'x'.repeat(60_000));
        await publisher.publish('$SYS/broker/mine', 'x', { qos: 1 });
      },
    );
    expect(found).toMatchObject({
      'drops_total reason="queue_full"': 3,
      'drops_total reason="no_receiver"': 4,
      'drops_total reason="too_large"': 1,
      'drops_total reason="not_authorized"': 1,
    });
    expect(found['drops_total reason="slow_consumer"']).toBeGreaterThan(0);
    await (await connect(broker, { version: 5, clientId, expiry: 0 })).disconnect();
  });

  it('counts how connections end, what clients did wrong, takeovers, wills and redeliveries', async () => {
    const [topic, clientId] = [unique('t'), unique('c')];
    const measures = {
      session_takeovers_total: 1,
      'disconnects_total by="takeover"': 1,
      'disconnects_total by="client"': 1,
      'disconnects_total by="network"': 1,
      'disconnects_total by="server"': 1,
      'violations_total reason="malformed"': 1,
      wills_published_total: 1,
      redeliveries_total: 1,
      'connect_refusals_total reason="authentication"': 1,
      'auth_results_total result="refused"': 1,
      retained_messages: 1,
      retain_scans_total: 1,
    } as const;
    const found = await rises(Object.keys(measures), async () => {
      const first = await connect(broker, { version: 5, clientId, expiry: 60 });
      await first.subscribe(topic, { qos: 1, rh: 0 });
      await first.publish(topic, 'kept', { qos: 1, retain: true });
      await first.expect('publish');
      const second = await connect(broker, { version: 5, clientId, clean: false, expiry: 0 });
      await second.expect('publish', { dup: true });
      await second.disconnect();
      (await connect(broker, { will: { topic: unique('w'), payload: 'x', qos: 0 } })).drop();
      const rude = await connect(broker, { version: 5 });
      rude.sendBytes(packet(0x36));
      await rude.expectRefused(0x81);
      await attempt(broker, { version: 5, properties: { authenticationMethod: 'NOPE' } });
    });
    expect(found).toEqual(measures);
  });

  it('tells of every thread how it is, and of matching, storage and rings what they do', async () => {
    const topic = unique('t');
    const storing = ['match-0', 'apply-0'].flatMap(thread =>
      ['commits_total', 'commit_operations_count', 'commit_seconds_count', 'flush_seconds_count'].map(
        name => `${name} thread="${thread}"`,
      ),
    );
    const measures = [
      ...THREADS.map(thread => `event_loop_delay_seconds_count thread="${thread}"`),
      ...THREADS.map(thread => `ring_frames_received_total thread="${thread}"`),
      ...THREADS.map(thread => `ring_bytes_sent_total thread="${thread}"`),
      ...storing,
      'match_cache_hits_total',
      'match_cache_misses_total',
      'match_cache_entries',
      'match_seconds_count thread="match-0"',
      'match_invalidations_total',
      'ring_bells_total',
      'socket_writes_total',
      'listener_events_total transport="tcp",event="accepted"',
    ];
    const found = await rises(measures, async () => {
      // Which thread accepts a client is for the kernel to say.
      for (let index = 0; index < 40; index++) {
        const client = await connect(broker, { version: 5, expiry: 5 });
        await client.subscribe(topic, { qos: 1 });
        await client.publish(topic, 'x', { qos: 1 });
        await client.disconnect(0, { sessionExpiryInterval: 0 });
      }
    });
    for (const measure of measures) expect(found[measure], measure).toBeGreaterThan(0);
    const now = await scrape();
    for (const thread of THREADS) {
      const label = `thread="${thread}"`;
      expect(now('shoalmq_heap_bytes', label)).toBeGreaterThan(1 << 20);
      expect(now('shoalmq_external_bytes', label)).toBeGreaterThan(0);
      expect(now('shoalmq_event_loop_utilization', label)).toBeLessThanOrEqual(1);
      for (const name of ['depth_bytes', 'stalls_total'])
        expect(now(`shoalmq_ring_${name}`, label)).toBeGreaterThanOrEqual(0);
    }
    expect(now('process_resident_memory_bytes')).toBeGreaterThan(10 << 20);
  });
});
