import { expect } from 'vitest';
import type { Address } from '../../src/underlay/message.js';
import type { Transport, TransportSink } from '../../src/underlay/transport.js';
import { type TransportWorld, transportContract } from '../underlay/transport-contract.js';
import { Network } from './network.js';
import { SimTransport } from './sim-transport.js';
import { World } from './world.js';

class SimTransportWorld implements TransportWorld {
  readonly #world = new World(1);
  readonly #network = new Network(this.#world);
  #nodes = 0;

  async open(sink: TransportSink): Promise<{ readonly transport: Transport; readonly address: Address }> {
    const node = this.#newNode();
    return { transport: new SimTransport(this.#network, node, sink), address: node.address };
  }

  async nobody(): Promise<Address> {
    return this.#newNode().address;
  }

  async until(condition: () => boolean): Promise<void> {
    expect(this.#world.runUntil(condition, 10_000)).toBeDefined();
  }

  async pass(ms: number): Promise<void> {
    this.#world.run(ms);
  }

  async close(): Promise<void> {}

  #newNode() {
    this.#nodes += 1;
    return this.#network.addNode(`n${this.#nodes}`, `10.0.0.${this.#nodes}:4800`);
  }
}

transportContract('the simulated network', () => new SimTransportWorld());
