import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { authority } from './certificates.js';
import { type HostSettings, LoopbackHost, sees } from './hosts.js';
import { freePort, until } from './socket-world.js';

const KEYS = { a: randomBytes(32).toString('base64'), b: randomBytes(32).toString('base64') };
const hasIpv6 = Object.values(networkInterfaces()).some(list =>
  list?.some(({ address }) => address === '::1'),
);

let hosts: LoopbackHost[] = [];

async function start(settings?: HostSettings): Promise<LoopbackHost> {
  const host = await LoopbackHost.start(settings);
  hosts.push(host);
  return host;
}

/** So many hosts with the first as the seed of all. */
async function cluster(count: number, settings: HostSettings = {}): Promise<LoopbackHost[]> {
  const first = await start(settings);
  const others = Array.from({ length: count - 1 }, () => start({ ...settings, seeds: [first.address] }));
  return [first, ...(await Promise.all(others))];
}

afterEach(async () => {
  await Promise.all(hosts.map(({ driver }) => driver.close()));
  hosts = [];
});

describe('hosts on the loopback', () => {
  it('form a cluster of two', async () => {
    const [a, b] = await cluster(2);
    await until(sees([a!, b!]));
    expect(a!.events.map(({ kind }) => kind)).toEqual(['joined']);
    expect(b!.driver.counters).toMatchObject({ undecodable: 0, refusedKey: 0, refusedMalformed: 0 });
  });

  it('form a cluster of five, notice a death, and a goodbye', async () => {
    const all = await cluster(5);
    await until(sees(all));
    const [a, b, c, d, e] = all as [LoopbackHost, LoopbackHost, LoopbackHost, LoopbackHost, LoopbackHost];
    await e.driver.close();
    await until(sees([a, b, c, d]));
    expect(a.events.at(-1)).toMatchObject({ kind: 'gone', host: { id: e.id }, reason: 'failed' });
    await d.driver.leave();
    await d.driver.close();
    await until(sees([a, b, c]));
    for (const { events } of [a, b, c]) {
      expect(events.at(-1)).toMatchObject({ kind: 'gone', host: { id: d.id }, reason: 'left' });
    }
  });

  it('send each other messages by both paths', async () => {
    const [a, b] = (await cluster(2)) as [LoopbackHost, LoopbackHost];
    await until(sees([a, b]));
    const large = randomBytes(300_000);
    a.driver.act(machine => {
      machine.send(b.id, 'datagram', { kind: 'payload', channel: 'small', bytes: new Uint8Array([1]) });
      machine.send(b.id, 'stream', { kind: 'payload', channel: 'large', bytes: large });
      machine.send(b.id, 'datagram', { kind: 'payload', channel: 'promoted', bytes: large });
    });
    await until(() => b.payloads.length === 3);
    const channels = b.payloads.map(({ channel }) => channel).sort();
    expect(channels).toEqual(['large', 'promoted', 'small']);
    for (const { from, channel, bytes } of b.payloads) {
      expect(from).toBe(a.id);
      if (channel !== 'small') expect(Buffer.compare(bytes, large)).toBe(0);
    }
    expect(a.driver.counters.tooLarge).toBe(0);
  });
});

describe('a driver', () => {
  it('takes orders from within its callbacks', async () => {
    const onEvent: NonNullable<HostSettings['onEvent']> = ({ driver }, event) => {
      if (event.kind !== 'joined') return;
      const message = { kind: 'payload', channel: 'welcome', bytes: new Uint8Array([1]) } as const;
      expect(driver.act(machine => machine.send(event.host.id, 'stream', message))).toBe(true);
    };
    const [a, b] = (await cluster(2, { onEvent })) as [LoopbackHost, LoopbackHost];
    await until(() => a.payloads.length === 1 && b.payloads.length === 1);
    expect(a.payloads[0]).toMatchObject({ from: b.id, channel: 'welcome' });
  });

  it('cuts what does not fit one packet', async () => {
    const [a, b] = (await cluster(2)) as [LoopbackHost, LoopbackHost];
    await until(sees([a, b]));
    a.driver.act(machine => {
      for (let count = 0; count < 100; count++) {
        machine.send(b.id, 'datagram', {
          kind: 'payload',
          channel: 'd',
          bytes: new Uint8Array(200).fill(count),
        });
        machine.send(b.id, 'stream', {
          kind: 'payload',
          channel: 's',
          bytes: new Uint8Array(30_000).fill(count),
        });
      }
    });
    await until(() => b.payloads.length === 200);
    const [first, ...others] = b.payloads
      .filter(({ channel }) => channel === 's')
      .map(({ bytes }) => bytes[0]!);
    expect(others).toEqual(Array.from({ length: 99 }, (_, at) => first! + at + 1));
  });

  it('leaves nothing open', async () => {
    const open = () =>
      process.getActiveResourcesInfo().filter(name => /UDP|TCP|TLS|Timeout/.test(name)).length;
    const before = open();
    const [a, b] = (await cluster(2, { seeds: ['localhost:1'] })) as [LoopbackHost, LoopbackHost];
    await until(sees([a, b]));
    // Timers of tests before may have ended meanwhile, so this says only that such things are seen.
    expect(open()).toBeGreaterThan(0);
    await Promise.all([a.driver.close(), b.driver.close()]);
    await until(() => open() <= before);
  });

  it('that is alone leaves at once, and its port is free then', async () => {
    const a = await start();
    await a.driver.leave();
    await a.driver.close();
    await a.driver.close();
    const b = await start({ port: a.port });
    expect(b.view).toEqual([`host-${a.port}`]);
  });
});

describe('with a cluster key', () => {
  it('hosts form a cluster', async () => {
    const all = await cluster(5, { keys: [KEYS.a] });
    await until(sees(all));
    for (const { driver } of all) expect(driver.counters).toMatchObject({ refusedKey: 0, refusedReplay: 0 });
  });

  it('hosts of another key, or of none, stay out and are told of', async () => {
    const [a, b] = (await cluster(2, { keys: [KEYS.a] })) as [LoopbackHost, LoopbackHost];
    const other = await start({ keys: [KEYS.b], seeds: [a.address] });
    const open = await start({ seeds: [a.address] });
    await until(() => a.driver.counters.refusedKey >= 4 && sees([a, b])());
    expect([other.view, open.view]).toEqual([[`host-${other.port}`], [`host-${open.port}`]]);
    const refused = a.driver.machine.refusals().map(({ address, why }) => `${address} ${why}`);
    expect(refused).toContain(`${other.address} key`);
    expect(refused).toContain(`${open.address} key`);
  });

  it('hosts are restarted with other keys one after the other, and all see all at each step', async () => {
    const all = await cluster(3, { keys: [KEYS.a] });
    await until(sees(all));
    for (const keys of [[KEYS.a, KEYS.b], [KEYS.b, KEYS.a], [KEYS.b]]) {
      for (const [at, { driver, port }] of all.entries()) {
        await driver.close();
        all[at] = await start({ port, keys, seeds: [all[(at + 1) % 3]!.address] });
        await until(sees(all));
      }
    }
    expect(hosts).toHaveLength(12);
    for (const { driver } of hosts) {
      expect(driver.counters).toMatchObject({ refusedKey: 0, refusedReplay: 0, undecodable: 0 });
    }
  });
});

describe('with a cluster key that changes', () => {
  it('running hosts take new keys one after the other, and no packet is refused', async () => {
    const all = await cluster(3, { keys: [KEYS.a] });
    await until(sees(all));
    for (const keys of [[KEYS.a, KEYS.b], [KEYS.b, KEYS.a], [KEYS.b]]) {
      for (const { driver } of all) {
        driver.renewKeys(keys);
        const before = driver.counters.datagramsIn;
        await until(() => driver.counters.datagramsIn > before + 2);
      }
    }
    const late = await start({ keys: [KEYS.b], seeds: [all[0]!.address] });
    await until(sees([...all, late]));
    for (const { driver, events } of all) {
      expect(driver.counters).toMatchObject({ refusedKey: 0, refusedReplay: 0 });
      expect(events.filter(({ kind }) => kind !== 'joined')).toEqual([]);
    }
  });
});

describe('hosts that do not belong together', () => {
  it('of other environments say so and do not mix', async () => {
    const a = await start({ environment: 'blue' });
    const b = await start({ environment: 'green', seeds: [a.address] });
    await until(() => b.driver.machine.refusals().length > 0 && a.driver.machine.refusals().length > 0);
    expect(a.driver.machine.refusals()[0]).toMatchObject({ why: 'environment', detail: 'green' });
    expect([a.view.length, b.view.length]).toEqual([1, 1]);
  });
});

describe('with certificates', () => {
  const trusted = authority('cluster');
  const stranger = authority('stranger');
  const large = (host: LoopbackHost, to: LoopbackHost) =>
    host.driver.act(machine =>
      machine.send(to.id, 'stream', { kind: 'payload', channel: 'c', bytes: randomBytes(100_000) }),
    );

  it('streams are encrypted and both sides are checked', async () => {
    const tls = { ...trusted.issue('host'), ca: trusted.ca };
    const [a, b] = (await cluster(2, { tls })) as [LoopbackHost, LoopbackHost];
    await until(sees([a, b]));
    large(a, b);
    large(b, a);
    await until(() => a.payloads.length === 1 && b.payloads.length === 1);
    expect(a.driver.stats()).toMatchObject({ tlsFailed: 0, streamPacketsLost: 0 });
  });

  it('streams of a stranger are refused', async () => {
    const a = await start({ tls: { ...trusted.issue('host'), ca: trusted.ca } });
    const b = await start({ tls: { ...stranger.issue('host'), ca: stranger.ca }, seeds: [a.address] });
    await until(sees([a, b]));
    large(b, a);
    await until(() => b.driver.counters.unreachableStream > 0);
    expect(a.payloads).toEqual([]);
  });

  it('streams without TLS are refused', async () => {
    const a = await start({ tls: { ...trusted.issue('host'), ca: trusted.ca } });
    const b = await start({ seeds: [a.address] });
    await until(sees([a, b]));
    large(b, a);
    await until(() => b.driver.counters.unreachableStream > 0 && a.driver.stats()!.tlsFailed > 0);
    expect(a.payloads).toEqual([]);
  });

  it('are renewed without a restart', async () => {
    const a = await start({ tls: { ...trusted.issue('host'), ca: trusted.ca } });
    const both = `${trusted.ca}\n${stranger.ca}`;
    a.driver.renewTls({ ...trusted.issue('host'), ca: both });
    const b = await start({ tls: { ...stranger.issue('host'), ca: both }, seeds: [a.address] });
    await until(sees([a, b]));
    large(a, b);
    large(b, a);
    await until(() => a.payloads.length === 1 && b.payloads.length === 1);
    expect(() => a.driver.renewTls({ cert: 'x', key: 'y' })).toThrow(
      expect.objectContaining({ code: 'SHOAL_TLS_CERTIFICATE' }),
    );
  });

  it('a key that does not belong to its certificate stops the start', async () => {
    const tls = { cert: trusted.issue('host').cert, key: stranger.issue('host').key };
    await expect(LoopbackHost.start({ tls })).rejects.toMatchObject({ code: 'SHOAL_TLS_CERTIFICATE' });
  });
});

describe('addresses', () => {
  it.skipIf(!hasIpv6)('may be IPv6', async () => {
    const all = await cluster(2, { host: '::1' });
    await until(sees(all));
    expect(all[0]!.address).toMatch(/^\[::1\]:/);
  });

  it.skipIf(!hasIpv6)('of both families meet in one cluster', async () => {
    const a = await start({ host: '::', advertised: '127.0.0.1' });
    const b = await start({ seeds: [a.address] });
    await until(sees([a, b]));
  });

  it('may be names, and differ from what is bound', async () => {
    const a = await start({ host: '0.0.0.0', advertised: 'localhost' });
    const b = await start({ host: '0.0.0.0', advertised: 'localhost', seeds: [`localhost:${a.port}`] });
    await until(sees([a, b]));
  });

  it('that are taken stop the start with words on what to do', async () => {
    const a = await start();
    await expect(LoopbackHost.start({ port: a.port })).rejects.toMatchObject({ code: 'SHOAL_LISTEN_IN_USE' });
    const port = await freePort('127.0.0.1');
    await expect(LoopbackHost.start({ host: '192.0.2.1', port })).rejects.toMatchObject({
      code: 'SHOAL_LISTEN_FAILED',
    });
  });
});

describe('a seed', () => {
  it('that comes up late is found', async () => {
    const port = await freePort('127.0.0.1');
    const b = await start({ seeds: [`127.0.0.1:${port}`] });
    await until(() => b.driver.machine.seedStates()[0]!.tries >= 2);
    const a = await start({ port });
    await until(sees([a, b]));
  });
});
