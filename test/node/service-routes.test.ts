import { createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Env } from '../../src/base/env.js';
import type { Answer, Routes } from '../../src/node/admin-server.js';
import { type Cluster, makeCluster } from '../../src/node/cluster.js';
import { loadConfig } from '../../src/node/config.js';
import { KvRelay } from '../../src/node/kv-relay.js';
import { knock } from '../../src/node/peers.js';
import { serviceRoutes } from '../../src/node/service-routes.js';
import type { ServicesReport } from '../../src/node/services-view.js';
import { GrpcTransport } from '../../src/rpc/io/grpc-transport.js';
import { DIRECTIVES_MAX } from '../../src/rpc/traffic.js';
import { freePort } from '../e2e/broker.js';
import { NO_THREADS } from './cluster-nodes.js';

const nothing = () => undefined;
const env: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
  log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
  random: { u32: () => Math.floor(Math.random() * 2 ** 32) },
};

const NO_DIRECTIVES = {
  services: [
    { name: 'kv', directives: [] },
    { name: 'node', directives: [] },
  ],
};

let cluster: Cluster;
let routes: Routes;

beforeAll(async () => {
  const set = [`cluster.port=${await freePort()}`, 'rpc.port=0', 'node.name=alone', 'rpc.groups=x'];
  const load = () => ({ connections: 7, loopDelayMs: 1, utilization: 0.5 });
  cluster = await makeCluster(loadConfig({ set, env: {} }), env, load, new KvRelay(env, NO_THREADS));
  await cluster.start();
  routes = serviceRoutes(cluster);
});
afterAll(() => cluster.close());

async function ask(route: string, body?: object): Promise<Answer> {
  return await routes.get(route)!(body);
}

describe('services of a node that is alone', () => {
  it('are its own, with its load', async () => {
    const { status, body } = await ask('GET /services');
    const { services, self } = body as ServicesReport;
    expect([status, self.name, services.map(({ name }) => name)]).toEqual([200, 'alone', ['kv', 'node']]);
    expect(services[0]!.servers).toEqual([]);
    const own = services[1]!;
    expect(own).toMatchObject({ name: 'node', isFollowed: true, hosts: ['alone'], traffic: [] });
    expect(own.servers).toMatchObject([
      {
        host: 'alone',
        groups: ['x'],
        state: 'serving',
        isLocal: true,
        health: 0,
        load: { connections: 7, utilization: 0.5 },
      },
    ]);
    expect(own.servers[0]!.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
  });
});

describe('a report over a connection of its own', () => {
  it('is what the node says, or why it says nothing', async () => {
    const { services } = (await ask('GET /services')).body as ServicesReport;
    const [server] = services.find(({ name }) => name === 'node')!.servers;
    const { address, id } = server!;
    const transport = new GrpcTransport();
    expect(await knock(transport, Number(id), address)).toMatchObject({
      kind: 'ok',
      value: { name: 'alone', connections: 7, utilization: 0.5, health: 0 },
    });
    expect(await knock(transport, 1, address)).toMatchObject({ kind: expect.not.stringMatching(/^ok$/) });
    const closed = `127.0.0.1:${await freePort()}`;
    expect(await knock(transport, Number(id), closed)).toMatchObject({ kind: 'unavailable' });
  });

  it('does not wait for who never answers', async () => {
    const sockets: Socket[] = [];
    const mute = createServer(socket => sockets.push(socket.on('error', nothing)));
    await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve));
    const { port } = mute.address() as { port: number };
    const beganMs = performance.now();
    const result = await knock(new GrpcTransport(), 1, `127.0.0.1:${port}`);
    expect(result.kind).toBe('deadline');
    expect(performance.now() - beganMs).toBeLessThan(4_000);
    for (const socket of sockets) socket.destroy();
    await new Promise(resolve => mute.close(resolve));
  });
});

describe('traffic', () => {
  it('is set, shown and unset', async () => {
    const weights = { canary: 10, '': 0 };
    expect(await ask('POST /traffic/set', { prefix: '', weights })).toEqual({
      status: 200,
      body: { services: ['kv', 'node'] },
    });
    const directives = [{ prefix: '', weights }];
    expect((await ask('GET /traffic')).body).toEqual({
      services: [
        { name: 'kv', directives },
        { name: 'node', directives },
      ],
    });
    expect((await ask('POST /traffic/unset', { prefix: '', service: 'node' })).status).toBe(200);
    expect((await ask('GET /traffic')).body).toEqual({
      services: [
        { name: 'kv', directives },
        { name: 'node', directives: [] },
      ],
    });
    expect((await ask('POST /traffic/unset', { prefix: '' })).status).toBe(200);
    expect((await ask('GET /traffic')).body).toEqual(NO_DIRECTIVES);
    // What is not there is as good as gone.
    expect((await ask('POST /traffic/unset', { prefix: 'x' })).status).toBe(200);
  });

  it.each([
    undefined,
    {},
    { prefix: 1, weights: { a: 1 } },
    { prefix: 'x'.repeat(241), weights: { a: 1 } },
    { prefix: 'x', weights: {} },
    { prefix: 'x', weights: { a: 11 } },
    { prefix: 'x', weights: { A: 1 } },
    { prefix: 'x', weights: [1] },
    { prefix: 'x', weights: { a: 1 }, service: 1 },
  ])('refuses %j', async body => {
    expect(await ask('POST /traffic/set', body)).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining('the body has to be') },
    });
    expect((await ask('GET /traffic')).body).toEqual(NO_DIRECTIVES);
  });

  it('of a service that nobody knows here is refused by what is known', async () => {
    expect(await ask('POST /traffic/unset', { prefix: 'x', service: 'y\n' })).toMatchObject({
      status: 404,
      body: { error: 'the asked node neither serves nor calls y?; it knows kv, node' },
    });
  });

  it('has a bound', async () => {
    for (let at = 0; at < DIRECTIVES_MAX; at++) cluster.changeTraffic('node', `t${at}`, { a: 1 });
    expect(await ask('POST /traffic/set', { prefix: 'more', weights: { a: 1 } })).toMatchObject({
      status: 409,
      body: { error: `node cannot take more than ${DIRECTIVES_MAX} directives` },
    });
    // One that is there may change.
    expect((await ask('POST /traffic/set', { prefix: 't1', weights: { a: 2 } })).status).toBe(200);
    for (let at = 0; at < DIRECTIVES_MAX; at++) cluster.changeTraffic('node', `t${at}`, undefined);
  });
});

describe('a node in no cluster', () => {
  it('says so on each path', async () => {
    const none = serviceRoutes(undefined);
    expect([...none.keys()]).toEqual([...routes.keys()]);
    for (const route of none.values())
      expect(await route(undefined)).toMatchObject({
        status: 409,
        body: { error: expect.stringContaining('no cluster') },
      });
  });

  it('after leaving changes nothing', async () => {
    await cluster.leave();
    expect(await ask('POST /traffic/set', { prefix: 'x', weights: { a: 1 } })).toMatchObject({ status: 409 });
    expect((await ask('GET /services')).body).toMatchObject({ standing: 'left', services: [] });
  });
});
