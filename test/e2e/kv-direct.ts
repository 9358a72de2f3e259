/** A store in a process of its own, with no rings between it and the calls: what a store thread and main are in a node. */
import type { Env } from '../../src/base/env.js';
import type { Publication } from '../../src/kv/balance/board.js';
import type { SnapshotEngine } from '../../src/kv/engine.js';
import type { Boundary } from '../../src/kv/range.js';
import { kvService, serverIdOf } from '../../src/kv/remote/service.js';
import { StoreLinks } from '../../src/kv/remote/store-links.js';
import { storeHandlers } from '../../src/kv/remote/store-server.js';
import { RaftStore } from '../../src/kv/replicated/raft-store.js';
import type { CoprocessorFactory } from '../../src/kv/replicated/replica-table.js';
import { KvDesk } from '../../src/node/kv-desk.js';
import { KvHost } from '../../src/node/kv-host.js';
import type { Rpc } from '../../src/rpc/rpc.js';

export interface KvDirectOptions {
  readonly engine: SnapshotEngine;
  readonly env: Env;
  readonly rpc: Rpc;
  readonly name: string;
  readonly services: readonly Boundary[];
  readonly coprocessors: CoprocessorFactory;
  publish(changes: readonly Publication[]): void;
  /** The engine failed for good. */
  failed(error: unknown): void;
}

export class KvDirect {
  readonly store: RaftStore;
  readonly host: KvHost;
  private readonly failed: (error: unknown) => void;
  private isTurning = false;

  constructor({ engine, env, rpc, name, services, coprocessors, publish, failed }: KvDirectOptions) {
    this.failed = failed;
    const links = new StoreLinks(rpc.client(kvService), () => undefined);
    const desk = new KvDesk(env.clock, 'lease');
    const send = (store: number, frame: Uint8Array) => links.send(store, frame);
    this.store = new RaftStore({ engine, env, sink: desk, send, coprocessors });
    const turnSoon = () => this.turnSoon();
    this.host = new KvHost({
      store: this.store,
      desk,
      env,
      name,
      cores: 1,
      services,
      publish,
      turnSoon,
      failed,
    });
    rpc.serve(kvService, storeHandlers(this.host, queueMicrotask), { id: serverIdOf(this.store.id) });
  }

  /** In the check phase, behind all that was read: one flush serves it all. Then the sockets get their turn. */
  private turnSoon(): void {
    if (this.isTurning) return;
    this.isTurning = true;
    setImmediate(() => {
      this.isTurning = false;
      try {
        this.store.turn();
      } catch (error) {
        this.failed(error);
        return;
      }
      this.host.turned();
      if (this.store.pending) this.turnSoon();
    });
  }
}
