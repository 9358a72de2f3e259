import { type ChannelOptions, experimental } from '@grpc/grpc-js';

type Listener = experimental.ResolverListener;
type Endpoints = Parameters<Listener>[0];
type Target = experimental.GrpcUri;

const SCHEME = 'shoalmq';
const SIGNAL_KEY = 'shoalmq.abort';

/**
 * Addresses whose sockets can be taken back. gRPC forgets the socket of an attempt that it gives up: to a host that
 * takes no connection it stays until the kernel tires, minutes later; to one that takes it and never speaks, for ever.
 * gRPC hands the addresses of a resolver to `net.connect` as they are, and that takes a signal.
 */
class AbortableResolver implements experimental.Resolver {
  private readonly inner: experimental.Resolver;

  constructor({ path }: Target, listener: Listener, options: ChannelOptions) {
    const signal = options[SIGNAL_KEY] as AbortSignal;
    const abortable: Listener = (endpoints, ...more) => listener(withSignal(endpoints, signal), ...more);
    this.inner = experimental.createResolver({ scheme: 'dns', path }, abortable, options);
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

experimental.registerResolver(SCHEME, AbortableResolver);

function withSignal(endpoints: Endpoints, signal: AbortSignal): Endpoints {
  if (!endpoints.ok) return endpoints;
  const all = endpoints.value.map(endpoint => ({
    addresses: endpoint.addresses.map(address => ({ ...address, signal })),
  }));
  return experimental.statusOrFromValue(all);
}

/** What a channel to `host:port` is made of, so that `signal` destroys its sockets at whatever they are. */
export function dialled(
  address: string,
  signal: AbortSignal,
  options: ChannelOptions,
): { target: string; options: ChannelOptions } {
  return { target: `${SCHEME}:${address}`, options: { ...options, [SIGNAL_KEY]: signal } };
}
