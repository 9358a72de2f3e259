import type { Address, Path } from '../../src/underlay/message.js';
import { STREAM_PACKET_BYTES_MAX, type Transport, type TransportSink } from '../../src/underlay/transport.js';
import type { Network } from './network.js';
import type { Process, SimNode } from './node.js';

/** The simulated network as the transport of bytes that the real sockets are; it lives at a node as a process does. */
export class SimTransport implements Transport, Process {
  readonly #network: Network;
  readonly #node: SimNode;
  readonly #sink: TransportSink;
  #isClosed = false;

  constructor(network: Network, node: SimNode, sink: TransportSink) {
    this.#network = network;
    this.#node = node;
    this.#sink = sink;
    node.start(this);
  }

  send(to: Address, path: Path, bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (path === 'stream' && bytes.length > STREAM_PACKET_BYTES_MAX) {
      this.#network.world.after(0, () => this.#node.unreachable(to, path));
      return;
    }
    // The sender may write into its buffer again.
    this.#network.send(this.#node, to, path, bytes.slice(), bytes.length);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#node.kill();
  }

  receive(payload: unknown, from: Address, path: Path): void {
    this.#sink.packet((payload as Uint8Array).slice(), from, path);
  }

  unreachable(to: Address, path: Path): void {
    this.#sink.unreachable(to, path);
  }

  wake(): void {}

  nextWakeMs(): number {
    return Number.POSITIVE_INFINITY;
  }
}
