import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RpcFailure, RpcResult } from '../../src/rpc/failure.js';
import type { RpcEndpoint, StreamSink } from '../../src/rpc/transport.js';
import { BYTES, MALFORMED } from '../../src/rpc/wire.js';
import { bank, handlers } from './bank.js';
import { World } from './world.js';

const CONTEXT = { deadlineMs: 1_000, tenant: '', server: 's1' };

function serving() {
  const world = new World(1);
  const node = world.addNode();
  const seen: unknown[] = [];
  const pipeline = () => ({
    request: (request: unknown, reply: { done(value: number): void }) => {
      seen.push(request);
      reply.done(1);
    },
  });
  const all = handlers({
    get: (_request, reply) => reply.done(1),
    pay: (_request, reply) => reply.done(null),
    put: pipeline,
    log: pipeline,
    watch: (_request, writer) => {
      writer.send(1);
      return {};
    },
    talk: writer => ({ message: value => void writer.send(value) }),
    blob: writer => ({ message: value => void writer.send(value) }),
  });
  node.rpc.serve(bank, all, { id: 's1' });
  return { world, node, seen };
}

/** Bytes at random, and frames that are nearly right. */
const body = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc
    .tuple(fc.array(fc.uint8Array({ maxLength: 12 }), { maxLength: 5 }), fc.nat(), fc.nat(255), fc.nat(3))
    .map(([bodies, at, value, cut]) => {
      const frame = Uint8Array.from(BYTES.packRequests(bodies) as Uint8Array);
      if (frame.length > 0) frame[at % frame.length] = value;
      return frame.subarray(0, Math.max(0, frame.length - cut));
    }),
);

const methods = ['get', 'pay', 'put', 'log', 'watch', 'talk', 'blob', 'none', '__proto__'];

describe('whatever comes in', () => {
  it('a stream goes on or ends once, and the server serves on', () => {
    const { world, node } = serving();
    fc.assert(
      fc.property(fc.constantFrom(...methods), fc.array(body, { maxLength: 8 }), (method, bodies) => {
        let ends = 0;
        const sink: StreamSink<unknown> = {
          message: () => expect(ends).toBe(0),
          room: () => expect(ends).toBe(0),
          ended: () => ends++,
          failed: () => ends++,
        };
        const stream = (node.rpc.endpoint as RpcEndpoint<unknown>).stream(`bank/${method}`, CONTEXT, sink);
        for (const each of bodies) stream.write(each);
        stream.end();
        world.run(1);
        stream.cancel();
        world.run(1);
        expect(ends).toBeLessThanOrEqual(1);
      }),
      { numRuns: 500 },
    );
    const answers: unknown[] = [];
    node.rpc.endpoint.unary('bank/get', Buffer.from('"x"'), CONTEXT, {
      done: answer => answers.push(String(answer)),
      failed: failure => answers.push(failure),
    });
    expect(answers).toEqual(['1']);
    // Nothing of all that is left: a drain has nobody to wait for.
    expect(node.rpc.entries().agenda).toBe(0);
  });

  it('a unary call is answered', () => {
    const { world, node } = serving();
    fc.assert(
      fc.property(fc.constantFrom(...methods), body, (method, bytes) => {
        const ends: string[] = [];
        node.rpc.endpoint.unary(`bank/${method}`, bytes, CONTEXT, {
          done: () => ends.push('done'),
          failed: ({ kind }) => ends.push(kind),
        });
        world.run(1);
        expect(ends).toHaveLength(1);
      }),
    );
  });

  it('a frame of very many requests is refused as a whole', () => {
    const { world, node, seen } = serving();
    const failures: RpcFailure[] = [];
    const sink = {
      message: () => {},
      room: () => {},
      ended: () => {},
      failed: (f: RpcFailure) => failures.push(f),
    };
    const stream = node.rpc.endpoint.stream('bank/put', CONTEXT, sink);
    stream.write(Buffer.alloc(4 * 1_000_000));
    world.run(1);
    expect([seen.length, failures.map(({ kind }) => kind)]).toEqual([0, ['unknown-outcome']]);
  });

  it('frames come out as they went in', () => {
    const bodies = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 50 });
    fc.assert(
      fc.property(bodies, all => {
        const read = BYTES.unpackRequests(BYTES.packRequests(all), 50) as Uint8Array[];
        expect(read.map(each => [...each])).toEqual(all.map(each => [...each]));
        expect(
          BYTES.unpackRequests(BYTES.packRequests([...all, ...all, new Uint8Array(1)]), 2 * all.length),
        ).toBe(MALFORMED);
      }),
    );
    const answers = [
      { status: 0, body: Buffer.from('value') },
      { status: 3, body: 'the detail, ä' },
      { status: 255, body: '' },
    ];
    expect(BYTES.unpackAnswers(BYTES.packAnswers(answers), 3)).toEqual(answers);
  });
});

describe('a server that lies', () => {
  const garbage = [
    ['no frame', Buffer.from([1, 2, 3])],
    [
      'answers to more than was asked',
      BYTES.packAnswers([1, 2, 3].map(() => ({ status: 0, body: Buffer.from('1') }))),
    ],
    ['an answer of another type', BYTES.packAnswers([{ status: 0, body: Buffer.from('"x"') }])],
    ['a failure that does not exist', BYTES.packAnswers([{ status: 99, body: '' }])],
  ] as const;

  it.each(garbage)('with %s cannot harm a pipeline', (_what, frame) => {
    const world = new World(2);
    const [caller, liar] = [world.addNode(), world.addNode()];
    liar.rpc.serve(bank, handlers({}), { id: 's1' });
    const client = caller.rpc.client(bank);
    world.run(100);
    const endpoint = liar.rpc.endpoint as { stream: RpcEndpoint['stream'] };
    endpoint.stream = (_method, _context, sink) => ({
      write: () => {
        sink.message(frame as Uint8Array);
        return true;
      },
      pause: () => {},
      resume: () => {},
      end: () => {},
      cancel: () => {},
    });
    const results: RpcResult<number>[] = [];
    const pipeline = client.put.open({ key: 'k', deadlineMs: 500 });
    pipeline.send({ key: 'k', value: 1 }, result => results.push(result));
    world.run(1_000);
    expect(results.map(({ kind }) => kind)).toEqual(['unknown-outcome']);
  });
});
