import { lookup, Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Log } from '../../base/env.js';
import type { Address } from '../message.js';
import { formatAddress, parseAddress, plainIp } from './address.js';

/**
 * Seeds as an operator writes them, turned into addresses:
 *
 * | seed | addresses |
 * | --- | --- |
 * | `10.0.0.1:4800`, `[fd00::1]:4800` | itself |
 * | `name:4800` | all A and AAAA records (and what the hosts file says) with that port |
 * | `name` | the same with the default port, 4800 |
 * | `_shoalmq._udp.example.org` | all SRV records: each target's addresses with the record's port |
 *
 * Names are asked for again and again, since the answers change as hosts come and go. A name that cannot be resolved
 * keeps the addresses of its last good answer, is told in one log line a minute, and is never given up.
 */

const DEFAULT_PORT = 4_800;

/** Between two rounds of lookups, and between two while some name does not resolve. */
const RESOLVE_INTERVAL_MS = 30_000;
export const RESOLVE_RETRY_MS = 5_000;

/** Addresses that one seed gives at most; a DNS answer is not ours to trust. */
const ADDRESSES_PER_SEED_MAX = 256;

const LOG_INTERVAL_MS = 60_000;
const SRV_TARGETS_MAX = 64;

/** What became of one seed, for the doctor. */
export interface SeedResolution {
  readonly seed: string;
  readonly addresses: readonly Address[];
  /** The system's code (ENOTFOUND …) of the last lookup, '' when it went well. */
  readonly error: string;
}

interface Seed {
  readonly text: string;
  addresses: readonly Address[];
  error: string;
  loggedMs: number;
}

export interface SeedResolverOptions {
  readonly seeds: readonly string[];
  /** Where this host listens; its own addresses are left out, since a name often stands for all hosts. */
  readonly bind: { readonly host: string; readonly port: number };
  readonly log: Log;
  /** Called with all addresses whenever they have changed. */
  readonly changed: (addresses: readonly Address[]) => void;
  /** Asked for SRV records; the system's servers when not given. */
  readonly resolver?: Resolver;
}

export class SeedResolver {
  private readonly options: SeedResolverOptions;
  private readonly resolver: Resolver;
  private readonly seeds: Seed[];
  private told: string | undefined;
  private timer: NodeJS.Timeout | undefined;
  private isClosed = false;

  constructor(options: SeedResolverOptions) {
    this.options = options;
    this.resolver = options.resolver ?? new Resolver({ timeout: 2_000, tries: 2 });
    this.seeds = [...new Set(options.seeds)].map(text => ({
      text,
      addresses: literal(text),
      error: '',
      loggedMs: Number.NEGATIVE_INFINITY,
    }));
  }

  /** Tells the addresses that need no lookup before it returns, the others as they are known. */
  start(): void {
    this.tell();
    if (this.seeds.some(isName)) void this.round();
  }

  states(): readonly SeedResolution[] {
    return this.seeds.map(({ text, addresses, error }) => ({ seed: text, addresses, error }));
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.resolver.cancel();
  }

  private async round(): Promise<void> {
    const names = this.seeds.filter(isName);
    await Promise.all(names.map(seed => this.resolve(seed)));
    if (this.isClosed) return;
    const isWhole = names.every(({ error }) => error === '');
    this.timer = setTimeout(() => void this.round(), isWhole ? RESOLVE_INTERVAL_MS : RESOLVE_RETRY_MS);
  }

  private async resolve(seed: Seed): Promise<void> {
    try {
      const found = seed.text.startsWith('_')
        ? await this.serviceAddresses(seed.text)
        : await hostAddresses(withPort(seed.text));
      seed.addresses = found.slice(0, ADDRESSES_PER_SEED_MAX);
      seed.error = '';
    } catch (error) {
      seed.error = (error as NodeJS.ErrnoException).code ?? String(error);
      this.complain(seed);
    }
    if (!this.isClosed) this.tell();
  }

  private async serviceAddresses(name: string): Promise<Address[]> {
    const records = (await this.resolver.resolveSrv(name)).slice(0, SRV_TARGETS_MAX);
    const answers = await Promise.allSettled(
      records.map(({ name: target, port }) => hostAddresses(formatAddress(target, port))),
    );
    const addresses = answers.flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []));
    const failed = answers.find(answer => answer.status === 'rejected');
    if (addresses.length === 0 && failed !== undefined) throw failed.reason;
    return addresses;
  }

  private complain(seed: Seed): void {
    const nowMs = performance.now();
    if (this.isClosed || nowMs - seed.loggedMs < LOG_INTERVAL_MS) return;
    seed.loggedMs = nowMs;
    const { text, error, addresses } = seed;
    this.options.log.warn({ seed: text, error, known: addresses.length }, 'a cluster seed does not resolve');
  }

  private tell(): void {
    const all = this.seeds.flatMap(({ addresses }) => addresses);
    const addresses = [...new Set(all)].filter(address => !this.isOwn(address)).sort();
    const text = addresses.join(' ');
    if (text === this.told) return;
    this.told = text;
    this.options.changed(addresses);
  }

  private isOwn(address: Address): boolean {
    const { host, port } = this.options.bind;
    const target = parseAddress(address);
    if (target === undefined || target.port !== port) return false;
    if (target.host === host) return true;
    if (host !== '0.0.0.0' && host !== '::') return false;
    const own = Object.values(networkInterfaces()).flatMap(list => list ?? []);
    return own.some(({ address: ip }) => ip === target.host);
  }
}

/** Whether a seed is written as it has to be. */
export function isSeed(text: string): boolean {
  if (text.startsWith('_')) return /^_[^.\s:]+\._(?:udp|tcp)\.[^\s:]+$/.test(text);
  return parseAddress(withPort(text)) !== undefined;
}

function isName(seed: Seed): boolean {
  return literal(seed.text).length === 0;
}

/** The seed itself where it is an IP address. */
function literal(text: string): Address[] {
  if (text.startsWith('_')) return [];
  const target = parseAddress(withPort(text));
  return target !== undefined && isIP(target.host) !== 0 ? [formatAddress(target.host, target.port)] : [];
}

function withPort(text: string): Address {
  if (isIP(text) !== 0) return formatAddress(text, DEFAULT_PORT);
  return text.includes(':') ? text : `${text}:${DEFAULT_PORT}`;
}

async function hostAddresses(address: Address): Promise<Address[]> {
  const target = parseAddress(address);
  if (target === undefined) throw Object.assign(new Error(address), { code: 'EINVAL' });
  const found = await lookup(target.host, { all: true });
  return found.map(({ address: ip }) => formatAddress(plainIp(ip), target.port));
}
