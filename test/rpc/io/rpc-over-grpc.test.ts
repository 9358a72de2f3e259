import { afterEach, describe, expect, it } from 'vitest';
import type { AgentMember, AgentOutput } from '../../../src/overlay/agent.js';
import { GrpcServer } from '../../../src/rpc/io/grpc-server.js';
import { GrpcTransport } from '../../../src/rpc/io/grpc-transport.js';
import { Rpc, type RunningServer } from '../../../src/rpc/rpc.js';
import { bidiStream, defineService, opaque, pipeline, unary } from '../../../src/rpc/service.js';
import { MuteAgent } from '../mute-agent.js';
import { until } from '../transport-ends.js';

/** The whole way, from a typed client to a handler, over real connections that break. */

const shop = defineService('shop', {
  echo: unary({ request: opaque, response: opaque, idempotent: true, balance: 'weighted-random' }),
  put: pipeline({ request: opaque, response: opaque, idempotent: true, balance: 'consistent-hash' }),
  talk: bidiStream({ request: opaque, response: opaque, balance: 'direct' }),
});

/** Members that all nodes of a test see at once. */
class Square {
  readonly members: AgentMember[] = [];
  readonly nodes: Node[] = [];

  tell(output: AgentOutput): void {
    for (const { rpc } of this.nodes) rpc.onAgentOutputs([output]);
  }
}

class SquareAgent extends MuteAgent {
  private readonly square: Square;
  private readonly host: number;

  constructor(name: string, square: Square, host: number) {
    super(name);
    this.square = square;
    this.host = host;
  }

  register(name: string, metadata: Uint8Array): void {
    const left = this.take(name);
    const member = { host: this.host, name, metadata, hlc: this.square.members.length + 1 };
    this.square.members.push(member);
    this.square.tell({ kind: left ? 'member-updated' : 'member-joined', agent: this.name, member });
  }

  deregister(name: string): void {
    const member = this.take(name);
    if (member !== undefined) this.square.tell({ kind: 'member-left', agent: this.name, member });
  }

  members(): readonly AgentMember[] {
    return this.square.members;
  }

  private take(name: string): AgentMember | undefined {
    const { members } = this.square;
    const at = members.findIndex(known => known.host === this.host && known.name === name);
    return at < 0 ? undefined : members.splice(at, 1)[0];
  }
}

class Node {
  readonly rpc: Rpc;
  private readonly grpc: GrpcServer;
  private readonly ticks: NodeJS.Timeout;
  running: RunningServer | undefined;

  private constructor(rpc: Rpc, grpc: GrpcServer) {
    this.rpc = rpc;
    this.grpc = grpc;
    this.ticks = setInterval(() => rpc.tick(), 5);
  }

  static async start(square: Square): Promise<Node> {
    const host = square.nodes.length + 1;
    const late: { rpc?: Rpc } = {};
    const grpc = await GrpcServer.listen(
      {
        unary: (...call) => late.rpc!.endpoint.unary(...call),
        stream: (...call) => late.rpc!.endpoint.stream(...call),
      },
      { host: '127.0.0.1', port: 0 },
    );
    const rpc = new Rpc({
      self: host,
      address: `127.0.0.1:${grpc.port}`,
      version: '1',
      env: {
        clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
        random: { u32: () => Math.floor(Math.random() * 2 ** 32) },
        log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
      },
      transport: new GrpcTransport(),
      overlay: { host: name => new SquareAgent(name, square, host), unhost: () => undefined },
      soon: queueMicrotask,
    });
    late.rpc = rpc;
    const node = new Node(rpc, grpc);
    square.nodes.push(node);
    return node;
  }

  serve(id: string): void {
    this.running = this.rpc.serve(
      shop,
      {
        echo: (request, reply) => reply.done(request),
        put: () => ({ request: (request, reply) => reply.done(request) }),
        talk: writer => ({
          message: message => void writer.send(message),
          ended: () => writer.end(),
        }),
      },
      { id },
    );
  }

  /** Without a word to the others, as by kill -9: the overlay has not noticed yet. */
  die(): Promise<void> {
    clearInterval(this.ticks);
    return this.grpc.close();
  }

  async stop(): Promise<void> {
    this.rpc.close();
    await this.die();
  }

  drain(): Promise<boolean> {
    return new Promise(resolve => {
      this.running!.drain({ graceMs: 50, timeoutMs: 3_000 }, resolve);
    });
  }
}

let square: Square;

async function cluster(nodes: number): Promise<Node[]> {
  square = new Square();
  for (let at = 0; at < nodes; at++) await Node.start(square);
  return square.nodes;
}

afterEach(async () => {
  for (const node of square.nodes) await node.stop();
});

/** Asks again as soon as it is answered; what failed, and the longest time without an answer. */
class Load {
  answered = 0;
  gapMs = 0;
  readonly failures: string[] = [];
  private lastMs = performance.now();
  private isOver = false;
  private open = 0;

  unary(node: Node, window = 16): this {
    const client = node.rpc.client(shop);
    const ask = (): void => {
      this.open++;
      client.echo.call(Buffer.alloc(64, 1), {}, result => this.heard(result, ask));
    };
    for (let at = 0; at < window; at++) ask();
    return this;
  }

  pipelined(node: Node, key: string, window = 64): this {
    const line = node.rpc.client(shop).put.open({ key });
    const send = (): void => {
      this.open++;
      line.send(Buffer.alloc(64, 1), result => this.heard(result, send));
    };
    for (let at = 0; at < window; at++) send();
    return this;
  }

  async stop(): Promise<void> {
    this.isOver = true;
    await until(() => this.open === 0, 'all were answered');
  }

  private heard(result: { kind: string; detail?: string }, again: () => void): void {
    this.open--;
    this.answered++;
    const nowMs = performance.now();
    this.gapMs = Math.max(this.gapMs, nowMs - this.lastMs);
    this.lastMs = nowMs;
    if (result.kind !== 'ok') this.failures.push(`${result.kind}: ${result.detail}`);
    if (!this.isOver) setImmediate(again);
  }
}

describe('calls over gRPC', () => {
  it('find a server, in another process or their own', async () => {
    const [a, b] = (await cluster(2)) as [Node, Node];
    b.serve('b');
    const body = Buffer.from('hello');
    for (const node of [a, b]) {
      const result = await node.rpc.client(shop).echo.ask(body);
      expect(result).toMatchObject({ kind: 'ok' });
    }
    const heard: string[] = [];
    const talk = a.rpc.client(shop).talk.open(
      { key: 'b' },
      {
        message: message => void heard.push(Buffer.from(message).toString()),
        room: () => undefined,
        ended: () => void heard.push('ended'),
        failed: ({ kind }) => void heard.push(kind),
      },
    );
    for (const word of ['one', 'two']) talk.send(Buffer.from(word));
    talk.end();
    await until(() => heard.includes('ended'), 'the end');
    expect(heard).toEqual(['one', 'two', 'ended']);
  });

  it('fail over when a server dies under load: none fails, and nobody waits for a second', async () => {
    const [a, b, c] = (await cluster(3)) as [Node, Node, Node];
    b.serve('b');
    c.serve('c');
    const loads = [new Load().unary(a), ...['k', 'l', 'm', 'n'].map(key => new Load().pipelined(a, key))];
    await until(() => loads.every(load => load.answered > 200), 'all run');
    await b.die();
    const before = loads.map(load => load.answered);
    await until(() => loads.every((load, at) => load.answered > before[at]! + 200), 'all go on');
    for (const load of loads) await load.stop();
    expect(loads.flatMap(load => load.failures)).toEqual([]);
    for (const { gapMs } of loads) expect(gapMs).toBeLessThan(1_000);
  });

  it('do not notice servers that go one after another and come back', async () => {
    const [a, b, c] = (await cluster(3)) as [Node, Node, Node];
    b.serve('b');
    c.serve('c');
    const loads = [new Load().unary(a), new Load().pipelined(a, 'k'), new Load().pipelined(a, 'l')];
    for (const node of [b, c]) {
      expect(await node.drain()).toBe(true);
      node.serve(node === b ? 'b2' : 'c2');
      const before = loads.map(load => load.answered);
      await until(() => loads.every((load, at) => load.answered > before[at]! + 50), 'all go on');
    }
    for (const load of loads) await load.stop();
    expect(loads.flatMap(load => load.failures)).toEqual([]);
  });
});
