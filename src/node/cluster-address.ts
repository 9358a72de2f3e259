import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Log } from '../base/env.js';
import { ShoalError } from '../base/errors.js';
import { formatAddress, parseAddress } from '../underlay/io/address.js';
import type { Address } from '../underlay/message.js';
import { advertised, isWildcard } from './cluster-config.js';
import type { Config } from './config.js';
import { isLoopback } from './security.js';

/** Seeds that are asked for the way to them. */
const SEEDS_TRIED_MAX = 4;

/**
 * The address that this host tells the others: `cluster.advertise`, or what is bound; where all addresses are bound,
 * the one from which packets to a seed leave (the kernel knows it, nothing is sent), or else the first that is not
 * loopback.
 *
 * @throws ShoalError SHOAL_CLUSTER_ADDRESS when there is none.
 */
export async function advertisedAddress({ cluster }: Config, log: Log): Promise<Address> {
  const { host, port, advertise } = cluster;
  if (advertise !== undefined) {
    const target = advertised(advertise, port)!;
    return formatAddress(target.host, target.port);
  }
  if (!isWildcard(host)) return formatAddress(host.replace(/^\[(.*)\]$/, '$1'), port);
  const family = host === '0.0.0.0' ? 4 : 0;
  for (const seed of cluster.seeds.slice(0, SEEDS_TRIED_MAX)) {
    const own = await sourceTowards(seed, family);
    if (own !== undefined && !isLoopback(own)) return formatAddress(own, port);
  }
  const [first, ...others] = outerAddresses(family);
  if (first === undefined) {
    throw new ShoalError(
      'SHOAL_CLUSTER_ADDRESS',
      `cluster.host is ${host}, and this machine has no address but loopback that others could reach`,
    );
  }
  if (others.length > 0) {
    const fields = { advertised: formatAddress(first, port), others };
    log.warn(
      fields,
      'this machine has several addresses; set cluster.advertise if the others need another one',
    );
  }
  return formatAddress(first, port);
}

function outerAddresses(family: 4 | 0): string[] {
  return Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
    .map(({ address }) => address)
    .filter(address => family === 0 || isIP(address) === family)
    .sort((left, right) => isIP(left) - isIP(right));
}

/** The own address on the way to a seed; undefined when its name does not resolve, or there is no way. */
async function sourceTowards(seed: string, family: 4 | 0): Promise<string | undefined> {
  const name = parseAddress(seed)?.host ?? seed;
  try {
    const target = await lookup(name, { family });
    return await sourceOf(target.address, target.family === 6 ? 'udp6' : 'udp4');
  } catch {
    return undefined;
  }
}

function sourceOf(ip: string, type: 'udp4' | 'udp6'): Promise<string | undefined> {
  const socket = createSocket(type);
  return new Promise(resolve => {
    const finish = (own: string | undefined) => {
      socket.close();
      resolve(own);
    };
    socket.once('error', () => finish(undefined));
    socket.connect(9, ip, () => finish(socket.address().address));
  });
}
