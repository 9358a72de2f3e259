import { describe, expect, it } from 'vitest';
import type { BidiWriter, MessageWriter } from '../../src/rpc/handler.js';
import { UNACKNOWLEDGED_MAX } from '../../src/rpc/served-stream.js';
import { bank, handlers } from './bank.js';
import { type Node, World } from './world.js';

interface Watching {
  readonly writers: MessageWriter<number>[];
  acknowledged: number;
  rooms: number;
  closed: number;
}

function serveWatch(node: Node, id: string, groups: readonly string[] = []): Watching {
  const watching: Watching = { writers: [], acknowledged: 0, rooms: 0, closed: 0 };
  const handler = (_request: string, writer: MessageWriter<number>) => {
    watching.writers.push(writer);
    return {
      acknowledged: (count: number) => void (watching.acknowledged += count),
      room: () => void watching.rooms++,
      closed: () => void watching.closed++,
    };
  };
  node.rpc.serve(bank, handlers({ watch: handler }), { id, groups });
  return watching;
}

describe.each(['own process', 'other node'])('a message stream from the %s', where => {
  const setUp = (seed: number) => {
    const world = new World(seed);
    const caller = world.addNode();
    const callee = where === 'own process' ? caller : world.addNode();
    const watching = serveWatch(callee, 's1');
    world.run(100);
    const got: number[] = [];
    const ends: string[] = [];
    const stream = caller.rpc.client(bank).watch.open(
      'k',
      {},
      {
        message: value => got.push(value),
        ended: () => ends.push('ended'),
        failed: ({ kind }) => ends.push(kind),
      },
    );
    world.run(50);
    return { world, watching, got, ends, stream };
  };

  it('delivers in order and tells the server what was acknowledged', () => {
    const { world, watching, got, ends, stream } = setUp(1);
    const writer = watching.writers[0]!;
    for (let i = 0; i < 5; i++) writer.send(i);
    world.run(50);
    expect([got, writer.unacknowledged]).toEqual([[0, 1, 2, 3, 4], 5]);
    for (let i = 0; i < 3; i++) stream.acknowledge();
    world.run(50);
    expect([watching.acknowledged, writer.unacknowledged]).toEqual([3, 2]);
    writer.end();
    world.run(50);
    expect([ends, watching.closed]).toEqual([['ended'], 1]);
  });

  it('takes no more than may be unacknowledged', () => {
    const { world, watching, got, stream } = setUp(2);
    const writer = watching.writers[0]!;
    let next = 0;
    const fill = () => {
      while (writer.send(next)) next++;
    };
    fill();
    for (let left = 1_000; left > 0 && next < UNACKNOWLEDGED_MAX; left--) {
      world.run(5);
      fill();
    }
    expect(next).toBe(UNACKNOWLEDGED_MAX);
    world.run(100);
    expect(got).toHaveLength(UNACKNOWLEDGED_MAX);
    const { rooms } = watching;
    for (let i = 0; i < UNACKNOWLEDGED_MAX; i++) stream.acknowledge();
    world.run(100);
    expect([watching.rooms > rooms, writer.send(next)]).toEqual([true, true]);
  });

  it('ends on both sides when it is closed', () => {
    const { world, watching, got, ends, stream } = setUp(3);
    stream.close();
    watching.writers[0]!.send(1);
    world.run(50);
    expect([got, ends, watching.closed]).toEqual([[], [], 1]);
  });
});

it('a message stream moves when its server goes, and says so', () => {
  const world = new World(4);
  const nodes = [world.addNode(), world.addNode(), world.addNode()];
  const watchings = new Map([
    ['s1', serveWatch(nodes[1]!, 's1')],
    ['s2', serveWatch(nodes[2]!, 's2')],
  ]);
  world.run(100);
  const events: string[] = [];
  const stream = nodes[0]!.rpc.client(bank).watch.open(
    'k',
    {},
    {
      message: value => events.push(`message ${value}`),
      retarget: server => events.push(`retarget ${server}`),
      broken: ({ kind }) => events.push(`broken ${kind}`),
      ended: () => events.push('ended'),
      failed: ({ kind }) => events.push(`failed ${kind}`),
    },
  );
  world.run(50);
  const first = stream.target!;
  const second = first === 's1' ? 's2' : 's1';
  watchings.get(first)!.writers[0]!.send(1);
  world.run(50);
  world.kill(first === 's1' ? nodes[1]! : nodes[2]!);
  world.run(500);
  stream.acknowledge();
  watchings.get(second)!.writers[0]!.send(2);
  world.run(50);
  stream.acknowledge();
  world.run(50);
  expect(events).toEqual(['message 1', 'broken unknown-outcome', `retarget ${second}`, 'message 2']);
  expect(watchings.get(second)!.acknowledged).toBe(1);
});

it('a message stream moves with the rules of its tenant, back as well, and not with those of others', () => {
  const world = new World(14);
  const nodes = [world.addNode(), world.addNode(), world.addNode()];
  const plain = serveWatch(nodes[1]!, 's1');
  const red = serveWatch(nodes[2]!, 's2', ['red']);
  world.run(100);
  const events: string[] = [];
  const sink = {
    message: (value: number) => void events.push(`message ${value}`),
    retarget: (server: string) => void events.push(`retarget ${server}`),
    ended: () => void events.push('ended'),
    failed: ({ kind }: { kind: string }) => void events.push(`failed ${kind}`),
  };
  const stream = nodes[0]!.rpc.client(bank).watch.open('k', { tenant: 'acme' }, sink);
  world.run(50);
  const view = nodes[1]!.rpc.view('bank');
  view.setTraffic('other', { red: 1 });
  world.run(100);
  expect([stream.target, events]).toEqual(['s1', []]);
  view.setTraffic('ac', { red: 1 });
  world.run(100);
  red.writers[0]!.send(1);
  world.run(50);
  expect([stream.target, plain.closed]).toEqual(['s2', 1]);
  view.unsetTraffic('ac');
  world.run(100);
  plain.writers[1]!.send(2);
  world.run(50);
  expect(events).toEqual(['retarget s2', 'message 1', 'retarget s1', 'message 2']);
});

describe.each(['own process', 'other node'])('a stream both ways with the %s', where => {
  const setUp = (seed: number, isEcho = true) => {
    const world = new World(seed);
    const caller = world.addNode();
    const callee = where === 'own process' ? caller : world.addNode();
    const writers: BidiWriter<number>[] = [];
    const heard: string[] = [];
    const handler = (writer: BidiWriter<number>) => {
      writers.push(writer);
      return {
        message: (value: number) => {
          heard.push(`message ${value}`);
          if (isEcho) writer.send(value * 2);
        },
        ended: () => {
          heard.push('ended');
          writer.end();
        },
        draining: () => void heard.push('draining'),
        closed: () => void heard.push('closed'),
      };
    };
    const server = callee.rpc.serve(bank, handlers({ talk: handler }), { id: 's1' });
    world.run(100);
    const got: number[] = [];
    const events: string[] = [];
    const stream = caller.rpc.client(bank).talk.open(
      {},
      {
        message: value => got.push(value),
        room: () => events.push('room'),
        ended: () => events.push('ended'),
        failed: ({ kind }) => events.push(kind),
      },
    );
    return { world, server, writers, heard, got, events, stream, callee };
  };

  it('carries both and ends when both have ended', () => {
    const { world, heard, got, events, stream } = setUp(5);
    stream.send(1);
    stream.send(2);
    stream.end();
    world.run(100);
    expect([heard, got, events]).toEqual([['message 1', 'message 2', 'ended', 'closed'], [2, 4], ['ended']]);
  });

  it('tells a writer that the other side does not read', () => {
    const { world, writers, heard, events, stream } = setUp(6);
    world.run(50);
    writers[0]!.pause();
    let sent = 0;
    while (stream.send(sent++)) world.run(1);
    expect(sent).toBeLessThan(100);
    world.run(50);
    expect(heard.length).toBeLessThan(sent);
    expect(events).toEqual([]);
    writers[0]!.resume();
    world.run(100);
    expect([heard.length, events]).toEqual([sent, ['room']]);
  });

  it('holds back what a paused caller does not read', () => {
    const { world, writers, got, stream } = setUp(7);
    world.run(50);
    stream.pause();
    let sent = 0;
    while (writers[0]!.send(sent++) && sent < 1_000) world.run(1);
    expect(sent).toBeLessThan(100);
    expect(got.length).toBeLessThan(3);
    stream.resume();
    world.run(100);
    expect(got).toHaveLength(sent);
  });

  it('is waited for by a server that drains', () => {
    const { world, server, heard, events, stream } = setUp(8);
    world.run(50);
    const ends: boolean[] = [];
    server.drain({ graceMs: 10, timeoutMs: 5_000 }, isFinished => ends.push(isFinished));
    world.run(1_000);
    expect([heard, ends]).toEqual([['draining'], []]);
    stream.end();
    world.run(100);
    expect([events, ends]).toEqual([['ended'], [true]]);
  });

  it('ends with its server', () => {
    const { world, server, events } = setUp(9);
    world.run(50);
    server.close();
    world.run(100);
    expect(events).toEqual(['unknown-outcome']);
  });
});

it('a message stream moves away from a server that drains, and stays when there is no other', () => {
  const world = new World(10);
  const nodes = [world.addNode(), world.addNode(), world.addNode()];
  const closed: string[] = [];
  const serve = (at: number, id: string) =>
    nodes[at]!.rpc.serve(bank, handlers({ watch: () => ({ closed: () => void closed.push(id) }) }), { id });
  const first = serve(1, 's1');
  world.run(50);
  const events: string[] = [];
  nodes[0]!.rpc.client(bank).watch.open(
    'k',
    {},
    {
      message: () => {},
      retarget: server => events.push(`retarget ${server}`),
      broken: ({ kind }) => events.push(`broken ${kind}`),
      ended: () => events.push('ended'),
      failed: ({ kind }) => events.push(`failed ${kind}`),
    },
  );
  world.run(50);
  first.drain({ graceMs: 1_000, timeoutMs: 2_000 }, () => {});
  world.run(200);
  expect([events, closed]).toEqual([[], []]);
  serve(2, 's2');
  world.run(200);
  expect([events, closed]).toEqual([['retarget s2'], ['s1']]);
});

it('a message stream that is refused for good ends', () => {
  const world = new World(11);
  const [caller, callee] = [world.addNode(), world.addNode()];
  callee.rpc.serve(bank, handlers({}), { id: 's1' });
  world.run(50);
  const events: string[] = [];
  caller.rpc.client(bank).watch.open(
    'k'.repeat(5_000_000),
    {},
    {
      message: () => {},
      ended: () => events.push('ended'),
      failed: ({ kind }) => events.push(kind),
    },
  );
  world.run(50);
  expect([events, caller.rpc.entries().agenda]).toEqual([['aborted'], 0]);
});
