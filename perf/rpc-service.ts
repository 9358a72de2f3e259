import type { Env } from '../src/base/env.js';
import type { AgentMember, AgentOutput } from '../src/overlay/agent.js';
import { encodeAnnouncement } from '../src/rpc/announcement.js';
import type { Handlers } from '../src/rpc/handler.js';
import { type AgentHost, Rpc } from '../src/rpc/rpc.js';
import { bidiStream, defineService, opaque, pipeline, unary } from '../src/rpc/service.js';
import type { RpcTransport } from '../src/rpc/transport.js';
import { MuteAgent } from '../test/rpc/mute-agent.js';
import { CHUNK_BYTES } from './rpc-scenarios.js';

/** What is measured: bytes in, the same bytes out; and streams of chunks that somebody throws away. */
export const bench = defineService('bench', {
  echo: unary({ request: opaque, response: opaque, balance: 'weighted-round-robin' }),
  batched: pipeline({ request: opaque, response: opaque, balance: 'consistent-hash' }),
  up: bidiStream({ request: opaque, response: opaque, balance: 'weighted-random' }),
  down: bidiStream({ request: opaque, response: opaque, balance: 'weighted-random' }),
});

type Bench = typeof bench.methods;

export const SERVER_ID = 'bench-1';

export const handlers: Handlers<Bench> = {
  echo: (request, reply) => reply.done(request),
  batched: () => ({ request: (request, reply) => reply.done(request) }),
  up: () => ({ message: () => undefined }),
  down: writer => {
    const chunk = Buffer.alloc(CHUNK_BYTES, 7);
    let isOpen = true;
    const more = () => {
      while (isOpen && writer.send(chunk)) {}
    };
    return {
      message: more,
      room: more,
      closed: () => {
        isOpen = false;
      },
    };
  },
};

/** An agent of one member, who is known from the start, or registers here. */
class SmallAgent extends MuteAgent {
  private known: readonly AgentMember[];
  private readonly tell: (output: AgentOutput) => void;

  constructor(name: string, known: readonly AgentMember[], tell: (output: AgentOutput) => void) {
    super(name);
    this.known = known;
    this.tell = tell;
  }

  members(): readonly AgentMember[] {
    return this.known;
  }

  register(name: string, metadata: Uint8Array): void {
    const joined = { host: SERVER_HOST, name, metadata, hlc: 1 };
    this.known = [joined];
    this.tell({ kind: 'member-joined', agent: this.name, member: joined });
  }

  deregister(): void {}
}

const SERVER_HOST = 1;

function member(address: string): AgentMember {
  const announcement = {
    id: SERVER_ID,
    address,
    groups: [],
    attributes: {},
    version: 'perf',
    draining: false,
  };
  return { host: SERVER_HOST, name: SERVER_ID, metadata: encodeAnnouncement(announcement), hlc: 1 };
}

const env: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
  random: { u32: () => Math.floor(Math.random() * 0x1_0000_0000) },
  log: { debug: ignore, info: ignore, warn: ignore, error: ignore },
};

function ignore(): void {}

const TICK_MS = 5;

/** Host 1 serves, host 2 calls; or host 1 does both. */
export function makeRpc(self: 1 | 2, transport: RpcTransport, serverAddress: string): Rpc {
  const overlay: AgentHost = {
    host: name => {
      const known = self === SERVER_HOST ? [] : [member(serverAddress)];
      return new SmallAgent(name, known, output => rpc.onAgentOutputs([output]));
    },
    unhost: ignore,
  };
  const rpc: Rpc = new Rpc({
    self,
    address: self === 1 ? serverAddress : '127.0.0.1:1',
    version: 'perf',
    env,
    transport,
    overlay,
    soon: queueMicrotask,
    later: run => void setImmediate(run),
  });
  setInterval(() => rpc.tick(), TICK_MS).unref();
  return rpc;
}
