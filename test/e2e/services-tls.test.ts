import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/node/admin-client.js';
import type { ServicesReport } from '../../src/node/services-view.js';
import type { Settings } from './broker.js';
import { type Certificates, makeCertificates, removeCertificates } from './certificates.js';
import { ClusterHost, eventually, expectWhole } from './cluster-host.js';

/** Calls between nodes under an authority of the cluster's own, and a node that has certificates of another. */

const START_MS = 60_000;
const NEWS_MS = 8_000;

let certificates: Certificates;
const all: ClusterHost[] = [];
let a: ClusterHost;
let b: ClusterHost;

function identity(section: 'cluster' | 'rpc', name: 'server' | 'stranger'): Settings {
  return {
    [`${section}.tls.certFile`]: join(certificates.directory, `${name}.pem`),
    [`${section}.tls.keyFile`]: join(certificates.directory, `${name}.key`),
    [`${section}.tls.caFile`]: certificates.caFile,
  };
}

async function started(name: string, seed: ClusterHost | undefined, set: Settings): Promise<ClusterHost> {
  const host = await ClusterHost.make(name, seed, { ...identity('cluster', 'server'), ...set });
  all.push(host);
  await host.broker.start();
  return host;
}

beforeAll(async () => {
  certificates = makeCertificates();
  a = await started('a', undefined, {});
  b = await started('b', a, {});
  await expectWhole([a, b], NEWS_MS);
}, START_MS);
afterAll(async () => {
  const exits = await Promise.all(all.map(({ broker }) => broker.stop()));
  for (const { broker } of all) broker.removeFiles();
  removeCertificates(certificates);
  expect(exits).toEqual(all.map(() => ({ code: 0, signal: null })));
}, START_MS);

const services = (host: ClusterHost) => askAdmin<ServicesReport>(host.port, 'GET', '/services');
const healths = async (host: ClusterHost) =>
  (await host.members()).members.map(({ name, health }) => [name, health]);

describe('nodes with certificates of one authority', () => {
  it('call each other', { timeout: 30_000 }, async () => {
    for (const host of [a, b])
      await eventually(NEWS_MS, async () => {
        expect(await healths(host)).toEqual([
          ['a', 0],
          ['b', 0],
        ]);
      });
    expect((await a.command('doctor')).code).toBe(0);
  });

  it('let nobody else call', { timeout: 30_000 }, async () => {
    const { address } = (await services(a)).services[0]!.servers[0]!;
    const port = Number(address.slice(address.lastIndexOf(':') + 1));
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    const end = new Promise<string>(resolve => {
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.on('close', () => resolve('closed'));
    });
    // TLS 1.3: the refusal comes after the client thinks that all is agreed.
    socket.on('data', () => undefined);
    expect(await end).toBe('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
    expect(await a.broker.metric('shoalmq_rpc_refused_connections_total', /reason="tls"/)).toBe(1);
  });
});

describe('a node with certificates of another authority', () => {
  it('is in the cluster, cannot be called, and the doctor says to look at rpc.tls', {
    timeout: 60_000,
  }, async () => {
    const stranger = await started('stranger', a, identity('rpc', 'stranger'));
    await expectWhole([a, b, stranger], NEWS_MS);
    await eventually(NEWS_MS, async () => {
      const found = await b.findings();
      expect(found).toContainEqual({
        severity: 'wrong',
        what: expect.stringMatching(/^Gossip reaches stranger .* but its RPC port .* does not answer/),
        remedy: expect.stringContaining('compare rpc.tls on both hosts'),
      });
    });
    expect(await healths(a)).toEqual([
      ['a', 0],
      ['b', 0],
      ['stranger', null],
    ]);
    // Neither can it call the others.
    const seen = (await stranger.findings()).map(({ what }) => what);
    for (const { name } of [a, b])
      expect(seen).toContainEqual(expect.stringContaining(`Gossip reaches ${name} `));
  });
});
