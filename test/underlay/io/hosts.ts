import { randomInt } from 'node:crypto';
import type { Env } from '../../../src/base/env.js';
import { UnderlayDriver } from '../../../src/underlay/io/driver.js';
import type { StreamTls } from '../../../src/underlay/io/stream-tls.js';
import { type HostEvent, Underlay, type UnderlayTiming } from '../../../src/underlay/underlay.js';
import { freePort } from './socket-world.js';

/** Faster than the defaults, so that a test of a death takes a second. */
const TIMING: UnderlayTiming = {
  probeIntervalMs: 200,
  probeTimeoutMs: 100,
  gossipIntervalMs: 50,
  healIntervalMs: 1_000,
  seedRetryMs: 200,
  seedRetryMaxMs: 1_000,
};

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export const realEnv: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
  random: { u32: () => randomInt(2 ** 32) },
  log: quiet,
};

export interface HostSettings {
  readonly environment?: string;
  readonly keys?: readonly string[];
  readonly seeds?: readonly string[];
  readonly tls?: StreamTls;
  /** Bound; `127.0.0.1` when not said. */
  readonly host?: string;
  /** Advertised, without the port; the bound one when not said. */
  readonly advertised?: string;
  readonly env?: Env;
  readonly port?: number;
  /** Called from within the driver. */
  readonly onEvent?: (host: LoopbackHost, event: HostEvent) => void;
}

/** A host of a cluster on the loopback: real driver, real sockets, real clock. */
export class LoopbackHost {
  readonly driver: UnderlayDriver;
  readonly address: string;
  readonly port: number;
  readonly events: HostEvent[] = [];
  readonly payloads: { readonly from: number; readonly channel: string; readonly bytes: Uint8Array }[] = [];

  private constructor(port: number, settings: HostSettings) {
    const host = settings.host ?? '127.0.0.1';
    const env = settings.env ?? realEnv;
    this.port = port;
    this.address = `${settings.advertised ?? (host.includes(':') ? `[${host}]` : host)}:${port}`;
    const environment = settings.environment ?? 'test';
    const machine = new Underlay(
      {
        id: randomInt(1, 2 ** 47),
        name: `host-${port}`,
        address: this.address,
        version: '0.0.0',
        environment,
        timing: TIMING,
      },
      env,
    );
    const { tls } = settings;
    this.driver = new UnderlayDriver(
      {
        machine,
        env,
        environment,
        sockets: { host, port, ...(tls && { tls }) },
        keys: settings.keys ?? [],
        seeds: settings.seeds ?? [],
      },
      {
        event: event => {
          this.events.push(event);
          settings.onEvent?.(this, event);
        },
        payload: (from, channel, bytes) => this.payloads.push({ from, channel, bytes }),
        crdt: () => {},
      },
    );
  }

  static async start(settings: HostSettings = {}): Promise<LoopbackHost> {
    const port = settings.port ?? (await freePort(settings.host ?? '127.0.0.1'));
    const host = new LoopbackHost(port, settings);
    await host.driver.start();
    return host;
  }

  get id(): number {
    return this.driver.machine.self.id;
  }

  /** Names of all hosts in its view, sorted. */
  get view(): string[] {
    return this.driver.machine
      .hosts()
      .map(({ record }) => record.name)
      .sort();
  }
}

export function sees(hosts: readonly LoopbackHost[]): () => boolean {
  const all = hosts.map(({ port }) => `host-${port}`).sort();
  return () => hosts.every(({ view }) => view.join() === all.join());
}
