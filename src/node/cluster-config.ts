import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { ShoalError } from '../base/errors.js';
import { formatAddress, type HostPort, parseAddress } from '../underlay/io/address.js';
import { isClusterKey } from '../underlay/io/cluster-key.js';
import { isSeed } from '../underlay/io/resolve.js';
import { CLUSTER_KEYS_MAX } from '../underlay/io/seal.js';
import type { StreamTls } from '../underlay/io/stream-tls.js';
import type { Config } from './config.js';
import { isLoopback } from './security.js';

/** The rules of `cluster.*`, `rpc.*` and `admin.*` that no single key can tell. */

type ClusterKeyName = `cluster.${'key' | 'previousKey' | 'keyFile' | 'previousKeyFile'}`;

/** Any of these says that the node is meant for a cluster. */
const SIGNS = ['seeds', 'key', 'keyFile', 'host', 'port', 'advertise'];

/** A file of more than two lines of text is not the one that was meant. */
const KEY_FILE_BYTES_MAX = 4_096;

const SEED_FORMS = 'host:port, a DNS name, or an SRV name such as _shoalmq._udp.example.org';

/** Replaces `auto` by what it means, in place, and checks the section. `sourceOf` is undefined for defaults. */
export function resolveCluster(
  config: Config,
  sourceOf: (key: string) => string | undefined,
  faults: string[],
): void {
  const { cluster, admin } = config;
  if (cluster.enabled === 'auto')
    cluster.enabled = SIGNS.some(name => sourceOf(`cluster.${name}`) !== undefined);
  if (admin.enabled === 'auto') admin.enabled = cluster.enabled;
  const from = (key: string) => `(from ${sourceOf(key) ?? 'the default'})`;
  for (const seed of cluster.seeds) {
    if (isSeed(seed)) continue;
    faults.push(
      `cluster.seeds has ${JSON.stringify(seed).slice(0, 100)} ${from('cluster.seeds')}, allowed is ${SEED_FORMS}`,
    );
  }
  if (cluster.advertise !== undefined && advertised(cluster.advertise, cluster.port) === undefined) {
    const shown = JSON.stringify(cluster.advertise).slice(0, 100);
    faults.push(
      `cluster.advertise is ${shown} ${from('cluster.advertise')}, allowed is a host or host:port that others can reach`,
    );
  }
  for (const name of ['key', 'previousKey'] as const) {
    if (cluster[name] !== undefined && cluster[`${name}File`] !== undefined)
      faults.push(`cluster.${name} and cluster.${name}File are both set, allowed is one of them`);
  }
  if (!hasKey(config) && (cluster.previousKey ?? cluster.previousKeyFile) !== undefined)
    faults.push('cluster.previousKey is set without cluster.key, allowed is both or cluster.key alone');
  resolveRpc(config);
  for (const section of ['cluster', 'rpc'] as const) {
    const { certFile, keyFile, caFile } = config[section].tls;
    if (
      (certFile === undefined) !== (keyFile === undefined) ||
      (caFile !== undefined && certFile === undefined)
    )
      faults.push(`${section}.tls wants certFile and keyFile together, and caFile only with them`);
  }
  if (cluster.probeTimeoutMs >= cluster.probeIntervalMs) {
    faults.push(
      `cluster.probeTimeoutMs is ${cluster.probeTimeoutMs} ${from('cluster.probeTimeoutMs')}, allowed is less than cluster.probeIntervalMs (${cluster.probeIntervalMs})`,
    );
  }
}

/** Calls go where gossip goes, and under the same certificates, unless something else is said. */
function resolveRpc({ cluster, rpc }: Config): void {
  if (rpc.host === 'auto') rpc.host = cluster.host;
  if (Object.values(rpc.tls).every(file => file === undefined)) rpc.tls = { ...cluster.tls };
}

/** What `cluster.advertise` says; undefined when it is no address, or one that means another thing elsewhere. */
export function advertised(text: string, port: number): HostPort | undefined {
  const bare = isIP(text) !== 0 || !/[:\s[\]]/.test(text);
  const target = parseAddress(bare ? formatAddress(text, port) : text);
  return target === undefined || isWildcard(target.host) ? undefined : target;
}

/** Addresses that stand for all of this machine's. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::' || host === '::0';
}

export function isClustered(config: Config): boolean {
  return config.cluster.enabled === true;
}

function hasKey({ cluster }: Config): boolean {
  return (cluster.key ?? cluster.keyFile) !== undefined;
}

/**
 * Refuses to let strangers into the cluster by accident.
 *
 * @throws ShoalError SHOAL_INSECURE_CLUSTER.
 */
export function assertSecureCluster(config: Config): void {
  const { host, port, insecure } = config.cluster;
  if (!isClustered(config) || isLoopback(host) || hasKey(config) || insecure) return;
  throw new ShoalError(
    'SHOAL_INSECURE_CLUSTER',
    `cluster.host would let anybody who reaches ${formatAddress(host, port)} into the cluster without a key`,
  );
}

/**
 * The same for calls between nodes: `cluster.key` does not cover them, only an authority keeps strangers out.
 *
 * @throws ShoalError SHOAL_INSECURE_RPC.
 */
export function assertSecureRpc(config: Config): void {
  const { host, port, tls } = config.rpc;
  if (!isClustered(config) || isLoopback(host) || tls.caFile !== undefined || config.cluster.insecure) return;
  throw new ShoalError(
    'SHOAL_INSECURE_RPC',
    `rpc.host would let anybody who reaches ${formatAddress(host, port)} call this node: rpc.tls has no caFile`,
  );
}

/**
 * The keys, the sealing one first; none when packets travel in the clear. A file may hold two, one in a line.
 *
 * @throws ShoalError SHOAL_CLUSTER_KEY naming the key or file, never what is in it.
 */
export function readClusterKeys({ cluster }: Config): string[] {
  const keys = [
    ...readKeys('cluster.key', cluster.key, 'cluster.keyFile', cluster.keyFile),
    ...readKeys(
      'cluster.previousKey',
      cluster.previousKey,
      'cluster.previousKeyFile',
      cluster.previousKeyFile,
    ),
  ];
  if (keys.length <= CLUSTER_KEYS_MAX) return keys;
  const { keyFile = 'cluster.key', previousKeyFile } = cluster;
  const where = [keyFile, ...(previousKeyFile === undefined ? [] : [previousKeyFile])].join(' and ');
  throw new ShoalError(
    'SHOAL_CLUSTER_KEY',
    `${where}: ${keys.length} secrets, one in a line; allowed are two`,
  );
}

function readKeys(
  name: ClusterKeyName,
  text: string | undefined,
  fileName: ClusterKeyName,
  file: string | undefined,
): string[] {
  if (text === undefined && file === undefined) return [];
  const keys = file === undefined ? [text!] : linesOf(readSecret(fileName, file));
  if (keys.length > 0 && keys.every(isClusterKey)) return keys;
  const where = file === undefined ? name : `${fileName} (${file})`;
  const message = `${where} holds neither 32 bytes in base64 nor a pass phrase of 16 characters or more`;
  throw new ShoalError('SHOAL_CLUSTER_KEY', message);
}

function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '');
}

function readSecret(name: ClusterKeyName, file: string): string {
  try {
    if (statSync(file).size > KEY_FILE_BYTES_MAX)
      throw new Error(`it is larger than ${KEY_FILE_BYTES_MAX} bytes`);
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_CLUSTER_KEY', `cannot read ${name} (${file}): ${reason}`, { cause });
  }
}

/** @throws ShoalError SHOAL_TLS_CERTIFICATE when a file cannot be read. */
export function readTls(config: Config, section: 'cluster' | 'rpc'): StreamTls | undefined {
  const { certFile, keyFile, caFile } = config[section].tls;
  if (certFile === undefined || keyFile === undefined) return undefined;
  const cert = readPem(`${section}.tls.certFile`, certFile);
  const key = readPem(`${section}.tls.keyFile`, keyFile);
  return { cert, key, ...(caFile === undefined ? {} : { ca: readPem(`${section}.tls.caFile`, caFile) }) };
}

function readPem(name: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_TLS_CERTIFICATE', `cannot read ${name}: ${reason}`, { cause });
  }
}
