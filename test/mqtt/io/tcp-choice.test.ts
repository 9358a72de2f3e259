import { afterEach, expect, it, vi } from 'vitest';
import { ReceiveMemory } from '../../../src/mqtt/receive-memory.js';
import type { Listener } from '../../../src/mqtt/transport.js';
import { connectBytes } from './byte-client.js';
import { tcpOptions } from './options.js';

type Binding = (name: string) => Record<string, unknown>;
const host = process as unknown as { binding: Binding };
const original = host.binding;
let listener: Listener | undefined;

afterEach(async () => {
  host.binding = original;
  vi.resetModules();
  await listener?.destroy();
  listener = undefined;
});

/** Opens an echo by `listenTcp` as a new thread would, and returns what it was built on. */
async function implementationOf(binding: Binding | undefined): Promise<string> {
  host.binding = binding as Binding;
  vi.resetModules();
  const { listenTcp } = await import('../../../src/mqtt/io/tcp.js');
  listener = await listenTcp(tcpOptions(), peer => ({
    memory: new ReceiveMemory(),
    onData: (bytes, start, end) => peer.write(bytes.subarray(start, end)),
    onGathering: () => {},
    onDrain: () => {},
    onClose: () => {},
  }));
  const client = await connectBytes({ port: listener.port });
  client.send(Buffer.from('hello'));
  await client.untilReceived(5);
  client.socket.destroy();
  return listener.constructor.name;
}

it('takes the handle where it works, without a warning', async () => {
  const warnings: unknown[] = [];
  const heard = (warning: unknown) => warnings.push(warning);
  process.on('warning', heard);
  expect(await implementationOf(original)).toBe('HandleListener');
  process.off('warning', heard);
  expect(warnings).toEqual([]);
});

it('falls back to node:net when the bindings are refused', async () => {
  const refuse: Binding = () => {
    throw new Error('ERR_ACCESS_DENIED');
  };
  expect(await implementationOf(refuse)).toBe('NetListener');
});

it('falls back to node:net when there are no bindings', async () => {
  expect(await implementationOf(undefined)).toBe('NetListener');
});

it('falls back to node:net when a binding has lost a part', async () => {
  const parts = ['WriteWrap', 'streamBaseState', 'kLastWriteWasAsync', 'constants'];
  for (const part of parts) {
    const without: Binding = name => {
      const { [part]: _, ...rest } = original.call(process, name);
      return rest;
    };
    expect(await implementationOf(without), part).toBe('NetListener');
    await listener?.destroy();
  }
});

it('falls back to node:net when the handle is there but does not do its work', async () => {
  const broken: Binding = name => {
    const binding = { ...original.call(process, name) };
    // Reads then report nothing, so the probe gets no echo.
    if (name === 'stream_wrap') binding.streamBaseState = new Int32Array(16);
    return binding;
  };
  expect(await implementationOf(broken)).toBe('NetListener');
});
