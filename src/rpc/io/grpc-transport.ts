import { Channel, type ChannelOptions, connectivityState, credentials, type Metadata } from '@grpc/grpc-js';
import { type RpcFailure, rpcFailure } from '../failure.js';
import type {
  Call,
  CallContext,
  RpcChannel,
  RpcTransport,
  StreamCall,
  StreamSink,
  UnarySink,
} from '../transport.js';
import { Dial } from './grpc-dial.js';
import { type CallOwner, type OutgoingCall, OutgoingStream, OutgoingUnary } from './grpc-outgoing.js';
import type { GrpcTls } from './grpc-tls.js';
import {
  DEADLINE_MS_MAX,
  DestinationHeaders,
  GRPC_LIMITS,
  type GrpcLimits,
  pingTimeoutMs,
  STREAM_PATH,
  UNARY_PATH,
} from './grpc-wire.js';

export interface GrpcTransportOptions {
  /** Absent: in the clear. */
  readonly tls?: GrpcTls | undefined;
  readonly limits?: Partial<GrpcLimits> | undefined;
  /** Calls of one channel that have not ended; further ones are `throttled`. Default 65,536. */
  readonly callsMax?: number | undefined;
  /** Of an attempt to connect, with TLS and HTTP/2 (default 3,000); the kernel alone would try for minutes. */
  readonly connectTimeoutMs?: number | undefined;
}

const CALLS_MAX = 65_536;

const CONNECT_TIMEOUT_MS = 3_000;

/**
 * Cancelled calls that may be reset on a connection. HTTP/2 servers close one on which more is reset, since that is how
 * they are attacked (Node's: 1,000 at once, 33 a second).
 */
const RESETS_BURST = 500;
const RESETS_PER_MS = 0.016;

/** Window of one stream and of one connection towards the client, bytes: what may be under way unread. */
const WINDOW_BYTES = 1_048_576;

/** Calls over gRPC. Addresses are `host:port`; a host that is a name is looked up at each attempt to connect. */
export class GrpcTransport implements RpcTransport {
  private readonly setting: ChannelSetting;

  constructor(options: GrpcTransportOptions = {}) {
    this.setting = {
      tls: options.tls,
      limits: { ...GRPC_LIMITS, ...options.limits },
      callsMax: options.callsMax ?? CALLS_MAX,
      connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      headers: new DestinationHeaders(),
    };
  }

  open(address: string): RpcChannel {
    return new GrpcChannel(address, this.setting);
  }
}

interface ChannelSetting {
  readonly tls: GrpcTls | undefined;
  readonly limits: GrpcLimits;
  readonly callsMax: number;
  readonly connectTimeoutMs: number;
  readonly headers: DestinationHeaders;
}

function channelOptions(limits: GrpcLimits): ChannelOptions {
  const { messageBytesMax, keepAliveMs } = limits;
  return {
    'grpc.max_send_message_length': -1,
    'grpc.max_receive_message_length': messageBytesMax,
    'grpc.keepalive_time_ms': keepAliveMs,
    'grpc.keepalive_timeout_ms': pingTimeoutMs(limits),
    'grpc.keepalive_permit_without_calls': 1,
    // A retry is the business of those who know whether the method is idempotent.
    'grpc.enable_retries': 0,
    // With room for retries, a message would count as taken before HTTP/2 has taken it.
    'grpc.per_rpc_retry_buffer_size': 0,
    // Else a new attempt would find the connection and the back-off of the one before.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.client_idle_timeout_ms': 2 ** 31 - 1,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
    // Names in certificates do not matter (grpc-tls.ts), and an IP address is none that TLS may be told.
    'grpc.ssl_target_name_override': 'shoalmq',
    'grpc-node.flow_control_window': WINDOW_BYTES,
  };
}

/**
 * One address. gRPC's channel makes its own attempts, at times of its own and untold; so one of those serves for one
 * attempt and one connection, and is let go when that fails or breaks.
 */
class GrpcChannel implements RpcChannel, CallOwner {
  readonly address: string;
  readonly messageBytesMax: number;
  readonly streamBufferBytes: number;
  target = '';
  onState: ((connected: boolean) => void) | undefined;
  private readonly setting: ChannelSetting;
  private readonly running = new Set<OutgoingCall>();
  private link: Channel | undefined;
  /** Of `link`. */
  private dial = new Dial();
  private isConnected = false;
  private isClosed = false;
  private resets = RESETS_BURST;
  private resetsMs = 0;

  constructor(address: string, setting: ChannelSetting) {
    this.address = address;
    this.setting = setting;
    this.messageBytesMax = setting.limits.messageBytesMax;
    this.streamBufferBytes = setting.limits.streamBufferBytes;
  }

  connect(): void {
    if (!this.isClosed && this.link === undefined) this.open();
  }

  unary(method: string, body: Uint8Array, context: CallContext, sink: UnarySink): Call {
    const link = this.admit();
    if (!(link instanceof Channel)) return refused(link, sink);
    const call = new OutgoingUnary(grpcCall(link, UNARY_PATH), this, sink);
    this.running.add(call);
    const headers = this.setting.headers.of(method, context, Number.POSITIVE_INFINITY);
    call.start(withTimeout(headers, context.deadlineMs), body);
    return call;
  }

  stream(method: string, context: CallContext, sink: StreamSink): StreamCall {
    const link = this.admit();
    if (!(link instanceof Channel)) return refused(link, sink);
    const call = new OutgoingStream(grpcCall(link, STREAM_PATH), this, sink);
    this.running.add(call);
    call.start(this.setting.headers.of(method, context, context.deadlineMs));
    return call;
  }

  ended(call: OutgoingCall): void {
    this.running.delete(call);
  }

  mayReset(): boolean {
    const nowMs = performance.now();
    this.resets = Math.min(this.resets + (nowMs - this.resetsMs) * RESETS_PER_MS, RESETS_BURST);
    this.resetsMs = nowMs;
    if (this.resets < 1) return false;
    this.resets--;
    return true;
  }

  /** Running calls fail: `unknown-outcome` if they were sent. Later ones are `unavailable`. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const call of this.running) call.drop();
    const { link, dial, isConnected } = this;
    this.link = undefined;
    link?.close();
    // What stands is closed in good order: cancelled calls are reset, the server hears a goodbye.
    if (isConnected) dial.end();
    else dial.breakOff();
  }

  private admit(): Channel | RpcFailure {
    if (this.isClosed) return rpcFailure('unavailable', `${this.address}: the channel is closed`);
    if (this.running.size >= this.setting.callsMax)
      return rpcFailure('throttled', `${this.address}: ${this.running.size} calls are under way`);
    return this.link ?? this.open();
  }

  private open(): Channel | RpcFailure {
    const { tls, limits } = this.setting;
    const identity = tls?.credentials() ?? credentials.createInsecure();
    this.dial = new Dial();
    const { target, options } = this.dial.to(this.address, channelOptions(limits));
    let link: Channel;
    try {
      link = new Channel(target, identity, options);
    } catch (error) {
      // Addresses are what others announce.
      process.nextTick(() => this.onState?.(false));
      return rpcFailure('unavailable', `${this.address}: ${(error as Error).message}`);
    }
    this.target = link.getTarget();
    this.link = link;
    link.getConnectivityState(true);
    this.follow(link);
    const timer = setTimeout(() => {
      if (link === this.link && !this.isConnected) this.letGo(link);
    }, this.setting.connectTimeoutMs);
    timer.unref();
    return link;
  }

  private follow(link: Channel): void {
    const state = link.getConnectivityState(false);
    link.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => this.changed(link));
  }

  private changed(link: Channel): void {
    if (link !== this.link) return;
    switch (link.getConnectivityState(false)) {
      case connectivityState.READY:
        this.isConnected = true;
        this.follow(link);
        this.onState?.(true);
        return;
      case connectivityState.TRANSIENT_FAILURE:
        return this.letGo(link);
      case connectivityState.IDLE:
        if (this.isConnected) return this.letGo(link);
    }
    this.follow(link);
  }

  /** Calls that run on a connection which the server closes in good order still end there. */
  private letGo(link: Channel): void {
    const { dial, isConnected } = this;
    this.link = undefined;
    this.isConnected = false;
    dial.end();
    // Later: gRPC is in the middle of telling its parts, and calls that wait for this attempt are told why it failed.
    setImmediate(() => {
      link.close();
      if (!isConnected) dial.breakOff();
    });
    this.onState?.(false);
  }
}

function grpcCall(link: Channel, path: string): ReturnType<Channel['createCall']> {
  return link.createCall(path, Number.POSITIVE_INFINITY, null, null, null);
}

/** For the server, which ends the call then. Here the core keeps it: gRPC would reset each call that is late. */
function withTimeout(headers: Metadata, deadlineMs: number): Metadata {
  if (deadlineMs > DEADLINE_MS_MAX) return headers;
  const own = headers.clone();
  // Eight digits at most.
  const ms = Math.max(Math.ceil(deadlineMs), 0);
  own.set('grpc-timeout', ms < 1e8 ? `${ms}m` : `${Math.ceil(ms / 1_000)}S`);
  return own;
}

function nothing(): void {}

/** A call that was over before it began. */
function refused(failure: RpcFailure, sink: { failed(failure: RpcFailure): void }): StreamCall {
  let isCancelled = false;
  process.nextTick(() => {
    if (!isCancelled) sink.failed(failure);
  });
  const cancel = () => {
    isCancelled = true;
  };
  return { cancel, write: () => true, pause: nothing, resume: nothing, end: nothing };
}
