import { lookup } from 'node:dns';

/** How long an answer is taken for the truth; after that it is used once more while it is asked for anew. */
export const NAME_FRESH_MS = 30_000;

/** How long a name that does not resolve is not asked for again. */
export const NAME_FAILED_MS = 3_000;

/** Names remembered; the one that was asked for earliest is forgotten first. */
export const NAMES_MAX = 4_096;

/** Lookups under way at a time: they occupy the few threads that files and cryptography share with them. */
const LOOKUPS_MAX = 4;

/** Who waits for one name. */
const WAITING_MAX = 256;

interface Name {
  ip: string | undefined;
  untilMs: number;
  /** Those to be told; undefined while nothing is under way. */
  waiting: ((ip: string | undefined) => void)[] | undefined;
}

/** 4, 6, or 0 for both. */
export type Family = 0 | 4 | 6;

/** IP addresses of names, by the system's resolver (hosts file included). One lookup for all who ask at a time. */
export class NameCache {
  private readonly names = new Map<string, Name>();
  private readonly queue: string[] = [];
  private readonly family: Family;
  private underWay = 0;
  failures = 0;

  constructor(family: Family) {
    this.family = family;
  }

  get size(): number {
    return this.names.size;
  }

  /** Calls back at once when the answer is known. Undefined: unknown, or too many names are asked for. */
  find(host: string, nowMs: number, done: (ip: string | undefined) => void): void {
    const name = this.entry(host);
    if (name === undefined) return done(undefined);
    const isKnown = name.ip !== undefined;
    if (nowMs < name.untilMs) return done(name.ip);
    if (name.waiting === undefined) this.ask(host, name);
    if (isKnown) return done(name.ip);
    if (name.waiting!.length >= WAITING_MAX) return done(undefined);
    name.waiting!.push(done);
  }

  private entry(host: string): Name | undefined {
    const found = this.names.get(host);
    if (found !== undefined) return found;
    if (this.names.size >= NAMES_MAX && !this.forgetOne()) return undefined;
    const name: Name = { ip: undefined, untilMs: Number.NEGATIVE_INFINITY, waiting: undefined };
    this.names.set(host, name);
    return name;
  }

  private forgetOne(): boolean {
    for (const [host, { waiting }] of this.names) {
      if (waiting === undefined) return this.names.delete(host);
    }
    return false;
  }

  private ask(host: string, name: Name): void {
    name.waiting = [];
    this.queue.push(host);
    this.next();
  }

  private next(): void {
    while (this.underWay < LOOKUPS_MAX) {
      const host = this.queue.shift();
      if (host === undefined) return;
      this.underWay++;
      lookup(host, { family: this.family }, (error, ip) => {
        this.underWay--;
        this.answer(host, error === null ? ip : undefined);
        this.next();
      });
    }
  }

  private answer(host: string, ip: string | undefined): void {
    const name = this.names.get(host)!;
    const nowMs = performance.now();
    if (ip === undefined) this.failures++;
    // An address that was right once is better than none while the resolver is down.
    else name.ip = ip;
    name.untilMs = nowMs + (ip === undefined ? NAME_FAILED_MS : NAME_FRESH_MS);
    const waiting = name.waiting!;
    name.waiting = undefined;
    for (const done of waiting) done(name.ip);
  }
}
