import { type RpcFailure, rpcFailure } from '../../src/rpc/failure.js';
import type {
  Call,
  CallContext,
  RpcChannel,
  RpcTransport,
  StreamCall,
  StreamSink,
  UnarySink,
} from '../../src/rpc/transport.js';
import type { Node, World } from './world.js';

/** Messages of one direction of a stream that are on their way. */
const WINDOW = 8;

/** Something open on a connection. */
interface Open {
  /** The connection is no more; whether the other side had heard of it or not. */
  broken(failure: RpcFailure): void;
  /** The connection stands: what was to be sent goes out. */
  connected(): void;
}

/** Connections between nodes: they delay, reorder calls, break, refuse, and let a frozen node hang. */
export class Network {
  readonly world: World;
  private readonly delayMs: number;
  readonly channels = new Set<NetworkChannel>();
  /** Addresses that refuse connections. */
  readonly refusing = new Set<string>();
  /** Requests handed to an endpoint, in all. */
  delivered = 0;

  constructor(world: World, delayMs: number) {
    this.world = world;
    this.delayMs = delayMs;
  }

  transport(node: Node): RpcTransport {
    return {
      open: address => {
        const channel = new NetworkChannel(address, node, this);
        this.channels.add(channel);
        return channel;
      },
    };
  }

  delay(): number {
    return this.delayMs * (0.1 + 0.9 * (this.world.random.u32() / 0x1_0000_0000));
  }

  /** Breaks every connection from and to the node. */
  breakAll(node: Node, _when: 'now'): void {
    for (const channel of [...this.channels])
      if (channel.from === node || channel.address === node.address) channel.break();
  }

  /** Breaks some connection, if there is one. */
  breakSome(): void {
    const up = [...this.channels].filter(channel => channel.isUp);
    if (up.length > 0) up[this.world.random.below(up.length)]!.break();
  }
}

class NetworkChannel implements RpcChannel {
  readonly address: string;
  readonly from: Node;
  readonly network: Network;
  onState: ((connected: boolean) => void) | undefined = undefined;
  isUp = false;
  private isConnecting = false;
  private isClosed = false;
  readonly open = new Set<Open>();

  constructor(address: string, from: Node, network: Network) {
    this.address = address;
    this.from = from;
    this.network = network;
  }

  connect(): void {
    if (this.isUp || this.isConnecting || this.isClosed) return;
    this.isConnecting = true;
    const { world } = this.network;
    world.after(this.network.delay(), () => {
      if (this.isClosed) return;
      this.isConnecting = false;
      const isGood = world.node(this.address) !== undefined && !this.network.refusing.has(this.address);
      this.isUp = isGood;
      this.onState?.(isGood);
      if (isGood) for (const each of [...this.open]) each.connected();
      else this.failAll(rpcFailure('unavailable', `${this.address} refuses`));
    });
  }

  /** The callers hear of it in a later event, as a transport must do. */
  break(): void {
    if (!this.isUp) return;
    this.isUp = false;
    const broken = [...this.open];
    this.open.clear();
    this.network.world.after(0, () => {
      this.onState?.(false);
      for (const each of broken) each.broken(rpcFailure('unknown-outcome', `${this.address} broke`));
    });
  }

  unary(method: string, body: Uint8Array, context: CallContext, sink: UnarySink): Call {
    const call = new NetworkUnary(this, method, body, context, sink);
    this.begin(call);
    return call;
  }

  stream(method: string, context: CallContext, sink: StreamSink): StreamCall {
    const stream = new NetworkStream(this, method, context, sink);
    this.begin(stream);
    return stream;
  }

  close(): void {
    this.isClosed = true;
    this.network.channels.delete(this);
    this.network.world.after(0, () => this.failAll(rpcFailure('unknown-outcome', 'closed')));
  }

  /** The node at the other end, when it is able to take something in. */
  get peer(): Node | undefined {
    return this.network.world.node(this.address);
  }

  private begin(open: Open): void {
    this.open.add(open);
    if (this.isUp) open.connected();
    else this.connect();
  }

  private failAll(failure: RpcFailure): void {
    const all = [...this.open];
    this.open.clear();
    for (const each of all) each.broken(failure);
  }
}

/** Runs at the peer after a while, once it is not frozen; never if it is dead. */
function atNode(node: () => Node | undefined, network: Network, run: () => void): void {
  const attempt = () => {
    const there = node();
    if (there === undefined || !there.isAlive) return;
    if (there.isFrozen) network.world.after(50, attempt);
    else run();
  };
  network.world.after(network.delay(), attempt);
}

class NetworkUnary implements Open, Call {
  private isOver = false;
  private isSent = false;
  private remote: Call | undefined;
  private readonly channel: NetworkChannel;
  private readonly method: string;
  private readonly body: Uint8Array;
  private readonly context: CallContext;
  private readonly sink: UnarySink;

  constructor(
    channel: NetworkChannel,
    method: string,
    body: Uint8Array,
    context: CallContext,
    sink: UnarySink,
  ) {
    this.channel = channel;
    this.method = method;
    this.body = body;
    this.context = context;
    this.sink = sink;
  }

  connected(): void {
    if (this.isSent) return;
    this.isSent = true;
    const { channel } = this;
    const { network } = channel;
    const answer = (tell: () => void) =>
      atNode(
        () => channel.from,
        network,
        () => {
          if (this.isOver) return;
          this.end();
          tell();
        },
      );
    atNode(
      () => channel.peer,
      network,
      () => {
        // What was on its way when the connection broke arrives or not.
        if (this.isOver && network.world.random.chance(0.5)) return;
        network.delivered++;
        this.remote = channel.peer!.rpc.endpoint.unary(this.method, this.body, this.context, {
          done: body => answer(() => this.sink.done(body)),
          failed: failure => answer(() => this.sink.failed(failure)),
        });
      },
    );
  }

  broken(failure: RpcFailure): void {
    if (this.isOver) return;
    this.cancel();
    this.sink.failed(failure);
  }

  cancel(): void {
    this.end();
    const { channel } = this;
    atNode(
      () => channel.peer,
      channel.network,
      () => this.remote?.cancel(),
    );
  }

  private end(): void {
    this.isOver = true;
    this.channel.open.delete(this);
  }
}

/** One direction: in order, with a window. */
class Lane {
  private onTheWay = 0;
  private lastMs = 0;
  private isFull = false;
  private isHeld = false;
  private readonly held: (() => void)[] = [];
  private readonly network: Network;
  private readonly to: () => Node | undefined;
  private readonly room: () => void;

  constructor(network: Network, to: () => Node | undefined, room: () => void) {
    this.network = network;
    this.to = to;
    this.room = room;
  }

  push(run: () => void): boolean {
    this.onTheWay++;
    const { world } = this.network;
    const atMs = Math.max(this.lastMs, world.nowMs + this.network.delay());
    this.lastMs = atMs;
    world.after(atMs - world.nowMs, () => this.arrive(run));
    this.isFull ||= this.onTheWay >= WINDOW;
    return !this.isFull;
  }

  hold(): void {
    this.isHeld = true;
  }

  release(): void {
    this.isHeld = false;
    while (!this.isHeld && this.held.length > 0) this.deliver(this.held.shift()!);
  }

  private arrive(run: () => void): void {
    const there = this.to();
    if (there === undefined || !there.isAlive) return;
    if (there.isFrozen) this.network.world.after(50, () => this.arrive(run));
    else if (this.isHeld || this.held.length > 0) this.held.push(run);
    else this.deliver(run);
  }

  private deliver(run: () => void): void {
    run();
    this.onTheWay--;
    if (!this.isFull || this.onTheWay > WINDOW / 2) return;
    this.isFull = false;
    this.room();
  }
}

class NetworkStream implements Open, StreamCall {
  private isOver = false;
  private isOpen = false;
  private remote: StreamCall | undefined;
  private readonly channel: NetworkChannel;
  private readonly method: string;
  private readonly context: CallContext;
  private readonly sink: StreamSink;
  private readonly early: (() => void)[] = [];
  private readonly up: Lane;
  private readonly down: Lane;

  constructor(channel: NetworkChannel, method: string, context: CallContext, sink: StreamSink) {
    this.channel = channel;
    this.method = method;
    this.context = context;
    this.sink = sink;
    const { network, from } = channel;
    this.up = new Lane(
      network,
      () => channel.peer,
      () => {
        if (!this.isOver) sink.room();
      },
    );
    this.down = new Lane(
      network,
      () => from,
      () => this.remote?.resume(),
    );
  }

  connected(): void {
    if (this.isOpen) return;
    this.isOpen = true;
    this.up.push(() => this.accept());
    for (const write of this.early.splice(0)) this.up.push(write);
  }

  write(body: Uint8Array): boolean {
    return this.transmit(() => {
      if (this.remote?.write(body) === false) this.up.hold();
    });
  }

  end(): void {
    this.transmit(() => this.remote?.end());
  }

  pause(): void {
    this.down.hold();
  }

  resume(): void {
    this.down.release();
  }

  cancel(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.channel.open.delete(this);
    const { channel } = this;
    atNode(
      () => channel.peer,
      channel.network,
      () => this.remote?.cancel(),
    );
  }

  broken(failure: RpcFailure): void {
    if (this.isOver) return;
    this.cancel();
    this.sink.failed(failure);
  }

  private transmit(run: () => void): boolean {
    if (this.isOver) return true;
    const { random } = this.channel.network.world;
    const unlessLost = () => {
      if (!this.isOver || random.chance(0.5)) run();
      // In order or not at all: what follows a loss is lost.
      else this.remote = undefined;
    };
    if (this.isOpen) return this.up.push(unlessLost);
    this.early.push(unlessLost);
    return this.early.length < WINDOW;
  }

  private accept(): void {
    if (this.isOver) return;
    this.channel.network.delivered++;
    const unlessOver = (run: () => void) => {
      if (!this.isOver) run();
    };
    const finish = (tell: () => void) =>
      this.down.push(() =>
        unlessOver(() => {
          this.isOver = true;
          this.channel.open.delete(this);
          tell();
        }),
      );
    this.remote = this.channel.peer!.rpc.endpoint.stream(this.method, this.context, {
      message: body => {
        if (!this.down.push(() => unlessOver(() => this.sink.message(body)))) this.remote?.pause();
      },
      room: () => this.up.release(),
      ended: () => finish(() => this.sink.ended()),
      failed: failure => finish(() => this.sink.failed(failure)),
    });
  }
}
