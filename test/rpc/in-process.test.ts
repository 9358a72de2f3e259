import { describe, expect, it } from 'vitest';
import { Agenda } from '../../src/rpc/agenda.js';
import type { RpcEndpoint } from '../../src/rpc/transport.js';
import { InProcessTransport } from './one-process.js';
import { transportContract } from './transport-contract.js';
import { CONTEXT, Hearing } from './transport-ends.js';

const clock = { monotonicMs: () => performance.now(), wallMs: () => 0 };

function agenda(): Agenda {
  return new Agenda(clock, { soon: queueMicrotask, wake: () => {} });
}

transportContract('in process', () => ({
  messageBytesMax: Number.POSITIVE_INFINITY,
  connect: async (endpoint: RpcEndpoint) =>
    new InProcessTransport(new Map([['here', endpoint]]), agenda()).open('here'),
  close: async () => {},
}));

describe('in process', () => {
  it('nobody answers where there is nobody', async () => {
    const channel = new InProcessTransport(new Map(), agenda()).open('elsewhere');
    const kinds: string[] = [];
    const sink = { done: () => kinds.push('done'), failed: ({ kind }: { kind: string }) => kinds.push(kind) };
    channel.unary('a/b', Buffer.alloc(0), CONTEXT, sink);
    const hearing = new Hearing();
    channel.stream('a/b', CONTEXT, hearing);
    expect(kinds).toEqual([]);
    expect(await hearing.over).toMatchObject({ kind: 'unavailable' });
    expect(kinds).toEqual(['unavailable']);
  });
});
