import { describe, expect, it } from 'vitest';
import type { RpcResult } from '../../src/rpc/failure.js';
import type { Reply } from '../../src/rpc/handler.js';
import type { RpcEndpoint } from '../../src/rpc/transport.js';
import { BYTES } from '../../src/rpc/wire.js';
import { bank, handlers, kinds } from './bank.js';
import { World } from './world.js';

/** How long the server takes: for each request by itself, or for one after the other. */
interface Pace {
  eachMs: number;
  inTurnMs: number;
}

/** A caller with one pipeline, a server of that pace, and how many requests each frame had. */
function setUp(seed: number, pace: Pace) {
  const world = new World(seed);
  const [caller, callee] = [world.addNode(), world.addNode()];
  const frames: number[] = [];
  const endpoint = callee.rpc.endpoint as { stream: RpcEndpoint['stream'] };
  const stream = endpoint.stream.bind(endpoint);
  endpoint.stream = (method, context, sink) => {
    const call = stream(method, context, sink);
    const write = call.write.bind(call);
    call.write = frame => {
      frames.push((BYTES.unpackRequests(frame, 1e6) as unknown[]).length);
      return write(frame);
    };
    return call;
  };
  let busyUntilMs = 0;
  const request = ({ value }: { value: number }, reply: Reply<number>) => {
    busyUntilMs = Math.max(busyUntilMs, world.nowMs) + pace.inTurnMs;
    world.after(busyUntilMs + pace.eachMs - world.nowMs, () => reply.done(value));
  };
  callee.rpc.serve(bank, handlers({ put: () => ({ request }) }), { id: 's1' });
  const client = caller.rpc.client(bank);
  world.run(100);
  return { world, frames, client };
}

describe('requests of one pipeline', () => {
  it('leave at once while less than two frames are under way, and then together', () => {
    const { world, frames, client } = setUp(1, { eachMs: 50, inTurnMs: 0 });
    const pipeline = client.put.open({ key: 'k' });
    const send = () => pipeline.send({ key: 'k', value: 1 }, () => {});
    for (const count of [3, 1, 1, 1, 1, 1]) {
      for (let i = 0; i < count; i++) send();
      world.run(5);
    }
    expect(frames).toEqual([3, 1]);
    world.run(50);
    expect(frames).toEqual([3, 1, 4]);
  });

  it('leave in frames as large as the server answers in time, which grow and shrink with its pace', () => {
    const pace = { eachMs: 0, inTurnMs: 0.1 };
    const { world, frames, client } = setUp(2, pace);
    const pipeline = client.put.open({ key: 'k', depthMax: 4_096 });
    const answers: RpcResult<number>[] = [];
    const saturate = (forMs: number) => {
      frames.length = 0;
      for (let ms = 0; ms < forMs; ms += 5) {
        while (pipeline.depth < 4_000) pipeline.send({ key: 'k', value: 1 }, result => answers.push(result));
        world.run(5);
      }
      expect(new Set(kinds(answers))).toEqual(new Set(['ok']));
      const late = frames.slice(frames.length >> 1);
      return late.reduce((sum, count) => sum + count, 0) / late.length;
    };
    // 20 ms are the target, which two frames share.
    expect(saturate(2_000)).toBeGreaterThan(60);
    expect(saturate(1_000)).toBeLessThan(300);
    pace.inTurnMs = 1;
    expect(saturate(3_000)).toBeLessThan(50);
    pace.inTurnMs = 0.005;
    expect(saturate(1_000)).toBeGreaterThan(300);
  });

  it('are not held back by answers that take long, but no longer for many', () => {
    const { world, client } = setUp(3, { eachMs: 100, inTurnMs: 0 });
    const pipeline = client.put.open({ key: 'k', depthMax: 4_096 });
    const answers: RpcResult<number>[] = [];
    for (let value = 0; value < 4_000; value++)
      pipeline.send({ key: 'k', value }, result => answers.push(result));
    world.run(2_000);
    expect(answers).toEqual(Array.from({ length: 4_000 }, (_, value) => ({ kind: 'ok', value })));
  });

  it('are never refused for answers that take long, also not while the frames still grow', () => {
    const { world, client } = setUp(5, { eachMs: 300, inTurnMs: 0 });
    const pipeline = client.put.open({ key: 'k', depthMax: 4_096 });
    const answers: RpcResult<number>[] = [];
    for (let ms = 0; ms < 8_000; ms += 10) {
      for (let i = 0; i < 4_096 && pipeline.depth < 4_000; i++)
        pipeline.send({ key: 'k', value: 1 }, result => answers.push(result));
      world.run(10);
    }
    expect(new Set(kinds(answers))).toEqual(new Set(['ok']));
    expect(answers.length).toBeGreaterThan(30_000);
  });

  it('are refused at once when they would not be answered in time, and what is taken is', () => {
    const pace = { eachMs: 0, inTurnMs: 50 };
    const { world, client } = setUp(4, pace);
    const pipeline = client.put.open({ key: 'k', deadlineMs: 4_000 });
    const offer = (forMs: number) => {
      const refused: RpcResult<number>[] = [];
      const later: RpcResult<number>[] = [];
      for (let ms = 0; ms < forMs; ms += 10) {
        for (let i = 0; i < 5; i++) {
          let isNow = true;
          pipeline.send({ key: 'k', value: 1 }, result => (isNow ? refused : later).push(result));
          isNow = false;
        }
        world.run(10);
      }
      return { refused: kinds(refused), later: kinds(later) };
    };
    // Nothing is known of the server yet: the depth bounds what it is given.
    offer(60_000);
    const { refused, later } = offer(30_000);
    world.run(5_000);
    expect(new Set(refused)).toEqual(new Set(['throttled']));
    expect(new Set(later)).toEqual(new Set(['ok']));
    // It is given what it can do: twenty a second.
    expect(later.length).toBeGreaterThan(450);
    // It has become faster: that is found out.
    pace.inTurnMs = 0.1;
    offer(10_000);
    expect(offer(1_000).refused).toEqual([]);
  });
});
