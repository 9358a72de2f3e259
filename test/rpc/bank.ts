import type { RpcResult } from '../../src/rpc/failure.js';
import type { Handlers } from '../../src/rpc/handler.js';
import {
  bidiStream,
  type Codec,
  defineService,
  nothing,
  opaque,
  pipeline,
  serverStream,
  unary,
} from '../../src/rpc/service.js';

/** JSON, for values of tests; what is no object of the kind is refused. */
export function json<T>(isValue: (value: unknown) => boolean): Codec<T> {
  return {
    encode: value => Buffer.from(JSON.stringify(value)),
    decode: bytes => {
      try {
        const value: unknown = JSON.parse(Buffer.from(bytes).toString());
        return isValue(value) ? (value as T) : undefined;
      } catch {
        return undefined;
      }
    },
  };
}

export const number = json<number>(value => typeof value === 'number');
export const textual = json<string>(value => typeof value === 'string');
export const entry = json<{ key: string; value: number }>(
  value => typeof value === 'object' && value !== null,
);

/** A service with a method of every kind and mode. */
export const bank = defineService('bank', {
  get: unary({ request: textual, response: number, idempotent: true, balance: 'weighted-random' }),
  turn: unary({ request: textual, response: textual, idempotent: true, balance: 'weighted-round-robin' }),
  of: unary({
    request: textual,
    response: textual,
    idempotent: true,
    balance: 'consistent-hash',
    key: request => request,
  }),
  at: unary({ request: textual, response: textual, balance: 'direct', key: request => request }),
  pay: unary({ request: entry, response: nothing, balance: 'weighted-random', messageBytesMax: 64 }),
  put: pipeline({ request: entry, response: number, balance: 'consistent-hash' }),
  log: pipeline({ request: entry, response: number, idempotent: true, balance: 'consistent-hash' }),
  watch: serverStream({
    request: textual,
    response: number,
    balance: 'consistent-hash',
    key: request => request,
  }),
  talk: bidiStream({ request: number, response: number, balance: 'weighted-random' }),
  blob: bidiStream({ request: opaque, response: opaque, balance: 'direct' }),
});

export type Bank = typeof bank.methods;

const unused = () => {
  throw new Error('this test does not use it');
};

/** Handlers of which a test writes those that it needs. */
export function handlers(some: Partial<Handlers<Bank>>): Handlers<Bank> {
  const none: Handlers<Bank> = {
    get: unused,
    turn: unused,
    of: unused,
    at: unused,
    pay: unused,
    put: unused,
    log: unused,
    watch: unused,
    talk: unused,
    blob: unused,
  };
  return { ...none, ...some };
}

export function kinds(results: readonly RpcResult<unknown>[]): string[] {
  return results.map(({ kind }) => kind);
}
