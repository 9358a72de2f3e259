import { readFileSync } from 'node:fs';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { BREAKING_TOPIC, breakingPlugin, until } from './breakage.js';
import { useBroker } from './broker.js';
import { attempt, connackCode, connect, open, sleep, type TestClient, unique } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

const MAX = 12;

describe(`limits.connectionsMax ${MAX}, three threads, four transports`, () => {
  const broker = useBroker({
    transports: TRANSPORTS,
    set: {
      'threads.mqtt': 3,
      'limits.connectionsMax': MAX,
      'auth.plugin': breakingPlugin(),
      'auth.anonymous': true,
    },
  });
  const taken = () => broker.metric('shoalmq_connections');

  /** As many clients as there is room for, spread over the transports. */
  async function fill(): Promise<TestClient[]> {
    await until('all places free', async () => (await taken()) === 0);
    const clients: TestClient[] = [];
    for (let i = 0; i < MAX; i++)
      clients.push(await connect(broker, { transport: TRANSPORTS[i % 4]!, version: 5 }));
    return clients;
  }

  it.each(TRANSPORTS)(
    'one more over %s is told 0x97, or 0x03 in MQTT 3, and closed [MQTT-3.1.4-2]',
    async transport => {
      const clients = await fill();
      const refused = await attempt(broker, { transport, version: 5 });
      expect(connackCode(refused)).toBe(0x97);
      expect(refused.connack.properties?.reasonString).toContain('as many connections');
      await refused.expectClosed();
      const old = await attempt(broker, { transport, version: 4 });
      expect(connackCode(old)).toBe(3);
      await old.expectClosed();
      for (const client of clients) await client.ping();
      clients[0]!.drop();
      await until('a place is free', async () => (await taken()) < MAX);
      const next = await connect(broker, { transport, version: 5 });
      await next.ping();
      expect(connackCode(await attempt(broker, { transport, version: 5 }))).toBe(0x97);
    },
  );

  it('is shown by metrics', async () => {
    await fill();
    const refused = () => broker.metric('shoalmq_connect_refusals_total', /reason="limit"/);
    const before = await refused();
    await attempt(broker, { version: 5 });
    expect(await broker.metric('shoalmq_connections_max')).toBe(MAX);
    await until('the refusal is counted', async () => (await refused()) === before + 1);
    await until('accepted sockets are counted', async () => {
      const accepted = await broker.metric('shoalmq_listener_events_total', /event="accepted"/);
      return accepted > MAX;
    });
  });

  it('closes unheard those who come when too many are being refused', async () => {
    const clients = await fill();
    const silent = await Promise.all(Array.from({ length: 3 * 64 + 40 }, () => open(broker)));
    await until('the rest is closed', async () => silent.filter(({ closed }) => closed).length >= 40);
    for (const client of clients) await client.ping();
    for (const client of silent) client.drop();
    await until('they have gone', async () => (await taken()) === MAX);
    const shed = () => broker.metric('shoalmq_listener_events_total', /tcp.*event="refused_at_limit"/);
    await until('all of them are counted', async () => (await shed()) >= 40);
  });

  it('a thread that dies gives its places back', async () => {
    const clients = await fill();
    const publisher = clients.pop()!;
    await publisher.publish(BREAKING_TOPIC, 'now');
    await publisher.ended();
    await until('the thread is back', async () => (await broker.metric('shoalmq_thread_restarts_total')) > 0);
    await until('it counts', async () => (await taken()) < MAX);
    const gone = MAX - (await taken());
    for (let i = 0; i < gone; i++) await connect(broker, { version: 5, transport: TRANSPORTS[i % 4]! });
    expect(connackCode(await attempt(broker, { version: 5 }))).toBe(0x97);
  });
});

describe('with few descriptors', () => {
  const LIMIT = 420;
  const broker = useBroker({ transports: ['tcp', 'ws'], openFilesMax: LIMIT, set: { 'threads.mqtt': 2 } });
  const sockets: net.Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  /** CPU time of the broker, milliseconds. */
  function cpuMs(): number {
    const fields = readFileSync(`/proc/${broker.process!.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async function flood(transport: 'tcp' | 'ws', client: TestClient): Promise<void> {
    const most = await broker.metric('shoalmq_connections_max');
    expect(most).toBeLessThan(LIMIT);
    let closed = 0;
    for (let i = 0; i < 2 * LIMIT; i++) {
      const socket = net.connect(broker.ports[transport]!, broker.host);
      socket.on('error', () => {}).on('close', () => closed++);
      sockets.push(socket);
    }
    await until('the rest is closed', async () => closed >= 2 * LIMIT - most - 2 * 64);
    const before = cpuMs();
    await sleep(1000);
    expect(cpuMs() - before, 'CPU time of an idle second').toBeLessThan(300);
    await client.ping();
    expect(await broker.metric('process_open_fds')).toBeLessThan(LIMIT - 32);
    for (const socket of sockets.splice(0)) socket.destroy();
    await until('it takes clients again', async () => {
      const next = await attempt(broker, { transport, version: 5 }).catch(() => undefined);
      return next !== undefined && connackCode(next) === 0;
    });
    const topic = unique('t');
    await client.subscribe(topic);
    await client.publish(topic, 'x', { qos: 1 });
    await client.receive({ payload: 'x' });
  }

  it('a flood of sockets neither exhausts nor busies it, and is said once a minute with the remedy', async () => {
    const client = await connect(broker, { version: 5 });
    await flood('tcp', client);
    await flood('ws', client);
    const said = broker.log().match(/connections are refused.*limit of open files/g) ?? [];
    expect(said.length, 'lines of two threads').toBeGreaterThanOrEqual(1);
    expect(said.length, 'lines of two threads').toBeLessThanOrEqual(2);
  });
});
