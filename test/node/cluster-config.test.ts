import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Log } from '../../src/base/env.js';
import { advertisedAddress } from '../../src/node/cluster-address.js';
import {
  assertSecureCluster,
  assertSecureRpc,
  readClusterKeys,
  readTls,
} from '../../src/node/cluster-config.js';
import { type Config, loadConfig, withoutSecrets } from '../../src/node/config.js';

const SECRET = 'correct horse battery staple';
const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-cluster-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function load(...set: string[]): Config {
  return loadConfig({ set, env: {} });
}

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe('cluster.enabled', () => {
  it('is false on a plain start, and then no port for administration is opened', () => {
    const { cluster, admin } = load();
    expect([cluster.enabled, admin.enabled]).toEqual([false, false]);
  });

  it.each([
    'cluster.seeds=10.0.0.1:4800',
    'cluster.keyFile=k',
    `cluster.key=${SECRET}`,
    'cluster.host=127.0.0.1',
    'cluster.port=4801',
    'cluster.advertise=example.org',
  ])('is true by %s', set => {
    const { cluster, admin } = load(set);
    expect([cluster.enabled, admin.enabled]).toEqual([true, true]);
    expect(load(set, 'cluster.enabled=false').cluster.enabled).toBe(false);
  });

  it('leaves administration as it is told', () => {
    expect(load('cluster.enabled=true', 'admin.enabled=false').admin.enabled).toBe(false);
    expect(load('admin.enabled=true').admin.enabled).toBe(true);
  });
});

describe('cluster.seeds', () => {
  const all = ['10.0.0.1:4800', '[fd00::1]:4800', 'fd00::2', 'seed.example.org', '_shoalmq._udp.example.org'];

  it('takes a list separated by commas, from the environment as well', () => {
    expect(load(`cluster.seeds=${all.join(', ')}`).cluster.seeds).toEqual(all);
    const env = { SHOALMQ_CLUSTER__SEEDS: all.join(',') };
    expect(loadConfig({ set: [], env }).cluster.seeds).toEqual(all);
  });

  it.each(['10.0.0.1:0', 'a b', 'host:port', '_shoalmq.example.org', '[::1'])('refuses %j by name', seed => {
    expect(() => load(`cluster.seeds=a:1,${seed}`)).toThrow(
      `cluster.seeds has ${JSON.stringify(seed)} (from --set), allowed is host:port, a DNS name`,
    );
  });
});

describe('what no single key can tell', () => {
  it.each([
    [['cluster.advertise=0.0.0.0'], 'cluster.advertise is "0.0.0.0" (from --set), allowed is a host'],
    [['cluster.advertise=[::]:4800'], 'cluster.advertise is "[::]:4800"'],
    [['cluster.advertise=a:b:c'], 'cluster.advertise is "a:b:c"'],
    [[`cluster.key=${SECRET}`, 'cluster.keyFile=k'], 'cluster.key and cluster.keyFile are both set'],
    [['cluster.previousKeyFile=k'], 'cluster.previousKey is set without cluster.key'],
    [['cluster.tls.certFile=c'], 'cluster.tls wants certFile and keyFile together'],
    [['cluster.tls.caFile=c'], 'cluster.tls wants certFile and keyFile together'],
    [['cluster.probeTimeoutMs=1000'], 'cluster.probeTimeoutMs is 1000 (from --set), allowed is less than'],
    [['cluster.env=a b'], 'cluster.env is "a b" (from --set), allowed is text that matches'],
    [['cluster.env='], 'cluster.env is ""'],
    [['cluster.port=0'], 'cluster.port is "0" (from --set), allowed is a whole number 1 to 65535'],
  ])('%j', (set, message) => {
    expect(() => load(...set)).toThrow(message);
  });
});

describe('assertSecureCluster', () => {
  it.each(['0.0.0.0', '::', '10.1.2.3', 'node.example'])('refuses %s without a key', host => {
    const open = load(`cluster.host=${host}`);
    expect(() => assertSecureCluster(open)).toThrow(
      expect.objectContaining({
        code: 'SHOAL_INSECURE_CLUSTER',
        message: expect.stringContaining('cluster.host would let anybody who reaches'),
        remedy: expect.stringContaining('cluster.insecure: true'),
      }),
    );
    expect(() => assertSecureCluster(load(`cluster.host=${host}`, 'cluster.keyFile=k'))).not.toThrow();
    expect(() => assertSecureCluster(load(`cluster.host=${host}`, 'cluster.insecure=true'))).not.toThrow();
    expect(() => assertSecureCluster(load(`cluster.host=${host}`, 'cluster.enabled=false'))).not.toThrow();
  });

  it('lets a cluster on loopback be', () => {
    expect(() => assertSecureCluster(load('cluster.seeds=127.0.0.1:4800'))).not.toThrow();
  });
});

describe('keys', () => {
  it('come from files, the sealing one first', () => {
    const base64 = Buffer.alloc(32, 7).toString('base64');
    const config = load(
      `cluster.keyFile=${file('new', `${SECRET}\n`)}`,
      `cluster.previousKeyFile=${file('old', base64)}`,
    );
    expect(readClusterKeys(config)).toEqual([SECRET, base64]);
    expect(readClusterKeys(load())).toEqual([]);
  });

  it('are two in one file during a rotation, one in each line', () => {
    const both = file('both', `${SECRET}\r\n\n another long pass phrase \n`);
    expect(readClusterKeys(load(`cluster.keyFile=${both}`))).toEqual([SECRET, 'another long pass phrase']);
    const tooMany = load(`cluster.keyFile=${both}`, `cluster.previousKeyFile=${both}`);
    expect(() => readClusterKeys(tooMany)).toThrow('4 secrets, one in a line; allowed are two');
    const weak = file('weaker', `${SECRET}\nhunter2`);
    const run = () => readClusterKeys(load(`cluster.keyFile=${weak}`));
    expect(run).toThrow(`cluster.keyFile (${weak}) holds neither`);
    expect(run).not.toThrow(/hunter2|horse/);
    const empty = file('empty', '\n');
    expect(() => readClusterKeys(load(`cluster.keyFile=${empty}`))).toThrow('holds neither');
  });

  it('are never shown', () => {
    const config = load(`cluster.key=${SECRET}`, 'cluster.previousKey=another long pass phrase');
    expect(JSON.stringify(withoutSecrets(config))).not.toMatch(/horse|phrase/);
    expect(withoutSecrets(config).cluster).toMatchObject({ key: '(not shown)', previousKey: '(not shown)' });
    expect(config.cluster.key).toBe(SECRET);
    expect(withoutSecrets(load()).cluster).not.toHaveProperty('key');
    const yaml = file('config.yaml', 'cluster: { key: [hunter2, hunter3] }');
    expect(() => loadConfig({ file: yaml, set: [], env: {} })).toThrow(
      /^cluster\.key is \(not shown\) \(from/,
    );
  });

  it.each([
    ['cluster.key=hunter2', /^cluster\.key holds neither/],
    ['cluster.keyFile=/nowhere/key', /^cannot read cluster\.keyFile \(\/nowhere\/key\): ENOENT/],
  ])('%s is refused', (set, message) => {
    const fault = expect.objectContaining({
      code: 'SHOAL_CLUSTER_KEY',
      message: expect.stringMatching(message),
    });
    expect(() => readClusterKeys(load(set))).toThrow(fault);
  });

  it('in a file are refused by the name of the file, never with what is in it', () => {
    const path = file('weak', 'hunter2');
    const run = () => readClusterKeys(load(`cluster.keyFile=${path}`));
    expect(run).toThrow(`cluster.keyFile (${path}) holds neither`);
    expect(run).not.toThrow(/hunter2/);
    const large = file('large', 'x'.repeat(5_000));
    expect(() => readClusterKeys(load(`cluster.keyFile=${large}`))).toThrow('it is larger than 4096 bytes');
  });

  it('of TLS that cannot be read are named', () => {
    const config = load('cluster.tls.certFile=/nowhere/c', 'cluster.tls.keyFile=/nowhere/k');
    expect(() => readTls(config, 'cluster')).toThrow('cannot read cluster.tls.certFile: ENOENT');
    expect(readTls(load(), 'cluster')).toBeUndefined();
  });
});

describe('rpc', () => {
  const identity = (section: string) => [
    `${section}.tls.certFile=c`,
    `${section}.tls.keyFile=k`,
    `${section}.tls.caFile=a`,
  ];
  const fault = expect.objectContaining({ code: 'SHOAL_INSECURE_RPC' });

  it('goes where gossip goes, under the same certificates, unless something else is said', () => {
    const { rpc, cluster } = load('cluster.host=10.0.0.1', ...identity('cluster'));
    expect(rpc).toEqual({ host: '10.0.0.1', port: 4_801, groups: [], tls: cluster.tls });
    expect(load('rpc.host=127.0.0.1', 'cluster.host=10.0.0.1').rpc.host).toBe('127.0.0.1');
    const own = load(...identity('cluster'), 'rpc.tls.certFile=x', 'rpc.tls.keyFile=y');
    expect(own.rpc.tls).toEqual({ certFile: 'x', keyFile: 'y' });
    expect(() => load('rpc.tls.certFile=x')).toThrow('rpc.tls wants certFile and keyFile together');
  });

  it('serves other machines only under an authority, or when that is said outright', () => {
    const open = ['cluster.host=0.0.0.0', `cluster.key=${SECRET}`];
    const check = (...set: string[]) => assertSecureRpc(load(...set));
    expect(() => check(...open)).toThrow(fault);
    expect(() => check(...open, 'rpc.tls.certFile=c', 'rpc.tls.keyFile=k')).toThrow(fault);
    expect(() => check('cluster.enabled=true', 'rpc.host=::')).toThrow(fault);
    check(...open, ...identity('rpc'));
    check(...open, ...identity('cluster'));
    check(...open, 'cluster.insecure=true');
    check(...open, 'rpc.host=127.0.0.1');
    check(...open, 'cluster.enabled=false');
  });
});

describe('advertisedAddress', () => {
  it.each([
    [['cluster.seeds=10.0.0.1:4800'], '127.0.0.1:4800'],
    [['cluster.host=::1', 'cluster.port=5000'], '[::1]:5000'],
    [['cluster.host=0.0.0.0', 'cluster.advertise=node-1.example'], 'node-1.example:4800'],
    [['cluster.advertise=10.9.8.7:6000'], '10.9.8.7:6000'],
    [['cluster.advertise=fd00::7'], '[fd00::7]:4800'],
    [['cluster.advertise=[fd00::7]:6000'], '[fd00::7]:6000'],
  ])('of %j is %s', async (set, address) => {
    expect(await advertisedAddress(load(...set), quiet)).toBe(address);
  });

  it('of a host that binds everything is one of its own that others can reach', async () => {
    const outer = Object.values(networkInterfaces())
      .flatMap(list => list ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4')
      .map(({ address }) => `${address}:4800`);
    const found = advertisedAddress(load('cluster.host=0.0.0.0', 'cluster.seeds=127.0.0.1:4800'), quiet);
    if (outer.length > 0) expect(outer).toContain(await found);
    else await expect(found).rejects.toMatchObject({ code: 'SHOAL_CLUSTER_ADDRESS' });
  });
});
