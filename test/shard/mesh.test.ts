import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.js';
import { InlineMesh } from '../../src/shard/inline.js';
import { createMesh, Mesh } from '../../src/shard/mesh.js';
import type { Bell, MeshPart } from '../../src/shard/shard.js';

interface Arrival {
  readonly at: number;
  readonly from: number;
  readonly bytes: Buffer;
}

function inline(shardCount: number, ringBytes: number, arrivals: Arrival[] = []): InlineMesh {
  return new InlineMesh(shardCount, {
    ringBytes,
    handlerOf: at => (from, bytes, start, end) => {
      arrivals.push({ at, from, bytes: Buffer.from(bytes.subarray(start, end)) });
    },
  });
}

/** A bell that records, so that a test can play the thread that is rung. */
class RecordedBell implements Bell {
  onRing: (() => void) | undefined;
  readonly rung: number[] = [];
  /** Runs while the sleeper arms: the last moment at which a peer may send unseen. */
  onArm: (() => boolean) | undefined;
  arm(onRing: () => void): boolean {
    this.onRing = onRing;
    return this.onArm?.() ?? true;
  }
  ring(peer: number): void {
    this.rung.push(peer);
  }
  close(): void {
    this.onRing = undefined;
  }
}

function pair(ringBytes = 1024) {
  const memory = createMesh(2, ringBytes);
  const bells = [new RecordedBell(), new RecordedBell()] as const;
  const counts = [0, 0];
  const meshOf = (self: 0 | 1) => new Mesh(memory.part(self), bells[self], () => counts[self]!++);
  return { memory, bells, counts, meshes: [meshOf(0), meshOf(1)] as const };
}

const BYTES = Buffer.alloc(4096, 0x5a);

describe('mesh', () => {
  it('delivers every frame of every pair in order, whatever the sizes and turns', () => {
    const send = fc.record({ from: fc.nat(2), to: fc.nat(2), length: fc.oneof(fc.nat(60), fc.nat(3000)) });
    const step = fc.oneof({ weight: 5, arbitrary: send }, { weight: 1, arbitrary: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), fc.constantFrom(64, 256, 4096), (script, ringBytes) => {
        const arrivals: Arrival[] = [];
        const mesh = inline(3, ringBytes, arrivals);
        const sent: Arrival[] = [];
        script.forEach((action, seq) => {
          if (typeof action === 'number') mesh.turn(action);
          else if (action.from !== action.to) {
            const bytes = Buffer.alloc(action.length, seq);
            expect(mesh.mesh(action.from).send(action.to, bytes, 0, bytes.length)).toBe(true);
            sent.push({ at: action.to, from: action.from, bytes });
          }
        });
        mesh.pump();
        for (let from = 0; from < 3; from++) {
          for (let at = 0; at < 3; at++) {
            const ofPair = (list: Arrival[]) =>
              list.filter(a => a.at === at && a.from === from).map(a => a.bytes);
            expect(ofPair(arrivals)).toEqual(ofPair(sent));
          }
          expect(mesh.mesh(from).congested).toBe(false);
        }
        expect(arrivals).toHaveLength(sent.length);
      }),
      { numRuns: 300 },
    );
  });

  it('says when a port is congested and when no longer, and counts', () => {
    const mesh = inline(2, 1024);
    const first = mesh.mesh(0);
    const drained: number[] = [];
    first.onDrained = peer => drained.push(peer);
    let sent = 0;
    while (!first.congested) {
      first.send(1, BYTES, 0, 100);
      sent++;
    }
    const port = first.port(1)!;
    expect(port.fullStalls).toBe(1);
    expect(port.depthBytes).toBeGreaterThan(100 * sent);
    for (let i = 0; i < 50; i++) first.send(1, BYTES, 0, 100);
    expect(drained).toEqual([]);
    expect(mesh.pump()).toBe(sent + 50);
    expect(drained).toEqual([1]);
    expect(first.congested).toBe(false);
    expect(port.depthBytes).toBe(0);
    expect([port.framesOut, port.bytesOut]).toEqual([sent + 50, (sent + 50) * 100]);
    const back = mesh.mesh(1).port(0)!;
    expect([back.framesIn, back.bytesIn]).toEqual([sent + 50, (sent + 50) * 100]);
  });

  it('lets onDrained send again, even to the point of congestion', () => {
    const mesh = inline(2, 256);
    const first = mesh.mesh(0);
    let rounds = 0;
    first.onDrained = () => {
      if (++rounds < 10) for (let i = 0; i < 20; i++) first.send(1, BYTES, 0, 50);
    };
    for (let i = 0; i < 20; i++) first.send(1, BYTES, 0, 50);
    expect(mesh.pump()).toBe(200);
    expect(rounds).toBe(10);
  });

  it('asserts when a source goes on sending into a backlog at its bound', () => {
    const memory = createMesh(2, 256);
    const mesh = new Mesh(memory.part(0), new RecordedBell(), () => {}, { backlogBytesMax: 1000 });
    const flood = () => {
      for (let i = 0; i < 30; i++) mesh.send(1, BYTES, 0, 60);
    };
    expect(flood).toThrow(AssertionError);
  });
});

describe('sleep', () => {
  it('is refused while something waits, and the bell rings once a sleep', () => {
    const { meshes, bells, counts } = pair();
    const [a, b] = meshes;
    a.send(1, BYTES, 0, 10);
    a.flush();
    expect(b.sleep()).toBe(false);
    expect(b.poll()).toBe(1);
    expect(b.sleep()).toBe(true);
    a.send(1, BYTES, 0, 10);
    expect(bells[0].rung).toEqual([]);
    a.flush();
    a.send(1, BYTES, 0, 10);
    a.flush();
    expect(bells[0].rung).toEqual([1]);
    let woken = 0;
    b.onWake = () => woken++;
    bells[1].onRing!();
    expect(woken).toBe(1);
    expect(b.poll()).toBe(2);
    a.send(1, BYTES, 0, 10);
    a.flush();
    expect(bells[0].rung).toEqual([1]);
    expect(b.poll()).toBe(1);
    expect(counts[1]).toBe(4);
  });

  it('flushes first, so nothing is left behind unseen', () => {
    const { meshes } = pair();
    meshes[0].send(1, BYTES, 0, 10);
    expect(meshes[0].sleep()).toBe(true);
    expect(meshes[1].poll()).toBe(1);
  });

  it('is rung by a send that falls between the last look and the wait', () => {
    const { meshes, bells } = pair();
    bells[1].onArm = () => {
      meshes[0].send(1, BYTES, 0, 10);
      meshes[0].flush();
      return true;
    };
    expect(meshes[1].sleep()).toBe(true);
    expect(bells[0].rung).toEqual([1]);
  });

  it('ends for a writer when the reader has made room for its backlog', () => {
    const { meshes, bells } = pair(256);
    const [a, b] = meshes;
    for (let i = 0; i < 20; i++) a.send(1, BYTES, 0, 50);
    expect(a.sleep()).toBe(true);
    expect(b.poll()).toBeGreaterThan(0);
    expect(bells[1].rung).toEqual([0]);
    expect(a.sleep()).toBe(true);
    b.poll();
    expect(bells[1].rung).toEqual([0, 0]);
  });
});

describe('budget', () => {
  function crowd(options: { pollFramesMax?: number; pollBytesMax?: number }) {
    const memory = createMesh(4, 1 << 16);
    const order: number[] = [];
    const at = (part: MeshPart) => new Mesh(part, new RecordedBell(), peer => order.push(peer), options);
    const reader = at(memory.part(0));
    const writers = [1, 2, 3].map(self => at(memory.part(self)));
    return { reader, writers, order };
  }
  const countOf = (order: number[], peer: number) => order.filter(p => p === peer).length;

  it('gives a flooding peer no more than its share while others have frames', () => {
    const { reader, writers, order } = crowd({ pollFramesMax: 30 });
    for (let i = 0; i < 500; i++) writers[0]!.send(0, BYTES, 0, 20);
    for (let i = 0; i < 10; i++) writers[1]!.send(0, BYTES, 0, 20);
    for (let i = 0; i < 10; i++) writers[2]!.send(0, BYTES, 0, 20);
    for (const writer of writers) writer.flush();
    expect(reader.poll()).toBe(30);
    expect([1, 2, 3].map(peer => countOf(order, peer))).toEqual([10, 10, 10]);
    expect(reader.more).toBe(true);
    expect(reader.sleep()).toBe(false);
  });

  it('gives the share that others leave to those who can use it', () => {
    const { reader, writers, order } = crowd({ pollFramesMax: 30 });
    for (let i = 0; i < 500; i++) writers[0]!.send(0, BYTES, 0, 20);
    writers[1]!.send(0, BYTES, 0, 20);
    for (const writer of writers) writer.flush();
    expect(reader.poll()).toBe(30);
    expect(countOf(order, 1)).toBe(29);
    let turns = 0;
    while (reader.more) turns += reader.poll() > 0 ? 1 : 1000;
    expect(turns).toBe(16);
  });

  it('is one of bytes too', () => {
    const { reader, writers, order } = crowd({ pollBytesMax: 3000 });
    for (let i = 0; i < 20; i++) for (const writer of writers) writer.send(0, BYTES, 0, 996);
    for (const writer of writers) writer.flush();
    expect(reader.poll()).toBe(3);
    expect([1, 2, 3].map(peer => countOf(order, peer))).toEqual([1, 1, 1]);
    expect(reader.more).toBe(true);
  });
});

describe('a dead peer', () => {
  it('is removed with a count, refused by value, and replaced by one with fresh rings', () => {
    const { memory, meshes, bells, counts } = pair(256);
    const [a, b] = meshes;
    const drained: number[] = [];
    a.onDrained = peer => drained.push(peer);
    for (let i = 0; i < 20; i++) a.send(1, BYTES, 0, 50);
    expect(a.congested).toBe(true);
    b.send(0, BYTES, 0, 30);
    b.send(0, BYTES, 0, 2000);
    b.flush();
    expect(a.remove(1)).toEqual({ outgoing: 16, incoming: 2 });
    expect(a.congested).toBe(false);
    expect(drained).toEqual([1]);
    expect(a.send(1, BYTES, 0, 10)).toBe(false);
    expect(a.poll()).toBe(0);

    memory.renew(1);
    expect(a.replace(1, memory.link(0, 1))).toEqual({ outgoing: 0, incoming: 0 });
    const reborn = new Mesh(memory.part(1), bells[1], () => counts[1]!++);
    expect(a.send(1, BYTES, 0, 3000)).toBe(true);
    for (let turns = 0; turns < 200 && counts[1] === 0; turns++) {
      a.flush();
      reborn.poll();
    }
    expect(counts[1]).toBe(1);
    reborn.send(0, BYTES, 0, 9);
    reborn.flush();
    expect(a.poll()).toBe(1);
  });

  it('discards a frame half read, and the new port starts clean', () => {
    const { memory, meshes, counts } = pair(256);
    const [a, b] = meshes;
    b.send(0, BYTES, 0, 2000);
    b.flush();
    expect(a.poll()).toBe(0);
    memory.renew(1);
    expect(a.replace(1, memory.link(0, 1))).toEqual({ outgoing: 0, incoming: 1 });
    const reborn = new Mesh(memory.part(1), new RecordedBell(), () => {});
    reborn.send(0, BYTES, 0, 7);
    reborn.flush();
    expect(a.poll()).toBe(1);
    expect(counts[0]).toBe(1);
  });

  it('may be removed by a handler in the midst of its frames', () => {
    const memory = createMesh(2, 1024);
    let handled = 0;
    const a: Mesh = new Mesh(memory.part(0), new RecordedBell(), () => {
      if (++handled === 3) a.remove(1);
    });
    const b = new Mesh(memory.part(1), new RecordedBell(), () => {});
    for (let i = 0; i < 5; i++) b.send(0, BYTES, 0, 10);
    b.flush();
    expect(a.poll()).toBe(3);
    expect(a.more).toBe(false);
    expect(a.port(1)).toBeUndefined();
  });
});

describe('memory', () => {
  it('survives structured cloning and takes what the head comment says', () => {
    const memory = createMesh(4, (from, to) => (from === 0 || to === 0 ? 4096 : 65536));
    let bytes = 0;
    for (let self = 0; self < 4; self++) {
      const part = memory.part(self);
      const copy = structuredClone(part);
      expect(copy.links[self]).toBeNull();
      for (const [peer, link] of copy.links.entries()) {
        if (link === null) continue;
        expect(link.outgoing.capacityBytes).toBe(self === 0 || peer === 0 ? 4096 : 65536);
        bytes += link.outgoing.memory.byteLength;
      }
    }
    expect(bytes).toBe(6 * (4096 + 384) + 6 * (65536 + 384));
  });
});
