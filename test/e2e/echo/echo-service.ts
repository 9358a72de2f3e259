/** The example service, and what a test and a process that runs it say to each other: lines of JSON. */
import { type Codec, defineService, pipeline, unary } from '../../../src/rpc/service.js';

const text: Codec<string> = {
  encode: value => Buffer.from(value),
  decode: bytes => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(),
};

const idempotent = { request: text, response: text, idempotent: true } as const;

/** Whoever is asked answers with the id of its server. */
export const echo = defineService('echo', {
  any: unary({ ...idempotent, balance: 'weighted-random' }),
  turn: unary({ ...idempotent, balance: 'weighted-round-robin' }),
  keyed: unary({ ...idempotent, balance: 'consistent-hash', key: request => request }),
  direct: unary({ ...idempotent, balance: 'direct', key: request => request }),
  line: pipeline({ ...idempotent, balance: 'consistent-hash' }),
  /** Twice is not as good as once: who serves it writes each request down. */
  once: unary({ request: text, response: text, balance: 'weighted-random' }),
});

export type UnaryName = 'any' | 'turn' | 'keyed' | 'direct' | 'once';
export type MethodName = UnaryName | 'line';

export interface EchoSettings {
  readonly name: string;
  /** Bound by the cluster and by calls. */
  readonly host: string;
  readonly port: number;
  readonly rpcPort: number;
  readonly seeds: readonly string[];
  /** File to which the requests of `once` are appended as they are carried out. */
  readonly journal: string;
}

export interface LoadOptions {
  readonly methods: readonly MethodName[];
  /** Of each method: each asks, waits for the answer, pauses, and asks again. */
  readonly workers: number;
  readonly pauseMs: number;
  readonly deadlineMs: number;
}

/** Of one method, since the report before. */
export interface Lap {
  readonly answered: number;
  /** Which servers have answered, how often. */
  readonly by: Readonly<Record<string, number>>;
  /** Everything that was no answer: `kind: detail`, the first few of them in words. */
  readonly failed: number;
  readonly failures: readonly string[];
  /** The longest that a caller has waited, also for an answer that has not come yet. */
  readonly longestMs: number;
}

/** What became of the requests of `once`: `prefix` with 0 to `issued - 1`; all that are named nowhere were answered. */
export interface Account {
  readonly prefix: string;
  readonly issued: number;
  /** Of these it is certain that nobody has carried them out. */
  readonly refused: readonly string[];
  readonly unknown: readonly string[];
}

export interface ServerSeen {
  readonly id: string;
  readonly isLocal: boolean;
  readonly isBroken: boolean;
}

export interface Commands {
  serve: { with: { id: string }; gives: null };
  /** Of the service, as this process sees them. */
  servers: { with: object; gives: readonly ServerSeen[] };
  /** Names of those in its view, with the state of those that are not alive. */
  hosts: { with: object; gives: readonly string[] };
  /** Asks all at once; yields the answers, or `kind: detail`. */
  ask: { with: { method: UnaryName; requests: readonly string[]; deadlineMs: number }; gives: string[] };
  load: { with: LoadOptions; gives: null };
  lap: { with: object; gives: Partial<Record<MethodName, Lap>> };
  /** The load ends when all is answered; the last lap. */
  rest: { with: object; gives: Partial<Record<MethodName, Lap>> };
  account: { with: object; gives: Account };
}

export type CommandName = keyof Commands;

export interface Told {
  readonly name: string;
  readonly kind: 'joined' | 'gone';
  /** Wall clock, which is the same for all processes of a machine. */
  readonly atMs: number;
}
