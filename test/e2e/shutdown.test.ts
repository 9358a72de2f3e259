import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Broker, get, runCli } from './broker.js';
import { connect, cutAllClients, open, sleep, unique } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

let broker: Broker;

function begin(options: ConstructorParameters<typeof Broker>[0] = {}): () => Promise<void> {
  return async () => {
    broker = new Broker(options);
    await broker.start();
  };
}

async function end(): Promise<void> {
  cutAllClients();
  await broker.kill9();
  broker.removeFiles();
}

describe('SIGTERM', () => {
  beforeEach(begin({ transports: TRANSPORTS }));
  afterEach(end);

  it.each(TRANSPORTS)('says 0x8B to MQTT 5 clients over %s, closes all, exits 0 (4.13)', async transport => {
    const young = await connect(broker, { transport, version: 5 });
    const old = await connect(broker, { transport, version: 4 });
    const silent = await open(broker, { transport });
    const stopping = broker.stop();
    await young.expectRefused(0x8b);
    await old.expectClosed();
    await silent.expectClosed();
    expect(await stopping).toEqual({ code: 0, signal: null });
    await expect(open(broker, { transport })).rejects.toThrow();
    await expect(get(broker.metricsPort, '/healthz')).rejects.toThrow();
  });

  it('exits 0 in time while clients publish with all their might, and loses nothing acknowledged', async () => {
    const topic = unique('t');
    const clientId = unique('c');
    const subscriber = await connect(broker, { version: 5, clientId, expiry: 600 });
    await subscriber.subscribe(topic, { qos: 1 });
    await subscriber.disconnect();
    const publisher = await connect(broker);
    let acknowledged = 0;
    publisher.handler = packet => {
      if (packet.cmd === 'puback') acknowledged++;
    };
    let sent = 0;
    const pump = setInterval(() => {
      for (let index = 0; index < 20 && publisher.closed === undefined; index++) {
        publisher.post(topic, `${sent++}`, { qos: 1 });
      }
    }, 2);
    await sleep(300);
    const exit = await broker.stop();
    clearInterval(pump);
    expect(exit).toEqual({ code: 0, signal: null });
    expect(acknowledged).toBeGreaterThan(0);
    await broker.launch();
    const back = await connect(broker, { version: 5, clientId, clean: false, expiry: 0 });
    const texts = await back.receiveTexts(Math.min(acknowledged, 1000));
    expect(texts).toEqual(Array.from({ length: texts.length }, (_, index) => `${index}`));
  });

  it('SIGINT does the same', async () => {
    await connect(broker);
    broker.process!.kill('SIGINT');
    expect(await broker.exited).toEqual({ code: 0, signal: null });
  });

  it('a second signal ends at once', async () => {
    const child = broker.process!;
    child.kill('SIGTERM');
    child.kill('SIGINT');
    const exit = await broker.exited!;
    // By the signal, unless the orderly stop was done first.
    if (exit.code === null) expect(['SIGINT', 'SIGTERM']).toContain(exit.signal);
    else expect(exit.code).toBe(0);
  });
});

describe('a stop that cannot finish', () => {
  /** Hangs a thread in its own code, or at its end. */
  const HANGING_PLUGIN = `
import { isMainThread } from 'node:worker_threads';
export const hooks = {
  authorizer: {
    version: 1,
    maySubscribe: () => true,
    mayPublish(identity, topic) {
      while (topic === 'hang') {}
      return true;
    },
  },
  close: () => (isMainThread ? undefined : new Promise(() => {})),
};
`;
  const folder = mkdtempSync(join(tmpdir(), 'shoal-plugin-'));
  const plugin = join(folder, 'hanging.mjs');
  writeFileSync(plugin, HANGING_PLUGIN);
  afterAll(() => rmSync(folder, { recursive: true }));
  const set = { 'shutdown.timeoutMs': 300, 'auth.plugin': plugin, 'auth.anonymous': true };
  beforeEach(begin({ transports: TRANSPORTS, set: { ...set, 'threads.mqtt': 2 } }));
  afterEach(end);

  it.each([
    ['a hook that never resolves', undefined],
    ['a thread that is stuck', 'hang'],
  ])('for %s is killed after shutdown.timeoutMs, with one line', async (_name, topic) => {
    for (const transport of TRANSPORTS) await connect(broker, { transport });
    const publisher = await connect(broker, { transport: 'ws' });
    if (topic !== undefined) {
      publisher.post(topic, 'x', { qos: 1 });
      await sleep(50);
    }
    const began = performance.now();
    broker.process!.kill('SIGTERM');
    expect(await broker.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(performance.now() - began).toBeLessThan(3000);
    const said = broker
      .log()
      .split('\n')
      .filter(line => !line.includes('"level"'));
    expect(said.filter(line => line.includes('not stopped within shutdown.timeoutMs'))).toHaveLength(1);
    expect(broker.log()).not.toMatch(/FATAL|Native stack|\| +at /i);
    await broker.launch();
    await (await connect(broker)).ping();
  });
});

describe.each([true, false])('wills at a stop, with shutdown.publishWills %s', publishWills => {
  beforeEach(begin({ set: { 'shutdown.publishWills': publishWills } }));
  afterEach(end);

  it('those of clients online reach a waiting session, or not', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const waiting = await connect(broker, { version: 5, clientId, expiry: 600 });
    await waiting.subscribe(topic, { qos: 1 });
    await waiting.disconnect();
    await connect(broker, { version: 5, will: { topic, payload: 'swept away', qos: 1 } });
    expect((await broker.stop()).code).toBe(0);
    await broker.launch();
    const back = await connect(broker, { version: 5, clientId, clean: false, expiry: 0 });
    if (publishWills) await back.receive({ payload: 'swept away' });
    else await back.expectNothing();
  });
});

describe('what cannot start says so in one line and exits 1', () => {
  beforeEach(begin());
  afterEach(end);

  /** Starts another broker with these settings; yields its complaint. */
  async function complaint(set: Record<string, string | number | boolean>): Promise<string> {
    const { code, stderr, stdout } = await runCli(broker.startArguments(set));
    expect({ code, stdout }, stderr).toMatchObject({ code: 1 });
    const lines = stderr.split('\n').filter(line => line !== '' && !line.startsWith('{'));
    expect(lines.length, stderr).toBe(1);
    expect(stderr).not.toMatch(/^\s+at /m);
    return lines[0]!;
  }

  it('a port that is taken', async () => {
    const server = net.createServer();
    await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as net.AddressInfo;
    const elsewhere = join(broker.dataDir, 'second');
    const line = await complaint({
      'node.dataDir': elsewhere,
      'listeners.tcp.port': port,
      'metrics.port': 0,
    });
    server.close();
    expect(line).toContain(String(port));
    expect(line).toContain('SHOAL_LISTEN_IN_USE');
  });

  it('a metrics port that is taken', async () => {
    const elsewhere = join(broker.dataDir, 'second');
    const line = await complaint({ 'node.dataDir': elsewhere, 'listeners.tcp.port': 0 });
    expect(line).toContain('SHOAL_LISTEN_IN_USE');
  });

  it('a data directory that another process holds', async () => {
    const line = await complaint({ 'listeners.tcp.port': 0, 'metrics.port': 0 });
    expect(line).toContain('SHOAL_DATA_DIR_LOCKED');
    await (await connect(broker)).ping();
  });

  it('a certificate that does not exist, or is none', async () => {
    const settings = {
      'node.dataDir': join(broker.dataDir, 'second'),
      'listeners.tcp.port': 0,
      'metrics.port': 0,
      'listeners.tls.enabled': true,
      'listeners.tls.port': 0,
      'listeners.tls.certFile': '/nowhere/cert.pem',
      'listeners.tls.keyFile': '/nowhere/key.pem',
    };
    expect(await complaint(settings)).toContain('SHOAL_TLS_CERTIFICATE');
    const junk = join(broker.dataDir, 'junk.pem');
    writeFileSync(junk, 'not a certificate');
    const line = await complaint({
      ...settings,
      'listeners.tls.certFile': junk,
      'listeners.tls.keyFile': junk,
    });
    expect(line).toContain('SHOAL_TLS_CERTIFICATE');
  });

  it('WebSockets where their native part does not load, as with Node.js 22 on an older glibc', async () => {
    const hook = join(broker.dataDir, 'no-uws.cjs');
    writeFileSync(
      hook,
      `const load = process.dlopen;
process.dlopen = function (module, file, ...rest) {
  if (file.includes('uws_')) throw new Error("libc.so.6: version 'GLIBC_2.38' not found");
  return load.call(process, module, file, ...rest);
};`,
    );
    const options = { set: { 'sys.intervalSeconds': 0 }, env: { NODE_OPTIONS: `--require ${hook}` } };
    const other = new Broker({ ...options, transports: ['tcp', 'ws'] });
    await expect(other.start()).rejects.toThrow(/SHOAL_WEBSOCKETS_UNAVAILABLE: ws: .*GLIBC_2.38.*Remedy/);
    other.removeFiles();
    const without = new Broker(options);
    await without.start();
    await (await connect(without)).ping();
    expect(await without.stop()).toEqual({ code: 0, signal: null });
    without.removeFiles();
  });

  it('an unknown key, a wrong value', async () => {
    expect(await complaint({ 'listeners.tcp.prot': 1 })).toContain('listeners.tcp.prot');
    const line = await complaint({ 'listeners.tcp.port': 99_999 });
    expect(line).toContain('listeners.tcp.port');
    expect(line).toContain('65535');
  });

  it('a listener for other machines without authentication', async () => {
    const line = await complaint({ 'listeners.tcp.host': '0.0.0.0' });
    expect(line).toContain('SHOAL_INSECURE_LISTENER');
  });

  it('a torn database', async () => {
    const client = await connect(broker, { version: 5, clientId: unique('c'), expiry: 600 });
    await client.subscribe(unique('t'), { qos: 1 });
    for (let index = 0; index < 200; index++) {
      await client.publish(unique('r'), 'x'.repeat(1000), { qos: 1, retain: true });
    }
    await broker.kill9();
    const found = spawnSync('find', [broker.dataDir, '-name', '*.mdb', '-size', '+8k'], { encoding: 'utf8' });
    const files = found.stdout.split('\n').filter(line => line.includes('data') || line.endsWith('.mdb'));
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) truncateSync(file, 8192);
    const line = await complaint({ 'listeners.tcp.port': 0, 'metrics.port': 0 });
    expect(line).toContain('SHOAL_STORAGE_CORRUPT');
    rmSync(broker.dataDir, { recursive: true, force: true });
  });
});
