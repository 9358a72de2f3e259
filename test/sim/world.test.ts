import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Address, Path } from '../../src/underlay/message.js';
import { EventQueue } from './event-queue.js';
import { Network } from './network.js';
import { NodeClock, type Process, type SimNode } from './node.js';
import { SeededRandom } from './random.js';
import { World } from './world.js';

/** Says a number to everybody at intervals, by both paths, and writes down what it hears. */
class Talker implements Process {
  readonly heard: {
    readonly atMs: number;
    readonly from: Address;
    readonly path: Path;
    readonly said: number;
  }[] = [];
  readonly unreached: { readonly to: Address; readonly path: Path }[] = [];
  said = 0;
  wakes = 0;
  readonly #network: Network;
  readonly #node: SimNode;
  readonly #everyMs: number;
  #nextMs: number;

  constructor(network: Network, node: SimNode, everyMs: number) {
    this.#network = network;
    this.#node = node;
    this.#everyMs = everyMs;
    this.#nextMs = node.clock.monotonicMs() + everyMs;
  }

  receive(payload: unknown, from: Address, path: Path): void {
    this.heard.push({ atMs: this.#network.world.nowMs, from, path, said: payload as number });
  }

  unreachable(to: Address, path: Path): void {
    this.unreached.push({ to, path });
  }

  wake(): void {
    this.wakes += 1;
    this.#nextMs += this.#everyMs;
    this.said += 1;
    for (const { address } of this.#network.nodes) {
      if (address === this.#node.address) continue;
      this.#network.send(this.#node, address, 'datagram', this.said, 100);
      this.#network.send(this.#node, address, 'stream', this.said, 100);
    }
  }

  nextWakeMs(): number {
    return this.#nextMs;
  }

  from(address: Address, path: Path): number[] {
    return this.heard.filter(one => one.from === address && one.path === path).map(({ said }) => said);
  }
}

function talkers(seed: number, count: number, everyMs = 100) {
  const world = new World(seed);
  const network = new Network(world);
  const nodes = Array.from({ length: count }, (_, at) => network.addNode(`n${at}`, `10.0.0.${at + 1}:4800`));
  const programs = nodes.map(node => {
    const program = new Talker(network, node, everyMs);
    node.start(program);
    return program;
  });
  return { world, network, nodes, programs };
}

const numbersTo = (end: number) => Array.from({ length: end }, (_, at) => at + 1);

describe('EventQueue', () => {
  it('fires by time, and among equal times in the order of adding', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 200 }), times => {
        const queue = new EventQueue();
        const fired: { readonly time: number; readonly order: number }[] = [];
        times.forEach((time, order) => {
          queue.add(time, { happen: what => fired.push({ time, order: what }) }, order, undefined);
          // Taking some out in between moves slots to the free list and back.
          if (order % 5 === 4 && queue.firstMs === 0) queue.fire();
        });
        const early = fired.length;
        while (queue.length > 0) queue.fire();
        expect(fired.length).toBe(times.length);
        const late = fired.slice(early);
        const sorted = [...late].sort((left, right) => left.time - right.time || left.order - right.order);
        expect(late).toEqual(sorted);
      }),
    );
  });
});

describe('SeededRandom', () => {
  it('repeats itself from one seed, and not from another one or in a fork', () => {
    const draw = (random: SeededRandom) => Array.from({ length: 8 }, () => random.u32());
    const first = draw(new SeededRandom(7));
    expect(draw(new SeededRandom(7))).toEqual(first);
    expect(draw(new SeededRandom(8))).not.toEqual(first);
    expect(draw(new SeededRandom(7).fork('network'))).not.toEqual(first);
    expect(draw(new SeededRandom(7).fork('network'))).not.toEqual(draw(new SeededRandom(7).fork('host')));
  });

  it('is uniform', () => {
    const random = new SeededRandom(3);
    const counts = new Array<number>(10).fill(0);
    for (let turn = 0; turn < 100_000; turn += 1) counts[random.below(10)]! += 1;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  it('samples without repeating', () => {
    const sample = new SeededRandom(5).sample(numbersTo(20), 10);
    expect(new Set(sample).size).toBe(10);
  });
});

describe('NodeClock', () => {
  it('drifts, is skewed, and finds back to the time of the world', () => {
    const world = new World(1);
    const exact = new NodeClock(world, 0, 0, 0);
    const fast = new NodeClock(world, 5_000, 3_000, 100);
    world.run(3_600_000);
    expect(fast.wallMs() - exact.wallMs()).toBe(3_360);
    expect(fast.monotonicMs()).toBeCloseTo(3_605_360, 3);
    expect(fast.worldMs(fast.monotonicMs())).toBeCloseTo(world.nowMs, 3);
  });
});

describe('Network', () => {
  it('carries both paths, within the delay of the link', () => {
    const { world, nodes, programs } = talkers(1, 2);
    world.run(1_050);
    for (const path of ['datagram', 'stream'] as const) {
      expect(programs[1]!.from(nodes[0]!.address, path)).toEqual(numbersTo(10));
    }
    expect(programs[1]!.heard[0]!.atMs).toBeGreaterThan(100.4);
    expect(programs[1]!.heard[0]!.atMs).toBeLessThan(101.2);
    expect(nodes[0]!.bytesSent).toBeGreaterThan(10 * (128 + 156));
  });

  it('is the same world for the same seed, and another one for another seed', () => {
    const history = (seed: number) => {
      const { world, network, programs } = talkers(seed, 4);
      network.settings = { delayMs: 5, jitterMs: 20, loss: 0.2, doubled: 0.1, straggling: 0.1 };
      world.run(5_000);
      return programs.map(({ heard }) => heard);
    };
    expect(history(11)).toEqual(history(11));
    expect(history(11)).not.toEqual(history(12));
  });

  it('loses, doubles and disorders datagrams, while a stream is only late', () => {
    const { world, network, nodes, programs } = talkers(2, 2, 10);
    network.settings = { delayMs: 5, jitterMs: 40, loss: 0.2, doubled: 0.1, straggling: 0 };
    world.run(10_000);
    world.run(0);
    const datagrams = programs[1]!.from(nodes[0]!.address, 'datagram');
    expect(new Set(datagrams).size).toBeLessThan(900);
    expect(new Set(datagrams).size).toBeGreaterThan(700);
    expect(datagrams.length).toBeGreaterThan(new Set(datagrams).size);
    expect(datagrams).not.toEqual([...datagrams].sort((left, right) => left - right));
    const stream = programs[1]!.from(nodes[0]!.address, 'stream');
    expect(stream).toEqual(numbersTo(stream.length));
    expect(stream.length).toBeGreaterThan(800);
  });

  it('keeps parts apart and loses nothing that a stream said before a short cut ended', () => {
    const { world, network, nodes, programs } = talkers(3, 5);
    world.run(1_050);
    network.partition([nodes.slice(0, 2), nodes.slice(2)]);
    world.run(3_000);
    expect(programs[0]!.from(nodes[1]!.address, 'datagram').length).toBe(40);
    expect(programs[0]!.from(nodes[4]!.address, 'datagram').length).toBe(10);
    network.heal();
    world.run(5_000);
    const stream = programs[0]!.from(nodes[4]!.address, 'stream');
    expect(stream).toEqual(numbersTo(stream.length));
    expect(stream.length).toBeGreaterThanOrEqual(90);
    expect(programs[0]!.unreached).toEqual([]);
  });

  it('resets a stream that stays cut, and connects again afterwards', () => {
    const { world, network, nodes, programs } = talkers(4, 2);
    world.run(1_050);
    network.partition([[nodes[0]!]]);
    world.run(30_000);
    expect(programs[0]!.unreached).toContainEqual({ to: nodes[1]!.address, path: 'stream' });
    network.heal();
    world.run(10_000);
    expect(programs[1]!.from(nodes[0]!.address, 'stream').at(-1)).toBe(programs[0]!.said);
  });

  it('cuts in one direction, by path, and flaps', () => {
    const { world, network, nodes, programs } = talkers(5, 3);
    network.addRule(
      { from: new Set([0]), to: new Set([1]), path: 'datagram', isCut: true },
      'no datagrams 0 to 1',
    );
    network.addRule(
      { from: new Set([2]), to: 'all', flapping: { upMs: 1_000, downMs: 1_000, offsetMs: 0 } },
      'node 2 speaks every other second',
    );
    world.run(10_050);
    const [first, second, third] = nodes.map(({ address }) => address);
    expect(programs[1]!.from(first!, 'datagram')).toEqual([]);
    expect(programs[1]!.from(first!, 'stream').length).toBe(100);
    expect(programs[0]!.from(second!, 'datagram').length).toBe(100);
    expect(Math.abs(programs[0]!.from(third!, 'datagram').length - 50)).toBeLessThanOrEqual(5);
  });

  it('refuses a datagram that is too large', () => {
    const { world, network, nodes, programs } = talkers(6, 2, 1e9);
    network.send(nodes[0]!, nodes[1]!.address, 'datagram', 1, 1_233);
    world.run(10);
    expect(programs[0]!.unreached).toEqual([{ to: nodes[1]!.address, path: 'datagram' }]);
    expect(programs[1]!.heard).toEqual([]);
  });
});

describe('SimNode', () => {
  it('gives a paused process its timers and packets late', () => {
    const { world, nodes, programs } = talkers(7, 2);
    world.run(1_050);
    nodes[1]!.pause();
    world.run(5_000);
    expect(programs[1]!.said).toBe(10);
    expect(programs[1]!.from(nodes[0]!.address, 'stream').length).toBe(10);
    nodes[1]!.resume();
    world.run(500);
    expect(programs[1]!.from(nodes[0]!.address, 'stream')).toEqual(numbersTo(65));
  });

  it('drops datagrams for a paused process when its buffer is full', () => {
    const { world, network, nodes, programs } = talkers(8, 2, 1e9);
    nodes[1]!.pause();
    for (let at = 0; at < 1_000; at += 1) network.send(nodes[0]!, nodes[1]!.address, 'datagram', at, 1_000);
    world.run(1_000);
    nodes[1]!.resume();
    expect(programs[1]!.heard.length).toBe(212);
    expect(network.counters.unread).toBe(788);
  });

  it('refuses streams while nobody lives there, and knows a new life from the old one', () => {
    const { world, network, nodes, programs } = talkers(9, 2);
    world.run(1_050);
    nodes[1]!.kill();
    world.run(1_000);
    expect(programs[0]!.unreached.length).toBeGreaterThan(5);
    const heir = new Talker(network, nodes[1]!, 100);
    nodes[1]!.start(heir);
    world.run(1_000);
    expect(programs[1]!.heard.length).toBe(20);
    const stream = heir.from(nodes[0]!.address, 'stream');
    expect(stream.at(-1)).toBe(programs[0]!.said);
    expect(stream.length).toBeGreaterThan(5);
  });
});
