import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Address, Path } from '../../src/underlay/message.js';
import {
  DATAGRAM_BYTES_MAX,
  STREAM_PACKET_BYTES_MAX,
  type Transport,
  type TransportSink,
} from '../../src/underlay/transport.js';

/** A network without loss, as the contract suite needs it. */
export interface TransportWorld {
  /** A host with an address of its own. */
  open(sink: TransportSink): Promise<{ readonly transport: Transport; readonly address: Address }>;
  /** An address where nobody is, and which says so. */
  nobody(): Promise<Address>;
  /** Lets time pass until the condition holds; throws when it does not within a few (virtual) seconds. */
  until(condition: () => boolean): Promise<void>;
  /** Lets so much time pass. */
  pass(ms: number): Promise<void>;
  close(): Promise<void>;
}

interface Arrival {
  readonly bytes: Uint8Array;
  readonly from: Address;
  readonly path: Path;
}

class Recorder implements TransportSink {
  readonly arrivals: Arrival[] = [];
  readonly failures: { readonly to: Address; readonly path: Path }[] = [];

  packet(bytes: Uint8Array, from: Address, path: Path): void {
    this.arrivals.push({ bytes, from, path });
  }

  unreachable(to: Address, path: Path): void {
    this.failures.push({ to, path });
  }
}

const PATHS: readonly Path[] = ['datagram', 'stream'];

/** What every transport has to hold; `src/underlay/transport.ts` says it in words. */
export function transportContract(name: string, makeWorld: () => TransportWorld): void {
  describe(`transport on ${name}`, () => {
    let world: TransportWorld;
    let closables: Transport[];

    const host = async () => {
      const sink = new Recorder();
      const { transport, address } = await world.open(sink);
      closables.push(transport);
      return { sink, transport, address };
    };

    beforeEach(() => {
      world = makeWorld();
      closables = [];
    });

    afterEach(async () => {
      for (const transport of closables) await transport.close();
      await world.close();
    });

    it.each(PATHS)('carries a packet by %s', async path => {
      const [a, b] = [await host(), await host()];
      a.transport.send(b.address, path, bytesOf(1, 100));
      await world.until(() => b.sink.arrivals.length === 1);
      expect(b.sink.arrivals[0]).toMatchObject({ path });
      expect([...b.sink.arrivals[0]!.bytes]).toEqual([...bytesOf(1, 100)]);
      expect(a.sink).toMatchObject({ arrivals: [], failures: [] });
    });

    it.each(PATHS)('carries a packet to itself by %s', async path => {
      const a = await host();
      a.transport.send(a.address, path, bytesOf(1, 10));
      await world.until(() => a.sink.arrivals.length === 1);
      expect(a.sink.failures).toEqual([]);
    });

    it('says where a datagram came from, so that it can be answered', async () => {
      const [a, b] = [await host(), await host()];
      a.transport.send(b.address, 'datagram', bytesOf(1, 10));
      await world.until(() => b.sink.arrivals.length === 1);
      expect(b.sink.arrivals[0]!.from).toBe(a.address);
      b.transport.send(b.sink.arrivals[0]!.from, 'datagram', bytesOf(2, 10));
      await world.until(() => a.sink.arrivals.length === 1);
      expect(a.sink.arrivals[0]!.from).toBe(b.address);
    });

    it.each([
      ['datagram', DATAGRAM_BYTES_MAX],
      ['stream', STREAM_PACKET_BYTES_MAX],
    ] as const)('carries the largest packet by %s and refuses a larger one', async (path, bytesMax) => {
      const [a, b] = [await host(), await host()];
      a.transport.send(b.address, path, bytesOf(7, bytesMax));
      a.transport.send(b.address, path, bytesOf(8, bytesMax + 1));
      await world.until(() => b.sink.arrivals.length === 1 && a.sink.failures.length === 1);
      expect(a.sink.failures).toEqual([{ to: b.address, path }]);
      expect(Buffer.compare(b.sink.arrivals[0]!.bytes, bytesOf(7, bytesMax))).toBe(0);
    });

    it('keeps the order of a stream, whatever the sizes', async () => {
      const [a, b] = [await host(), await host()];
      const sizes = Array.from(
        { length: 300 },
        (_, at) => 1 + ((at * 7_919) % (at % 10 === 0 ? 60_000 : 900)),
      );
      for (const [at, size] of sizes.entries()) a.transport.send(b.address, 'stream', bytesOf(at, size));
      await world.until(() => b.sink.arrivals.length === sizes.length);
      for (const [at, { bytes }] of b.sink.arrivals.entries()) {
        expect(Buffer.compare(bytes, bytesOf(at, sizes[at]!))).toBe(0);
      }
      expect(a.sink.failures).toEqual([]);
    });

    it('keeps streams to several hosts apart', async () => {
      const [a, b, c] = [await host(), await host(), await host()];
      for (let at = 0; at < 20; at++) {
        a.transport.send(b.address, 'stream', bytesOf(at, 50));
        a.transport.send(c.address, 'stream', bytesOf(100 + at, 50));
        b.transport.send(a.address, 'stream', bytesOf(200 + at, 50));
      }
      const all = [a, b, c];
      await world.until(() => all.every(({ sink }) => sink.arrivals.length === 20));
      expect(b.sink.arrivals.map(({ bytes }) => bytes[0])).toEqual(Array.from({ length: 20 }, (_, at) => at));
      expect(c.sink.arrivals.map(({ bytes }) => bytes[0])).toEqual(
        Array.from({ length: 20 }, (_, at) => 100 + at),
      );
    });

    it('tells of a stream packet that nobody takes, later and not from within send', async () => {
      const a = await host();
      const nobody = await world.nobody();
      a.transport.send(nobody, 'stream', bytesOf(1, 10));
      expect(a.sink.failures).toEqual([]);
      await world.until(() => a.sink.failures.length > 0);
      expect(a.sink.failures).toEqual([{ to: nobody, path: 'stream' }]);
    });

    it('bounds what waits for one address, and tells of the rest', async () => {
      const [a, b] = [await host(), await host()];
      for (let at = 0; at < 100; at++) a.transport.send(b.address, 'stream', bytesOf(at, 1_000_000));
      await world.until(
        () => a.sink.failures.length > 0 && a.sink.failures.length + b.sink.arrivals.length === 100,
      );
      expect(b.sink.arrivals.length).toBeGreaterThan(0);
      for (const { to, path } of a.sink.failures)
        expect({ to, path }).toEqual({ to: b.address, path: 'stream' });
    });

    it('reaches a host that was closed and came back, after telling that it was away', async () => {
      const [a, b] = [await host(), await host()];
      a.transport.send(b.address, 'stream', bytesOf(1, 10));
      await world.until(() => b.sink.arrivals.length === 1);
      await b.transport.close();
      await world.pass(100);
      a.transport.send(b.address, 'stream', bytesOf(2, 10));
      await world.until(() => a.sink.failures.length === 1);
      const c = await host();
      a.transport.send(c.address, 'stream', bytesOf(3, 10));
      await world.until(() => c.sink.arrivals.length === 1);
    });

    it('is silent once it is closed', async () => {
      const [a, b] = [await host(), await host()];
      for (const path of PATHS) {
        a.transport.send(b.address, path, bytesOf(1, 10));
        b.transport.send(a.address, path, bytesOf(1, 10));
      }
      await a.transport.close();
      const { arrivals, failures } = a.sink;
      const before = [arrivals.length, failures.length];
      for (const path of PATHS) a.transport.send(b.address, path, bytesOf(1, 10));
      for (const path of PATHS) b.transport.send(a.address, path, bytesOf(1, 10));
      await world.pass(200);
      expect([arrivals.length, failures.length]).toEqual(before);
      await a.transport.close();
    });

    it('takes any words for an address without a crash', async () => {
      const a = await host();
      const addresses = [
        '',
        ':',
        'x',
        'x:',
        ':1',
        '[::1',
        '::1',
        '1.2.3.4:0',
        '1.2.3.4:65536',
        'a b:1',
        '[x]:1',
      ];
      for (const to of addresses) for (const path of PATHS) a.transport.send(to, path, bytesOf(1, 10));
      await world.until(() => a.sink.failures.length === addresses.length * 2);
      expect(a.sink.arrivals).toEqual([]);
    });
  });
}

/** A pattern that differs by seed and place. */
function bytesOf(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = seed + at * 31;
  return bytes;
}
