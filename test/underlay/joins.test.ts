import { describe, expect, it } from 'vitest';
import { meshNeighbours } from '../../src/crdt/mesh.js';
import { environmentHash } from '../../src/underlay/environment.js';
import type { GoneReason, Message } from '../../src/underlay/message.js';
import { Desk, record } from './desk.js';

const B = record('b').id;

const join = (name: string, changes: Partial<Extract<Message, { kind: 'join' }>> = {}): Message => ({
  kind: 'join',
  record: record(name),
  expected: 0,
  reply: true,
  environment: 'test',
  ...changes,
});
const gone = (reason: GoneReason): Message => ({ kind: 'gone', id: B, incarnation: 0, reason, by: 3 });
const seeds = (desk: Desk, ...addresses: readonly string[]) => {
  desk.machine.setSeeds(addresses);
  desk.run(0);
};

describe('joins', () => {
  it('are answered with a join, and with a few hosts to begin with', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('d', join('d'));
    expect(desk.takeEvents()).toEqual(['joined d@0']);
    const said = desk.take();
    expect(said).toContain('d -> join a@0 to d');
    expect(said).toEqual(expect.arrayContaining(['d -> alive b@0', 'd -> alive c@0']));
    desk.hear('d', join('d', { reply: false, expected: 1 }));
    expect(desk.take().filter(line => line.includes('join'))).toEqual([]);
  });

  it('make both compare their maps at once, neighbours in the mesh or not', () => {
    const desk = new Desk().know('b');
    const others = Array.from({ length: 100 }, (_, at) =>
      record('c', { id: 1_000 + at, name: `x${at}`, address: `x${at}:1` }),
    );
    for (const other of others) desk.hear('b', { kind: 'alive', record: other });
    const neighbours = meshNeighbours([1, B, ...others.map(({ id }) => id)], 1);
    const stranger = others.find(({ id }) => !neighbours.includes(id))!;
    const renewed = { ...stranger, incarnation: 1 };
    desk.run(60_000);
    expect(desk.compared.has(stranger.address)).toBe(false);
    desk
      .packet(renewed, [{ ...(join('c') as Extract<Message, { kind: 'join' }>), record: renewed }])
      .run(1_000);
    expect(desk.compared.has(stranger.address)).toBe(true);
  });

  it('by stream are answered by stream, to the advertised address', () => {
    const desk = new Desk();
    desk.packet(record('d'), [join('d')], 'stream', 'test', 'd:51234');
    expect(desk.take()).toContain('d => join a@0 to d');
  });

  it('that look for somebody else hear that another one lives here, and are taken in', () => {
    const desk = new Desk();
    desk.hear('d', join('d', { expected: B }));
    expect(desk.take()).toEqual(expect.arrayContaining(['d -> mistaken b', 'd -> join a@0 to d']));
    expect(desk.takeEvents()).toEqual(['joined d@0']);
  });

  it('of a host that is held as gone bring a notice until it comes with a higher incarnation', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('c', gone('failed')).take();
    desk.takeEvents();
    desk.hear('b', join('b', { expected: 1 }));
    expect(desk.take()).toEqual(expect.arrayContaining(['b -> notice b@0 failed', 'b -> join a@0 to b']));
    expect(desk.takeEvents()).toEqual([]);
    desk.hear('b', join('b', { record: record('b', { incarnation: 1 }) }));
    expect(desk.takeEvents()).toEqual(['joined b@1']);
  });
});

describe('a notice', () => {
  it('makes this host renew itself and show that', () => {
    const desk = new Desk().know('b');
    desk.hear('b', { kind: 'notice', id: 1, incarnation: 0, reason: 'failed' });
    expect(desk.take()).toContain('b -> join a@1 to b, reply');
    desk.hear('b', { kind: 'notice', id: 1, incarnation: 0, reason: 'failed' });
    expect(desk.machine.self.incarnation).toBe(1);
    expect(desk.machine.counters.refutations).toBe(1);
  });

  it('about others is ignored', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('c', { kind: 'notice', id: B, incarnation: 0, reason: 'evicted' });
    expect(desk.view()).toBe('b@0 c@0');
    expect(desk.machine.self.incarnation).toBe(0);
  });
});

describe('seeds', () => {
  it('are asked at once, and for ever, with growing pauses, by both paths', () => {
    const desk = new Desk();
    seeds(desk, 's:4800', 'a:4800');
    expect(desk.take()).toEqual(['s -> join a@0 to anybody, reply']);
    desk.run(60_000);
    const inFirstMinute = desk.take();
    expect(inFirstMinute.length).toBeGreaterThan(4);
    expect(inFirstMinute.length).toBeLessThan(9);
    expect(inFirstMinute).toContain('s => join a@0 to anybody, reply');
    desk.run(24 * 3_600_000).take();
    desk.run(60_000);
    expect(desk.take().length).toBeGreaterThanOrEqual(1);
    expect(desk.machine.seedStates()).toMatchObject([{ address: 's:4800', answeredMs: 0 }]);
  });

  it('are left in peace while they are in the view, also under another name, and asked again when they are not', () => {
    const desk = new Desk();
    seeds(desk, '10.0.0.7:4800');
    desk.take();
    desk.packet(record('b'), [join('b', { reply: false, expected: 1 })], 'datagram', 'test', '10.0.0.7:4800');
    expect(desk.machine.seedStates()[0]!.answeredMs).toBeGreaterThan(0);
    for (let seconds = 0; seconds < 60; seconds++) {
      desk.run(1_000);
      desk.hear('b', { kind: 'ack', sequence: desk.sequence, target: B });
    }
    expect(desk.take().filter(line => line.includes('join'))).toEqual([]);
    desk.hear('b', gone('left')).run(2_000);
    expect(desk.take()).toContain('10.0.0.7 -> join a@0 to anybody, reply');
  });

  it('that turn out to be this host itself are left in peace', () => {
    const desk = new Desk();
    seeds(desk, 'localhost:4800');
    expect(desk.take()).toEqual(['localhost -> join a@0 to anybody, reply']);
    const own: Message = { ...join('a'), kind: 'join', record: desk.machine.self } as Message;
    desk.packet(desk.machine.self, [own], 'datagram', 'test', 'localhost:4800');
    desk.run(600_000);
    expect(desk.take()).toEqual([]);
  });

  it('may change at run time', () => {
    const desk = new Desk();
    seeds(desk, 's:4800');
    desk.take();
    seeds(desk, 't:4800');
    expect(desk.take()).toEqual(['t -> join a@0 to anybody, reply']);
    desk.run(120_000);
    expect(desk.take().filter(line => line.startsWith('s '))).toEqual([]);
  });
});

describe('healing', () => {
  it('looks for a lost host for ever, by directed joins', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('c', gone('failed')).take();
    desk.run(10_000);
    expect(desk.take()).toContain('b -> join a@0 to b, reply');
    desk.run(7 * 24 * 3_600_000);
    desk.take();
    desk.run(10_000);
    expect(desk.take()).toContain('b -> join a@0 to b, reply');
  });

  it('ends when another identity answers there: the lost one was restarted', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('c', gone('failed'));
    expect(desk.machine.lostHosts()).toHaveLength(1);
    desk.packet(record('e', { address: 'b:4800' }), [{ kind: 'mistaken', sequence: 0, target: B }]);
    expect(desk.machine.lostHosts()).toHaveLength(0);
  });

  it('costs a cluster about the same number of joins a second whatever its size', () => {
    const joinsIn = (hosts: number) => {
      const desk = new Desk(7).know('c');
      for (let at = 0; at < hosts; at++) {
        const other = record('c', { id: 1_000 + at, name: `x${at}`, address: `x${at}:4800` });
        desk.hear('c', { kind: 'alive', record: other });
      }
      desk.hear('c', { kind: 'alive', record: record('b') }, gone('failed')).take();
      let joins = 0;
      for (let seconds = 0; seconds < 300; seconds++) {
        desk.run(1_000);
        // All answer, so that nobody else is lost.
        for (let at = 0; at < hosts; at++)
          desk.packet(record('c', { id: 1_000 + at }), [
            { kind: 'ack', sequence: desk.sequence, target: 1_000 + at },
          ]);
        desk.hear('c', { kind: 'ack', sequence: desk.sequence, target: 3 });
        joins += desk.take().filter(line => line.startsWith('b -> join')).length;
      }
      return joins / 300;
    };
    expect(joinsIn(0)).toBeGreaterThan(0.8);
    const inHundred = joinsIn(98) * 100;
    expect(inHundred).toBeGreaterThan(1);
    expect(inHundred).toBeLessThan(6);
  });
});

describe('hosts of another environment', () => {
  it('are refused in words, once a minute, and are never in the view', () => {
    const desk = new Desk();
    const knock = () => desk.packet(record('b'), [join('b', { environment: 'prod' })], 'datagram', 'prod');
    knock();
    expect(desk.take()).toEqual(['b -> refused: cluster.env is "test" here, not "prod"']);
    expect(desk.warnings).toHaveLength(1);
    for (let seconds = 0; seconds < 59; seconds++) {
      desk.run(1_000);
      knock();
    }
    expect(desk.take()).toEqual([]);
    expect(desk.warnings).toHaveLength(1);
    desk.run(1_000);
    knock();
    expect(desk.take()).toHaveLength(1);
    expect(desk.warnings).toHaveLength(2);
    expect(desk.view()).toBe('');
    expect(desk.machine.refusals()).toMatchObject([
      { address: 'b:4800', why: 'environment', detail: 'prod', count: 61 },
    ]);
  });

  it('that refuse this one are known by their words', () => {
    const desk = new Desk();
    desk.packet(record('b'), [{ kind: 'refused', why: 'cluster.env is "prod" here' }], 'datagram', 'prod');
    expect(desk.machine.refusals()[0]).toMatchObject({
      why: 'environment',
      detail: 'cluster.env is "prod" here',
    });
    expect(desk.take()).toEqual([]);
  });

  it('behind ports that change with each connection fill neither the list nor the log', () => {
    const desk = new Desk();
    for (let port = 50_000; port < 50_100; port++) desk.machine.receiveSealed(`10.0.0.9:${port}`, 'key');
    desk.machine.receiveSealed('[fd00::9]:50000', 'key');
    expect(desk.machine.refusals().map(({ address, count }) => [address, count])).toEqual([
      ['10.0.0.9:50000', 1],
      ['10.0.0.9:50001', 1],
      ['10.0.0.9:50002', 1],
      ['10.0.0.9:50003', 97],
      ['[fd00::9]:50000', 1],
    ]);
    expect(desk.warnings).toHaveLength(5);
  });

  it('and packets that could not be opened are counted by sender and reason', () => {
    const desk = new Desk();
    for (let packets = 0; packets < 5; packets++) desk.machine.receiveSealed('x:1', 'key');
    desk.machine.receiveSealed('x:1', 'replay');
    expect(desk.machine.refusals().map(({ why, count }) => [why, count])).toEqual([
      ['key', 5],
      ['replay', 1],
    ]);
    expect(desk.warnings).toHaveLength(2);
  });
});

describe('eviction by hand', () => {
  it('takes the host out, tells it and all others, and beats every incarnation', () => {
    const desk = new Desk().know('b', 'c');
    expect(desk.machine.evict(99)).toBe(false);
    expect(desk.machine.evict(B)).toBe(true);
    desk.collect();
    expect(desk.takeEvents()).toEqual(['gone b@0 evicted']);
    expect(desk.take()).toContain('b => notice b@0 evicted');
    desk.run(200);
    expect(desk.take()).toContain('c -> gone b@0 evicted by a');
    desk.hear('c', { kind: 'alive', record: record('b', { incarnation: 50 }) });
    desk.packet(record('b', { incarnation: 50 }), [join('b', { record: record('b', { incarnation: 50 }) })]);
    expect(desk.takeEvents()).toEqual([]);
    expect(desk.machine.lostHosts()).toEqual([]);
    expect(desk.machine.refusals()).toMatchObject([{ why: 'evicted', address: 'b:4800' }]);
  });

  it('of this host: silence from then on', () => {
    const desk = new Desk().know('b');
    desk.hear('b', { kind: 'notice', id: 1, incarnation: 0, reason: 'evicted' });
    expect(desk.takeEvents()).toEqual(['self-evicted by b']);
    expect(desk.machine.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
    desk.hear('b', { kind: 'ping', sequence: 1, target: 1, suspected: -1 }, join('c'));
    desk.machine.tick();
    desk.machine.setAgents(['x']);
    desk.machine.leave();
    desk.collect();
    expect(desk.take()).toEqual([]);
    expect(desk.takeEvents()).toEqual([]);
    expect(desk.machine.send(B, 'stream', { kind: 'payload', channel: 'x', bytes: new Uint8Array(1) })).toBe(
      false,
    );
  });

  it('by its own operator is told to others first', () => {
    const desk = new Desk().know('b');
    expect(desk.machine.evict(1)).toBe(true);
    desk.collect();
    expect(desk.take()).toContain('b => gone a@0 evicted by a');
    expect(desk.takeEvents()).toEqual(['self-evicted by a']);
  });
});

describe('leaving', () => {
  it('is told by both paths, and over when it was told often enough', () => {
    const desk = new Desk().know('b', 'c');
    desk.machine.leave();
    desk.collect();
    expect(desk.machine.left()).toBe(false);
    expect(desk.take()).toEqual(
      expect.arrayContaining(['b => gone a@0 left by a', 'c => gone a@0 left by a']),
    );
    desk.run(1_000);
    expect(desk.take()).toContain('b -> gone a@0 left by a');
    expect(desk.machine.left()).toBe(true);
    expect(desk.machine.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
  });

  it('contradicts nobody, takes nobody in, and still answers pings', () => {
    const desk = new Desk().know('b', 'c');
    desk.machine.leave();
    desk.collect();
    desk.take();
    desk.hear('b', { kind: 'gone', id: 1, incarnation: 0, reason: 'left', by: 1 }, join('d'));
    desk.hear('b', { kind: 'suspect', id: 1, incarnation: 0, by: 2 });
    expect(desk.machine.self.incarnation).toBe(0);
    desk.hear('b', { kind: 'ping', sequence: 3, target: 1, suspected: -1 });
    expect(desk.take().filter(line => line.includes('ack'))).toEqual(['b -> ack a']);
    expect(desk.view()).toBe('b@0 c@0');
  });

  it('is over at once when the last other host leaves as well', () => {
    const desk = new Desk().know('b');
    desk.machine.leave();
    desk.collect();
    desk.hear('b', { kind: 'gone', id: B, incarnation: 0, reason: 'left', by: B });
    desk.run(1);
    expect(desk.machine.left()).toBe(true);
  });

  it('is over at once when there is nobody to tell', () => {
    const desk = new Desk();
    desk.machine.leave();
    expect(desk.machine.left()).toBe(true);
  });
});

describe('messages of the layers above', () => {
  const payload = { kind: 'payload', channel: 'agents', bytes: Uint8Array.of(1, 2) } as const;

  it('go to hosts of the view and come from them only', () => {
    const desk = new Desk().know('b');
    expect(desk.machine.send(B, 'datagram', payload)).toBe(true);
    expect(desk.machine.send(9, 'datagram', payload)).toBe(false);
    desk.collect();
    expect(desk.take()).toEqual(['b -> payload']);
    const packet = { environment: 0, from: B, incarnation: 0, hlc: 0, wallMs: 0, messages: [payload] };
    desk.machine.receive({ ...packet, environment: environmentHash('test') }, 'b:4800', 'stream');
    desk.machine.receive({ ...packet, from: 9, environment: environmentHash('test') }, 'x:1', 'stream');
    expect(desk.machine.ready().payloads).toEqual([{ from: B, channel: 'agents', bytes: payload.bytes }]);
    expect(desk.machine.ready().payloads).toEqual([]);
  });

  it('that no datagram can carry go by stream', () => {
    const desk = new Desk().know('b');
    desk.machine.send(B, 'datagram', { ...payload, bytes: new Uint8Array(2_000) });
    desk.collect();
    expect(desk.take()).toEqual(['b => payload']);
  });
});
