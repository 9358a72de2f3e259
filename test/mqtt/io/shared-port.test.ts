import { once } from 'node:events';
import { closeSync, fstatSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { openSharedPort, type SharedPort } from '../../../src/mqtt/io/shared-port.js';
import { pause, until } from '../../contract/transport.contract.js';
import { type ByteClient, connectBytes } from './byte-client.js';
import { tcpOptions } from './options.js';

const WORKER = new URL('./port-worker.mjs', import.meta.url);
let shared: SharedPort | undefined;
const workers: Worker[] = [];
const clients: ByteClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await Promise.all(workers.splice(0).map(worker => worker.terminate()));
  await shared?.close();
  shared = undefined;
});

async function start(name: string, implementation: 'handle' | 'net'): Promise<Worker> {
  const fd = await shared!.descriptor();
  const { places: _, ...options } = tcpOptions();
  const worker = new Worker(WORKER, { workerData: { fd, name, options, implementation } });
  workers.push(worker);
  const [{ port }] = await once(worker, 'message');
  expect(port).toBe(shared!.port);
  return worker;
}

/** Connects and returns which thread answered. */
async function greet(): Promise<string> {
  const client = await connectBytes({ port: shared!.port });
  clients.push(client);
  await client.untilReceived(1);
  return client.received.toString();
}

describe('a shared port', () => {
  it('gives descriptors of its own to each', async () => {
    shared = (await openSharedPort('tcp', '127.0.0.1', 0))!;
    const fds = [await shared.descriptor(), await shared.descriptor(), await shared.descriptor()];
    expect(new Set(fds).size).toBe(3);
    expect(new Set(fds.map(fd => fstatSync(fd).ino)).size).toBe(1);
    for (const fd of fds) closeSync(fd);
  });

  it('refuses a port that somebody listens on, by name', async () => {
    shared = (await openSharedPort('tcp', '127.0.0.1', 0))!;
    await start('a', 'handle');
    await expect(openSharedPort('tcp', '127.0.0.1', shared.port)).rejects.toMatchObject({
      code: 'SHOAL_LISTEN_IN_USE',
    });
  });

  for (const implementation of ['handle', 'net'] as const) {
    it(`outlives the threads that accept on it (${implementation})`, async () => {
      shared = (await openSharedPort('tcp', '127.0.0.1', 0))!;
      const a = await start('a', implementation);
      await start('b', implementation);
      const seen = new Set<string>();
      for (let i = 0; i < 200 && seen.size < 2; i++) seen.add(await greet());
      expect([...seen].every(name => name === 'a' || name === 'b')).toBe(true);

      a.postMessage('die');
      await once(a, 'exit');
      for (let i = 0; i < 20; i++) expect(await greet()).toBe('b');

      const b = workers[1]!;
      await b.terminate();
      // Nobody accepts, but the port is still there: the client waits for the next thread.
      const waiting = greet();
      await pause(30);
      await start('c', implementation);
      expect(await waiting).toBe('c');
    });
  }

  it('is gone when all have closed it', async () => {
    shared = (await openSharedPort('tcp', '127.0.0.1', 0))!;
    const { port } = shared;
    const a = await start('a', 'handle');
    await shared.close();
    const client = await connectBytes({ port });
    clients.push(client);
    await client.untilReceived(1);
    a.postMessage('close');
    await once(a, 'exit');
    await expect(connectBytes({ port })).rejects.toThrow();
    await until(() => client.socket.destroyed || client.ended, 'the client to go');
  });
});
