import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { verify } from '@node-rs/argon2';
import type { Clock } from '../../base/env.js';
import { type Credentials, SCRAM_METHOD, type ScramKeys, splitLogin } from '../credentials.js';
import {
  type AuthDecision,
  type Authenticator,
  type AuthRequest,
  DEFAULT_TENANT,
  REFUSE,
  refuse,
  unknownMethod,
} from '../plugin.js';
import { parseClientFirst, SCRAM_ITERATIONS, ScramExchange } from './scram.js';

/**
 * Users from a password file. Hashing runs on libuv's threads, never on the shard's own.
 *
 * - An unknown user costs the same time as a wrong password, and is refused in the same words; SCRAM shows it a
 *   salt made from its name, the same in every thread.
 * - So many verifications run at once and so many wait; beyond that clients are refused as busy, so a storm of
 *   reconnecting clients cannot queue up minutes of hashing.
 * - A right password is remembered for a short time as an HMAC under a key that never leaves this thread, so
 *   that storm costs microseconds for those who were here before. Changed or deleted users are never served
 *   from it: an entry is bound to the hash that it was proved against.
 * - A client without user name and password is who its verified certificate names, if it has one; otherwise it
 *   is anonymous, and let in when `anonymous` is true.
 */
export interface PasswordOptions {
  readonly anonymous: boolean;
  readonly verificationsMax: number;
  readonly queueMax: number;
  readonly cacheEntriesMax: number;
  readonly cacheSeconds: number;
}

interface Proved {
  readonly mac: Buffer;
  readonly hash: string;
  readonly untilMs: number;
}

const WRONG = refuse(REFUSE.BAD_USER_NAME_OR_PASSWORD, 'bad user name or password');
const NOT_PROVED = refuse(REFUSE.NOT_AUTHORIZED, 'the exchange does not prove the password');
const BUSY = refuse(REFUSE.SERVER_BUSY, 'too many clients are being authenticated');

export class PasswordAuthenticator implements Authenticator {
  private readonly options: PasswordOptions;
  private readonly clock: Clock;
  private readonly gate: Gate;
  private readonly secret = randomBytes(32);
  private readonly proved = new Map<string, Proved>();
  private users: ReadonlyMap<string, Credentials> = new Map();
  /** Verified against for unknown users; undefined when nobody has a hash, and then nobody costs time. */
  private decoyHash: string | undefined;
  private decoyKeys: ScramKeys | undefined;

  constructor(users: ReadonlyMap<string, Credentials>, options: PasswordOptions, clock: Clock) {
    this.options = options;
    this.clock = clock;
    this.gate = new Gate(options.verificationsMax, options.queueMax);
    this.replace(users);
  }

  /** Takes the content of a changed file; exchanges in progress end against what they began with. */
  replace(users: ReadonlyMap<string, Credentials>): void {
    this.users = users;
    this.decoyHash = undefined;
    this.decoyKeys = undefined;
    for (const { argon2, scram } of users.values()) {
      this.decoyHash ??= argon2;
      this.decoyKeys ??= scram;
    }
  }

  authenticate(request: AuthRequest): AuthDecision | Promise<AuthDecision> {
    const { authMethod, userName, password, certificate } = request;
    if (authMethod !== undefined) {
      return authMethod === SCRAM_METHOD ? this.beginScram(request.authData) : unknownMethod(authMethod);
    }
    if (userName === undefined && password === undefined) {
      if (certificate?.commonName) return accept(certificate.commonName);
      if (this.options.anonymous) return { kind: 'accept', tenant: DEFAULT_TENANT, user: '' };
      return refuse(REFUSE.NOT_AUTHORIZED, 'anonymous clients are not let in');
    }
    if (!userName || password === undefined) return WRONG;
    return this.checkPassword(userName, password);
  }

  continue(exchange: object, data: Uint8Array | undefined): AuthDecision {
    if (!(exchange instanceof ScramExchange)) return NOT_PROVED;
    const final = exchange.finish(data);
    if (!final || !this.users.get(exchange.login)?.scram) return NOT_PROVED;
    return { kind: 'accept', ...splitLogin(exchange.login), data: final };
  }

  private checkPassword(login: string, password: Uint8Array): AuthDecision | Promise<AuthDecision> {
    const hash = this.users.get(login)?.argon2;
    const mac = this.options.cacheEntriesMax > 0 ? this.macOf(login, password) : undefined;
    if (hash !== undefined && mac && this.isProved(login, hash, mac)) return accept(login);
    const against = hash ?? this.decoyHash;
    if (against === undefined) return WRONG;
    const turn = this.gate.enter();
    if (!turn) return BUSY;
    return this.verify(turn, login, hash, against, Buffer.from(password), mac);
  }

  private async verify(
    turn: Promise<void>,
    login: string,
    hash: string | undefined,
    against: string,
    password: Buffer,
    mac: Buffer | undefined,
  ): Promise<AuthDecision> {
    await turn;
    try {
      const isRight = await verify(against, password);
      if (!isRight || hash === undefined || this.users.get(login)?.argon2 !== hash) return WRONG;
      if (mac) this.remember(login, hash, mac);
      return accept(login);
    } finally {
      this.gate.leave();
    }
  }

  private macOf(login: string, password: Uint8Array): Buffer {
    return createHmac('sha256', this.secret).update(`${login}\0`).update(password).digest();
  }

  private isProved(login: string, hash: string, mac: Buffer): boolean {
    const entry = this.proved.get(login);
    if (!entry) return false;
    if (entry.hash === hash && this.clock.monotonicMs() < entry.untilMs)
      return timingSafeEqual(entry.mac, mac);
    this.proved.delete(login);
    return false;
  }

  private remember(login: string, hash: string, mac: Buffer): void {
    const { cacheEntriesMax, cacheSeconds } = this.options;
    this.proved.delete(login);
    if (this.proved.size >= cacheEntriesMax) {
      const oldest = this.proved.keys().next();
      if (!oldest.done) this.proved.delete(oldest.value);
    }
    this.proved.set(login, { mac, hash, untilMs: this.clock.monotonicMs() + cacheSeconds * 1000 });
  }

  private beginScram(data: Uint8Array | undefined): AuthDecision {
    const first = parseClientFirst(data);
    if (!first) return refuse(REFUSE.NOT_AUTHORIZED, 'the first SCRAM message is malformed');
    const keys = this.users.get(first.login)?.scram ?? this.madeUpKeys(first.login);
    const exchange = new ScramExchange(first, keys);
    return { kind: 'continue', data: exchange.serverFirst, exchange };
  }

  /** Keys that nobody can prove, with a salt that stays the same as long as the file's first entry does. */
  private madeUpKeys(login: string): ScramKeys {
    const seed = this.decoyKeys?.serverKey ?? this.secret;
    const salt = createHmac('sha256', seed).update(login).digest();
    const unknowable = createHash('sha256').update(randomBytes(32)).digest();
    return {
      iterations: this.decoyKeys?.iterations ?? SCRAM_ITERATIONS,
      salt: salt.subarray(0, this.decoyKeys?.salt.length ?? 16),
      storedKey: unknowable,
      serverKey: unknowable,
    };
  }
}

function accept(login: string): AuthDecision {
  return { kind: 'accept', ...splitLogin(login) };
}

/** Lets `runningMax` in at a time, in order, while at most `waitingMax` wait. */
class Gate {
  private running = 0;
  private readonly waiting: (() => void)[] = [];
  private readonly runningMax: number;
  private readonly waitingMax: number;

  constructor(runningMax: number, waitingMax: number) {
    this.runningMax = runningMax;
    this.waitingMax = waitingMax;
  }

  /** Resolves when it is the caller's turn, who then calls `leave` once; undefined when too many wait. */
  enter(): Promise<void> | undefined {
    if (this.running < this.runningMax) {
      this.running += 1;
      return Promise.resolve();
    }
    if (this.waiting.length >= this.waitingMax) return undefined;
    return new Promise(resolve => this.waiting.push(resolve));
  }

  leave(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.running -= 1;
  }
}
