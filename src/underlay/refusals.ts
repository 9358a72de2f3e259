import type { Env } from '../base/env.js';
import type { Address } from './message.js';
import type { Refusal } from './underlay.js';

/** Rows that are kept; the one that was quiet for longest is dropped. */
export const REFUSALS_MAX = 256;

/** Each row is told in words once in this time. */
const TELL_EACH_MS = 60_000;

/** All rows together: forged sender addresses must not fill the log. */
const TOLD_PER_MINUTE_MAX = 16;

/** From a foreign packet into the log. */
export const DETAIL_UNITS_MAX = 64;

/** Said when the other side was the one that refused. */
const REFUSED_WORDS = 'this host was refused by one of another environment (cluster.env)';

const WORDS: Readonly<Record<Refusal['why'], string>> = {
  environment: 'a host of another environment (cluster.env) knocked and was refused',
  key: 'a packet was sealed with another key (cluster.key) and was dropped',
  replay: 'a packet arrived a second time or far too late and was dropped',
  malformed: 'bytes that are no packet were dropped',
  evicted: 'a host that an operator evicted tried to speak and was refused',
};

/**
 * The port of a stream, or of a packet through NAT, is another one each time: so many rows a host and reason, and what
 * comes from further ports is counted in the latest of them.
 */
const ROWS_PER_HOST_MAX = 4;

function hostOf(address: Address): string {
  const colon = address.lastIndexOf(':');
  return colon > address.lastIndexOf(']') ? address.slice(0, colon) : address;
}

interface Row {
  readonly address: Address;
  readonly why: Refusal['why'];
  detail: string;
  count: number;
  lastMs: number;
  toldMs: number;
}

/** Packets that were not taken in: counted for the doctor, and told in the log once a minute for each sender. */
export class Refusals {
  private readonly env: Env;
  private readonly rows = new Map<string, Row>();
  private minuteMs = Number.NEGATIVE_INFINITY;
  private toldInMinute = 0;

  constructor(env: Env) {
    this.env = env;
  }

  get size(): number {
    return this.rows.size;
  }

  /**
   * True when the sender may be told as well, which is once a minute. `isTheirs`: it was the other side that refused.
   */
  note(address: Address, why: Refusal['why'], detail: string, isTheirs = false): boolean {
    const nowMs = this.env.clock.monotonicMs();
    const key = `${why} ${address}`;
    const row = this.rows.get(key) ?? this.rowOfHost(address, why) ?? this.newRow(key, address, why);
    row.count += 1;
    row.lastMs = this.env.clock.wallMs();
    if (detail !== '') row.detail = detail.slice(0, DETAIL_UNITS_MAX);
    if (nowMs - row.toldMs < TELL_EACH_MS || !this.mayTell(nowMs)) return false;
    row.toldMs = nowMs;
    this.env.log.warn(
      { address, detail: row.detail, count: row.count },
      isTheirs ? REFUSED_WORDS : WORDS[why],
    );
    return true;
  }

  all(): Refusal[] {
    return [...this.rows.values()].map(({ address, why, detail, count, lastMs }) => ({
      address,
      why,
      detail,
      count,
      lastMs,
    }));
  }

  /** The latest row of the same host, when it has as many as it may have. */
  private rowOfHost(address: Address, why: Refusal['why']): Row | undefined {
    const host = hostOf(address);
    let count = 0;
    let latest: Row | undefined;
    for (const row of this.rows.values()) {
      if (row.why !== why || hostOf(row.address) !== host) continue;
      count += 1;
      latest = row;
    }
    return count >= ROWS_PER_HOST_MAX ? latest : undefined;
  }

  private newRow(key: string, address: Address, why: Refusal['why']): Row {
    if (this.rows.size >= REFUSALS_MAX) this.dropQuietest();
    const row: Row = { address, why, detail: '', count: 0, lastMs: 0, toldMs: Number.NEGATIVE_INFINITY };
    this.rows.set(key, row);
    return row;
  }

  private dropQuietest(): void {
    let quietest = '';
    let lastMs = Number.POSITIVE_INFINITY;
    for (const [key, row] of this.rows) {
      if (row.lastMs >= lastMs) continue;
      quietest = key;
      lastMs = row.lastMs;
    }
    this.rows.delete(quietest);
  }

  private mayTell(nowMs: number): boolean {
    if (nowMs - this.minuteMs >= TELL_EACH_MS) {
      this.minuteMs = nowMs;
      this.toldInMinute = 0;
    }
    if (this.toldInMinute >= TOLD_PER_MINUTE_MAX) return false;
    this.toldInMinute += 1;
    return true;
  }
}
