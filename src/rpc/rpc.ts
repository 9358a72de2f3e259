import type { Env } from '../base/env.js';
import type { Agent, AgentOutput } from '../overlay/agent.js';
import type { HostId } from '../underlay/message.js';
import { Agenda } from './agenda.js';
import type { Announcement } from './announcement.js';
import { type Client, makeClient } from './client.js';
import { Drain, type DrainOptions } from './drain.js';
import type { Handlers } from './handler.js';
import { InProcessChannel } from './in-process.js';
import { Links } from './link.js';
import { Registry } from './registry.js';
import { SERVER_LIMITS, ServedService, type ServerLimits } from './served.js';
import { Endpoint } from './server.js';
import type { Methods, Service } from './service.js';
import { ServiceView } from './service-view.js';
import type { RpcEndpoint, RpcTransport } from './transport.js';
import { BYTES, VALUES } from './wire.js';

/**
 * Room `rpc`: services that find each other.
 *
 * | file | abstraction |
 * | --- | --- |
 * | service.ts, table.ts | `defineService`: one descriptor, from which all types come; FlatBuffers tables for it |
 * | client.ts | `Client`: a caller for each method |
 * | unary-call.ts, pipeline.ts, message-stream.ts, bidi-stream.ts | the client's side of the four kinds of methods |
 * | handler.ts | `Handlers`: what has to be written to serve a service |
 * | server.ts, registry.ts, served.ts, served-*.ts | the server's side of the four kinds |
 * | drain.ts | how a server goes |
 * | transport.ts | `RpcTransport`, `RpcEndpoint`: how calls travel; implementations in-process.ts and io/ |
 * | wire.ts | values to bodies and back: bytes to other processes, the values themselves within this one |
 * | announcement.ts, directory.ts, link.ts | who serves, and whether it can be reached |
 * | traffic.ts, routing.ts, balance/ | who of them gets a call |
 * | service-view.ts | all that together for one service |
 * | agenda.ts, fifo.ts | time and queues |
 *
 * ## How a call finds its server
 *
 * The servers of service S are the members of the agent `rpc.S`; their metadata say id, address and groups. The
 * longest directive (a tenant-id prefix, kept in the agent's map `traffic`) weighs the groups; no directive means the
 * untagged servers. What it leaves is a pool, made once for each directive and change; the method's balance mode picks
 * from it. A server in this process is reached by reference, without a codec; all else is the same.
 *
 * A server is out of rotation when its connection breaks or cannot be made, until it stands again, which is tried with
 * growing pauses, and once a second while calls have nobody else; when it says that it drains; and for good when the
 * overlay says that it is gone, which also ends what is under way there.
 *
 * ## Invariants
 *
 * - Every call is answered once, by its deadline, and not before the call that made it has returned (but for
 *   requests that a pipeline does not take, which are told at once). Failures are values.
 * - A request is sent again only if its method is idempotent, or if it is certain that it was not begun.
 * - A pipeline never sends what waited behind a request that a break has left in doubt, unless that one is sent again
 *   before it. One in doubt may still be on its way when its caller is told so: only the server could tell.
 * - Caller and callee never run in one stack, also within a process.
 *
 * ## Limits
 *
 * Calls of one method `CALLS_MAX`; of one server `ServerLimits`; a pipeline's depth `DEPTH_MAX`, and what its server does
 * in half a deadline (`base/batch`); at its server `SERVED_DEPTH_MAX`; messages of a stream `UNACKNOWLEDGED_MAX`; a
 * message `messageBytesMax`; attempts `ATTEMPTS_MAX` and always the deadline; directives `DIRECTIVES_MAX`. Past a limit
 * the answer is `throttled`, or `write` says false. Connections to a port, in all and of one address, the bytes held on
 * their account, and attempts to connect: `GrpcServerOptions`, `GrpcTransportOptions`.
 *
 * ## Where it differs from BifroMQ, and why
 *
 * - A pipeline that breaks tells of each request whether it was done, not done, or unknown, and sends idempotent ones
 *   again; there all fail alike.
 * - Consistent hashing is rendezvous hashing over weights: fewer keys move, and nothing is built for each tenant.
 * - A tenant whose groups are empty gets `server-not-found` with the directive in its words (there it is documented).
 * - A server's own process is known by its endpoint, not by a process id in the announcement.
 * - Messages of a stream are counted and acknowledged, so a server knows what has arrived.
 *
 * Time and turns come from outside: whoever drives this room calls `tick` at or after `nextDeadlineMs` and hands it what
 * the agents tell.
 */

/** A node's part in all services: what it stands on, and how it is driven. */
export interface RpcOptions {
  readonly self: HostId;
  /** Where this node's transport answers, `host:port`. */
  readonly address: string;
  readonly version: string;
  readonly env: Env;
  readonly transport: RpcTransport;
  readonly overlay: AgentHost;
  /** Calls `run` once, soon, with an empty stack: `queueMicrotask`, or a simulator's own queue. */
  soon(run: () => void): void;
  /** The same after timers and I/O had their turn: `setImmediate`. */
  later?(run: () => void): void;
  /** The next deadline is earlier than it was. */
  wake?(dueMs: number): void;
  /** An agent was used: the overlay has something to send. */
  overlayUsed?(): void;
}

/** What is needed of the overlay. */
export interface AgentHost {
  host(name: string): Agent;
  unhost(name: string): void;
}

export interface ServeOptions {
  /** Unique in its service; it comes with each start of the process anew, unless callers address it (`direct`). */
  readonly id: string;
  readonly groups?: readonly string[];
  readonly attributes?: Readonly<Record<string, string>>;
  readonly limits?: ServerLimits;
}

/** A server of this process; its owner closes it. */
export interface RunningServer {
  readonly id: string;
  /**
   * Announces that it goes, refuses new work after `graceMs` (in which callers hear of it), waits until what it has is
   * finished, `timeoutMs` in all at the most, and deregisters. `done` is told whether everything was finished.
   */
  drain(options: DrainOptions, done: (isFinished: boolean) => void): void;
  /** Deregisters at once; what is under way gets `unknown-outcome`. */
  close(): void;
}

export class Rpc {
  /** Where a server transport hands over what comes in. */
  readonly endpoint: RpcEndpoint;
  private readonly options: RpcOptions;
  private readonly agenda: Agenda;
  private readonly links: Links;
  private readonly views = new Map<string, ServiceView>();
  private readonly registry = new Registry();
  private readonly servers = new Set<RunningServer>();
  private readonly local: InProcessChannel<unknown>;

  constructor(options: RpcOptions) {
    this.options = options;
    const { env } = options;
    this.agenda = new Agenda(env.clock, {
      soon: run => options.soon(run),
      ...(options.later === undefined ? {} : { later: run => options.later!(run) }),
      wake: dueMs => options.wake?.(dueMs),
    });
    this.links = new Links(options.transport, this.agenda, env.random);
    this.endpoint = new Endpoint(BYTES, this.registry) as RpcEndpoint;
    const values = new Endpoint(VALUES, this.registry);
    this.local = new InProcessChannel<unknown>(options.address, values, this.agenda);
  }

  /** A typed client; as many as one likes, they share what they know of the servers. */
  client<M extends Methods>(service: Service<M>): Client<M> {
    return makeClient(service, this.view(service.name).context);
  }

  /** Serves it from now on, and tells the cluster. Throws AssertionError for an id that this node serves already. */
  serve<M extends Methods>(service: Service<M>, handlers: Handlers<M>, options: ServeOptions): RunningServer {
    const announcement: Announcement = {
      id: options.id,
      address: this.options.address,
      groups: options.groups ?? [],
      attributes: options.attributes ?? {},
      version: this.options.version,
      draining: false,
    };
    const limits = options.limits ?? SERVER_LIMITS;
    const served = new ServedService(service, handlers, announcement, limits, this.agenda);
    const view = this.view(service.name);
    this.registry.add(served);
    view.announce(announcement);
    const drain = new Drain(served, this.agenda, view);
    const server: RunningServer = {
      id: options.id,
      drain: (drainOptions, done) =>
        drain.begin(drainOptions, isFinished => {
          this.forget(served, server);
          done(isFinished);
        }),
      close: () => {
        drain.close();
        this.forget(served, server);
      },
    };
    this.servers.add(server);
    return server;
  }

  private forget(served: ServedService, server: RunningServer): void {
    this.registry.delete(served);
    this.servers.delete(server);
  }

  /** What is known of a service: its servers, their state, its directives. */
  view(service: string): ServiceView {
    let view = this.views.get(service);
    if (view === undefined) {
      const { self, env, overlay } = this.options;
      const used = () => this.options.overlayUsed?.();
      view = new ServiceView(service, overlay.host(agentName(service)), {
        agenda: this.agenda,
        env,
        links: this.links,
        used,
        localEndpoint: member =>
          member.host === self && this.registry.has(service, member.name) ? this.local : undefined,
      });
      this.views.set(service, view);
      used();
    }
    return view;
  }

  /** Names of the services that this node calls or serves. */
  services(): readonly string[] {
    return [...this.views.keys()].sort();
  }

  /** What the overlay's agents tell; those of others are passed over. */
  onAgentOutputs(outputs: readonly AgentOutput[]): void {
    for (const output of outputs) {
      if (output.agent.startsWith(AGENT_PREFIX))
        this.views.get(output.agent.slice(AGENT_PREFIX.length))?.onOutput(output);
    }
  }

  tick(): void {
    this.agenda.tick();
  }

  /** Of the monotonic clock; Infinity when nothing is due. */
  nextDeadlineMs(): number {
    return this.agenda.nextDeadlineMs;
  }

  /** Entries of every list that is kept: none may grow without bound. */
  entries(): Readonly<Record<string, number>> {
    return {
      agenda: this.agenda.size,
      links: this.links.size,
      served: this.registry.size,
      views: this.views.size,
    };
  }

  /** Ends everything: servers are deregistered, calls under way fail. */
  close(): void {
    for (const server of [...this.servers]) server.close();
    for (const [service, view] of this.views) {
      view.close();
      this.options.overlay.unhost(agentName(service));
    }
    this.views.clear();
    this.links.closeAll();
    // What waits to be tried again.
    this.agenda.expire();
    this.options.overlayUsed?.();
  }
}

const AGENT_PREFIX = 'rpc.';

function agentName(service: string): string {
  return AGENT_PREFIX + service;
}
