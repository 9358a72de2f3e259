import { assert } from '../base/assert.js';
import type { Env } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import type { AgentOutput } from '../overlay/agent.js';
import { GrpcServer } from '../rpc/io/grpc-server.js';
import { GrpcTls } from '../rpc/io/grpc-tls.js';
import { GrpcTransport } from '../rpc/io/grpc-transport.js';
import { type AgentHost, Rpc, type RunningServer } from '../rpc/rpc.js';
import type { RpcEndpoint, RpcTransport } from '../rpc/transport.js';
import { formatAddress } from '../underlay/io/address.js';
import type { StreamTls } from '../underlay/io/stream-tls.js';
import type { HostId } from '../underlay/message.js';

export interface RpcHostOptions {
  readonly self: HostId;
  readonly version: string;
  readonly env: Env;
  /** What is bound; port 0 is any free one. */
  readonly host: string;
  readonly port: number;
  /** Where others reach what is bound. */
  readonly announcedHost: string;
  readonly tls: StreamTls | undefined;
  readonly overlay: AgentHost;
  /** The overlay has something to send: have it driven. */
  overlayUsed(): void;
}

/** Longest sleep, milliseconds. */
const SLEEP_MAX_MS = 60_000;

/** How long new work is still taken while callers hear that this node goes; news takes some tenths of a second. */
const GRACE_MS_MAX = 300;

/**
 * The services of this node in the real world: the gRPC port, the timer, and the turns in which the overlay is told.
 * All of it on the main thread.
 */
export class RpcHost implements Closable {
  readonly rpc: Rpc;
  readonly transport: RpcTransport;
  readonly address: string;
  readonly server: GrpcServer;
  private readonly env: Env;
  private readonly tls: GrpcTls | undefined;
  private readonly servers: RunningServer[] = [];
  private timer: NodeJS.Timeout | undefined;
  private armedMs = Number.POSITIVE_INFINITY;
  private isTold = false;
  private isClosed = false;

  private constructor(options: RpcHostOptions, server: GrpcServer, tls: GrpcTls | undefined) {
    const { self, version, env, overlay } = options;
    this.env = env;
    this.server = server;
    this.tls = tls;
    this.address = formatAddress(options.announcedHost, server.port);
    this.transport = new GrpcTransport({ tls });
    this.rpc = new Rpc({
      self,
      address: this.address,
      version,
      env,
      transport: this.transport,
      overlay,
      soon: queueMicrotask,
      later: run => void setImmediate(run),
      wake: dueMs => this.wake(dueMs),
      overlayUsed: () => this.tellOverlay(options),
    });
  }

  /** Binds the port. Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED, SHOAL_TLS_CERTIFICATE. */
  static async open(options: RpcHostOptions): Promise<RpcHost> {
    const { host, port } = options;
    const tls = options.tls === undefined ? undefined : new GrpcTls(options.tls);
    // The address that services announce has the port in it, so the port comes before them.
    let opened: RpcHost | undefined;
    const endpoint: RpcEndpoint = {
      unary: (method, body, context, sink) => endpointOf(opened).unary(method, body, context, sink),
      stream: (method, context, sink) => endpointOf(opened).stream(method, context, sink),
    };
    const server = await GrpcServer.listen(endpoint, { host, port, tls: options.tls });
    opened = new RpcHost(options, server, tls);
    return opened;
  }

  /** Has it closed with this node's services. */
  own(server: RunningServer): void {
    this.servers.push(server);
  }

  onAgentOutput(output: AgentOutput): void {
    this.rpc.onAgentOutputs([output]);
  }

  /** For connections from now on, where there was TLS from the start. Throws SHOAL_TLS_CERTIFICATE. */
  renewTls(tls: StreamTls): void {
    this.tls?.renew(tls);
    this.server.renewTls(tls);
  }

  /** Callers hear that this node goes; what runs is finished, within `timeoutMs`. Nothing is served afterwards. */
  async drain(timeoutMs: number): Promise<void> {
    const graceMs = Math.min(GRACE_MS_MAX, timeoutMs / 4);
    const endMs = this.env.clock.monotonicMs() + timeoutMs;
    const drained = this.servers.map(server => {
      return new Promise(resolve => server.drain({ graceMs, timeoutMs }, resolve));
    });
    this.servers.length = 0;
    await Promise.all(drained);
    await this.server.drain(Math.max(0, endMs - this.env.clock.monotonicMs()));
  }

  /** Ends what runs. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    this.rpc.close();
    await this.server.close();
  }

  private wake(dueMs: number): void {
    if (this.isClosed || dueMs >= this.armedMs) return;
    clearTimeout(this.timer);
    this.armedMs = dueMs;
    const waitMs = Math.ceil(dueMs - this.env.clock.monotonicMs());
    this.timer = setTimeout(() => this.tick(), Math.min(Math.max(waitMs, 0), SLEEP_MAX_MS));
  }

  private tick(): void {
    this.armedMs = Number.POSITIVE_INFINITY;
    this.rpc.tick();
    const dueMs = this.rpc.nextDeadlineMs();
    if (dueMs !== Number.POSITIVE_INFINITY) this.wake(dueMs);
  }

  /** Once for all that a turn does to agents, and not from within a call that an agent's news has caused. */
  private tellOverlay({ overlayUsed }: RpcHostOptions): void {
    if (this.isTold) return;
    this.isTold = true;
    queueMicrotask(() => {
      this.isTold = false;
      overlayUsed();
    });
  }
}

function endpointOf(host: RpcHost | undefined): RpcEndpoint {
  assert(host !== undefined, 'a connection takes a turn of the event loop, and the host is made in this one');
  return host.rpc.endpoint;
}
