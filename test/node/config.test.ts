import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ShoalError } from '../../src/base/errors.js';
import { type Config, defaultConfig, loadConfig } from '../../src/node/config.js';
import { configLeaves, configTable } from '../../src/node/config-keys.js';
import { variableOf } from '../../src/node/config-sources.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-config-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function load(yaml: string | undefined, env: NodeJS.ProcessEnv = {}, set: string[] = []): Config {
  const file = join(directory, 'shoalmq.yaml');
  if (yaml !== undefined) writeFileSync(file, yaml);
  return loadConfig({ file: yaml === undefined ? undefined : file, set, env });
}

function faultOf(run: () => unknown): ShoalError {
  try {
    run();
  } catch (error) {
    if (error instanceof ShoalError) return error;
    throw error;
  }
  throw new Error('expected a ShoalError');
}

describe('loadConfig', () => {
  it('has a complete default that a worker thread can be given', () => {
    const config = load(undefined);
    expect(structuredClone(config)).toEqual(config);
    expect(config.node.name).toBe(hostname());
    expect(config.listeners.tcp).toMatchObject({ enabled: true, host: '127.0.0.1', port: 1883 });
    expect(config.listeners.ws).toMatchObject({
      enabled: true,
      host: '127.0.0.1',
      port: 8080,
      path: '/mqtt',
    });
    expect(config.listeners.tls).toMatchObject({ enabled: false, port: 8883 });
    expect(config.listeners.wss).toMatchObject({ enabled: false, port: 8443 });
    expect(config.auth.anonymous).toBeUndefined();
    expect(config.metrics).toEqual({ enabled: true, host: '127.0.0.1', port: 9464 });
  });

  it('lets the file override the default, the environment the file, and --set the environment', () => {
    const yaml =
      'listeners:\n  tcp:\n    port: 2001\n    host: 127.0.0.2\n    backlog: 7\nnode: {name: shoal}\n';
    const env = { SHOALMQ_LISTENERS__TCP__PORT: '2002', SHOALMQ_LISTENERS__TCP__HOST: '127.0.0.3' };
    const config = load(yaml, env, ['listeners.tcp.port=2003', 'listeners.tcp.port=2004']);
    expect(config.listeners.tcp).toMatchObject({ backlog: 7, host: '127.0.0.3', port: 2004 });
    expect(config.node.name).toBe('shoal');
  });

  it('takes camelCase keys from the environment in any case', () => {
    const config = load(undefined, {
      SHOALMQ_AUTH__PASSWORDFILE: '/p',
      shoalmq_limits__queueDropPolicy: 'oldest',
    });
    expect(config.auth.passwordFile).toBe('/p');
    expect(config.limits.queueDropPolicy).toBe('oldest');
    expect(config.listeners.tcp.host).toBe('0.0.0.0');
  });

  it('reads text by the type of its key', () => {
    const set = ['threads.pin=0,1', 'threads.mqtt=3', 'node.name=123', 'metrics.enabled=false'];
    const config = load(undefined, {}, [...set, 'listeners.ws.origins=https://a.example,https://b.example']);
    expect(config.threads).toMatchObject({ pin: [0, 1], mqtt: 3, match: 'auto' });
    expect(config.node.name).toBe('123');
    expect(config.metrics.enabled).toBe(false);
    expect(config.listeners.ws.origins).toEqual(['https://a.example', 'https://b.example']);
    expect(load(undefined, {}, ['threads.pin=2']).threads.pin).toEqual([2]);
  });

  it('takes empty sections, anchors and a missing value for what they are', () => {
    const yaml = 'limits:\nauth:\n  passwordFile:\nlisteners:\n  tcp: &a {port: 1}\n  ws: *a\n';
    const config = load(yaml);
    expect(config.auth.passwordFile).toBeUndefined();
    expect([config.listeners.tcp.port, config.listeners.ws.port]).toEqual([1, 1]);
    expect(load('').limits).toEqual(defaultConfig().limits);
  });

  it('names every fault at once: key, value, what is allowed, where it came from', () => {
    const yaml = 'listeners:\n  tcp:\n    port: 99999\nlog:\n  level: loud\n';
    const env = { SHOALMQ_THREADS__MQTT: 'many' };
    const { code, message } = faultOf(() => load(yaml, env, ['limits.qosMax=3']));
    expect(code).toBe('SHOAL_CONFIG_INVALID');
    expect(message).toContain('listeners.tcp.port is 99999 (from ');
    expect(message).toContain('shoalmq.yaml line 3), allowed is a whole number 0 to 65535');
    expect(message).toContain('line 5), allowed is debug | info | warn | error | silent');
    expect(message).toContain(
      'threads.mqtt is "many" (from SHOALMQ_THREADS__MQTT), allowed is auto, or a whole number 1 to 256',
    );
    expect(message).toContain('limits.qosMax is "3" (from --set), allowed is a whole number 0 to 2');
  });

  it.each([
    ['listeners.tcp.prot=1', 'did you mean listeners.tcp.port?'],
    ['dataDir=/x', 'did you mean node.dataDir?'],
    ['limits.packetBytes=9', 'did you mean limits.packetBytesMax?'],
    ['zzz.qqq=1', 'zzz.qqq (from --set) is not a key'],
    ['listeners.tcp=1', 'listeners.tcp (from --set) is not a key'],
    ['nothing', 'is not of the form key=value'],
    ['constructor=1', 'constructor (from --set) is not a key'],
    ['__proto__.x=1', '__proto__.x (from --set) is not a key'],
  ])('refuses --set %s', (set, text) => {
    expect(faultOf(() => load(undefined, {}, [set])).message).toContain(text);
  });

  it('refuses unknown keys of the file and the environment, but not variables of others', () => {
    expect(faultOf(() => load('listener:\n  tcp:\n    port: 1\n')).message).toContain(
      'did you mean listeners.tcp.port?',
    );
    expect(faultOf(() => load('limits: 4\n')).message).toContain('limits is 4 (from');
    expect(faultOf(() => load('- a\n')).message).toContain('allowed is a mapping of keys');
    expect(faultOf(() => load(undefined, { SHOALMQ_NODE__COLOUR: 'red' })).message).toContain(
      'node.colour (from SHOALMQ_NODE__COLOUR) is not a key',
    );
    expect(faultOf(() => load(undefined, { SHOALMQ_LISTENERS_TCP_PORT: '1' })).message).toContain(
      'did you mean SHOALMQ_LISTENERS__TCP__PORT?',
    );
    expect(load(undefined, { SHOALMQ_PORT_1883_TCP_ADDR: '10.0.0.1', PATH: 'x' })).toEqual(load(undefined));
  });

  it('checks keys that depend on each other', () => {
    const { message } = faultOf(() => load('listeners: {tls: {enabled: true, clientCertificate: required}}'));
    for (const name of ['certFile', 'keyFile', 'caFile'])
      expect(message).toContain(`listeners.tls.${name} is missing`);
    expect(faultOf(() => load('auth: {anonymous: false}')).message).toContain('nobody could connect');
    expect(faultOf(() => load('features: {mqtt31: false, mqtt311: false, mqtt5: false}')).message).toContain(
      'all false',
    );
    expect(load('limits: {packetBytesMax: 1000}').limits.connectBytesMax).toBe(1000);
    expect(faultOf(() => load('limits: {packetBytesMax: 1000, connectBytesMax: 2000}')).message).toContain(
      'above',
    );
  });

  it('says why a file cannot be read', () => {
    const missing = faultOf(() => loadConfig({ file: join(directory, 'none.yaml'), set: [], env: {} }));
    expect(missing.code).toBe('SHOAL_CONFIG_UNREADABLE');
    expect(missing.message).toContain('ENOENT');
    expect(faultOf(() => load('a: 1\nb: [\n')).message).toMatch(/shoalmq\.yaml line \d/);
    expect(faultOf(() => load('node: {}\nnode: {}\n')).message).toContain('line 2');
    expect(faultOf(() => load(`#${'x'.repeat(1024 * 1024)}`)).message).toContain('larger than');
  });
});

describe('configTable', () => {
  it('describes every key, and each default is accepted by its own key', () => {
    const rows = configTable();
    expect(rows.length).toBeGreaterThan(80);
    for (const row of rows) {
      expect(row.meaning, row.key).not.toBe('');
      expect(row.type, row.key).not.toMatch(/undefined/);
      if (row.default !== '' && row.default !== '[]') load(undefined, {}, [`${row.key}=${row.default}`]);
    }
    expect(rows.find(({ key }) => key === 'listeners.tcp.port')).toEqual({
      key: 'listeners.tcp.port',
      type: 'a whole number 0 to 65535',
      default: '1883',
      meaning: 'port; 0 takes any free one',
    });
  });

  it('has distinct environment variables', () => {
    const keys = [...configLeaves().keys()];
    expect(new Set(keys.map(variableOf)).size).toBe(keys.length);
    expect(variableOf('listeners.tcp.port')).toBe('SHOALMQ_LISTENERS__TCP__PORT');
  });
});
