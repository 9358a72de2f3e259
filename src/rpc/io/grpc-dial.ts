import { type ChannelOptions, experimental } from '@grpc/grpc-js';

type Listener = experimental.ResolverListener;
type Endpoints = Parameters<Listener>[0];
type Address = experimental.SubchannelAddress;
type Target = experimental.GrpcUri;

const SCHEME = 'shoalmq';
const DIAL_KEY = 'shoalmq.dial';

/**
 * The sockets of one channel of gRPC. It forgets those of an attempt that it gives up: to a host that takes no
 * connection they stay until the kernel tires, minutes later; to one that takes it and never speaks, for ever. And a
 * second after an attempt that has failed it makes another one, even if the channel is closed.
 */
export class Dial {
  private readonly sockets = new AbortController();
  private isOver = false;

  /** No more of them. */
  end(): void {
    this.isOver = true;
  }

  /** Nor those that there are. */
  breakOff(): void {
    this.isOver = true;
    this.sockets.abort();
  }

  /** What a channel to `host:port` is made of, so that its sockets are these. */
  to(address: string, options: ChannelOptions): { target: string; options: ChannelOptions } {
    return { target: `${SCHEME}:${address}`, options: { ...options, [DIAL_KEY]: this } };
  }

  /** gRPC hands addresses of a resolver as they are to `net.connect`, which reads the signal when it makes the socket. */
  own(address: Address): Address {
    const dial = this;
    return {
      ...address,
      get signal(): AbortSignal {
        if (dial.isOver) throw new Error('the channel is closed');
        return dial.sockets.signal;
      },
    } as Address;
  }
}

class DiallingResolver implements experimental.Resolver {
  private readonly inner: experimental.Resolver;

  constructor({ path }: Target, listener: Listener, options: ChannelOptions) {
    const dial = options[DIAL_KEY] as Dial;
    const owned: Listener = (endpoints, ...more) => listener(ownedBy(dial, endpoints), ...more);
    this.inner = experimental.createResolver({ scheme: 'dns', path }, owned, options);
  }

  static getDefaultAuthority({ path }: Target): string {
    return path;
  }

  updateResolution(): void {
    this.inner.updateResolution();
  }

  destroy(): void {
    this.inner.destroy();
  }
}

experimental.registerResolver(SCHEME, DiallingResolver);

function ownedBy(dial: Dial, endpoints: Endpoints): Endpoints {
  if (!endpoints.ok) return endpoints;
  const all = endpoints.value.map(({ addresses }) => ({
    addresses: addresses.map(address => dial.own(address)),
  }));
  return experimental.statusOrFromValue(all);
}
