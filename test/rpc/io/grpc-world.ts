import { GrpcServer } from '../../../src/rpc/io/grpc-server.js';
import { GrpcTls } from '../../../src/rpc/io/grpc-tls.js';
import { GrpcTransport } from '../../../src/rpc/io/grpc-transport.js';
import type { GrpcLimits } from '../../../src/rpc/io/grpc-wire.js';
import type { RpcChannel, RpcEndpoint } from '../../../src/rpc/transport.js';
import type { StreamTls } from '../../../src/underlay/io/stream-tls.js';
import type { RpcWorld } from '../transport-contract.js';

export const MESSAGE_BYTES_MAX = 1 << 20;

/** A gRPC server on a port of the loopback, and channels to it. */
export class GrpcWorld implements RpcWorld {
  readonly messageBytesMax = MESSAGE_BYTES_MAX;
  server!: GrpcServer;
  readonly channels: RpcChannel[] = [];
  private readonly tls: StreamTls | undefined;
  private readonly limits: Partial<GrpcLimits>;

  constructor(tls?: StreamTls, limits: Partial<GrpcLimits> = {}) {
    this.tls = tls;
    this.limits = { messageBytesMax: MESSAGE_BYTES_MAX, ...limits };
  }

  async listen(endpoint: RpcEndpoint, port = 0): Promise<GrpcServer> {
    const { tls, limits } = this;
    this.server = await GrpcServer.listen(endpoint, { host: '127.0.0.1', port, tls, limits });
    return this.server;
  }

  open(port = this.server.port, tls = this.tls && new GrpcTls(this.tls)): RpcChannel {
    const transport = new GrpcTransport({ tls, limits: this.limits });
    const channel = transport.open(`127.0.0.1:${port}`);
    this.channels.push(channel);
    return channel;
  }

  async connect(endpoint: RpcEndpoint): Promise<RpcChannel> {
    await this.listen(endpoint);
    return this.open();
  }

  async close(): Promise<void> {
    for (const channel of this.channels) channel.close();
    await this.server?.close();
  }
}
