import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSockets, type SocketOptions, type SocketTransport } from '../../../src/underlay/io/sockets.js';
import type { Address } from '../../../src/underlay/message.js';
import type { TransportSink } from '../../../src/underlay/transport.js';
import type { TransportWorld } from '../transport-contract.js';

const PATIENCE_MS = 15_000;

export async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`does not hold: ${condition}`);
    await sleep(2);
  }
}

/** A port that was free a moment ago. */
export async function freePort(host: string): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen({ host, port: 0 }, resolve));
  const { port } = server.address() as { port: number };
  await new Promise(resolve => server.close(resolve));
  return port;
}

/** Real sockets on one address of the loopback. */
export class SocketWorld implements TransportWorld {
  /** How hosts are addressed. */
  private readonly name: string;
  private readonly options: Omit<SocketOptions, 'port'>;

  constructor(name: string, options: Omit<SocketOptions, 'port'>) {
    this.name = name;
    this.options = options;
  }

  async open(sink: TransportSink): Promise<{ transport: SocketTransport; address: Address }> {
    const transport = await openSockets(
      { ...this.options, port: 0 },
      {
        packet: (bytes, from, path) => {
          sink.packet(bytes, from, path);
          return true;
        },
        unreachable: (to, path) => sink.unreachable(to, path),
      },
    );
    return { transport, address: `${this.name}:${transport.port}` };
  }

  async nobody(): Promise<Address> {
    return `${this.name}:${await freePort(this.options.host)}`;
  }

  until = until;

  async pass(ms: number): Promise<void> {
    await sleep(ms);
  }

  async close(): Promise<void> {}
}
