import { describe, expect, it } from 'vitest';
import { get, useBroker } from './broker.js';
import { connect, sleep, unique } from './client/client.js';

const broker = useBroker({ transports: ['tcp', 'ws'], set: { 'sys.intervalSeconds': 1 } });

describe('$SYS', () => {
  it('the usual topics are retained and renewed', async () => {
    const client = await connect(broker);
    await sleep(1500);
    await client.subscribe('$SYS/broker/#');
    const names = [
      'version',
      'uptime',
      'clients/connected',
      'messages/received',
      'messages/sent',
      'bytes/received',
      'subscriptions/count',
      'retained messages/count',
    ];
    const seen = new Map<string, string>();
    while (!names.every(name => seen.has(name))) {
      const message = await client.receive();
      expect(message.topic.startsWith('$SYS/broker/')).toBe(true);
      seen.set(message.topic.slice('$SYS/broker/'.length), message.payload.toString());
    }
    expect(seen.get('version')).toMatch(/^ShoalMQ \d/);
    expect(Number(seen.get('clients/connected'))).toBeGreaterThanOrEqual(1);
    expect(Number(seen.get('bytes/received'))).toBeGreaterThan(0);
    const before = Number.parseInt(seen.get('uptime')!, 10);
    await client.unsubscribe('$SYS/broker/#');
    await client.subscribe('$SYS/broker/uptime', { rh: 2 });
    for (;;) {
      const message = await client.receive();
      if (message.topic === '$SYS/broker/uptime' && Number.parseInt(message.payload.toString(), 10) > before)
        break;
    }
  });

  it('# does not deliver them [MQTT-4.7.2-1]', async () => {
    const client = await connect(broker);
    await client.subscribe(['#', '+/broker/uptime']);
    await client.expectNothing(1500);
  });

  it('clients cannot write there', async () => {
    const client = await connect(broker, { version: 5 });
    await client.subscribe('$SYS/broker/version', { rh: 2 });
    const code = await client.publish('$SYS/broker/version', 'fake', { qos: 1, retain: true });
    expect(code).toBeGreaterThanOrEqual(0x80);
    for (const item of client.unread)
      if (item.cmd === 'publish') expect(item.payload.toString()).not.toBe('fake');
  });
});

describe('HTTP', () => {
  it('/healthz and /readyz say yes', async () => {
    for (const path of ['/healthz', '/readyz'])
      expect((await get(broker.metricsPort, path)).status).toBe(200);
  });

  it('anything else is not found', async () => {
    expect((await get(broker.metricsPort, '/etc/passwd')).status).toBe(404);
  });

  /** The sum of all samples whose name begins so. */
  async function sample(prefix: string): Promise<number> {
    const { body } = await get(broker.metricsPort, '/metrics');
    let sum = 0;
    for (const line of body.split('\n')) {
      if (line.startsWith(prefix)) sum += Number(line.slice(line.lastIndexOf(' ') + 1));
    }
    return sum;
  }

  it('/metrics is Prometheus text with help and type for every family', async () => {
    const { status, type, body } = await get(broker.metricsPort, '/metrics');
    expect(status).toBe(200);
    expect(type).toContain('text/plain');
    const families = body
      .split('\n')
      .filter(line => line.startsWith('# TYPE '))
      .map(line => line.split(' ')[2]!);
    expect(new Set(families).size).toBe(families.length);
    for (const family of families) expect(body).toContain(`# HELP ${family} `);
    expect(families.filter(family => family.startsWith('shoalmq_')).length).toBeGreaterThan(10);
  });

  it('connections and publishes are counted', async () => {
    const connections = await sample('shoalmq_connections{');
    const publishes = await sample('shoalmq_publishes_total');
    const clients = [await connect(broker), await connect(broker, { transport: 'ws' })];
    const topic = unique('t');
    await clients[0]!.subscribe(topic, { qos: 1 });
    for (let index = 0; index < 10; index++) await clients[1]!.publish(topic, 'x', { qos: 1 });
    await clients[0]!.receiveTexts(10);
    await sleep(100);
    expect((await sample('shoalmq_connections{')) - connections).toBe(2);
    expect((await sample('shoalmq_publishes_total')) - publishes).toBe(10);
    for (const client of clients) await client.disconnect();
    await sleep(100);
    expect((await sample('shoalmq_connections{')) - connections).toBe(0);
  });
});
