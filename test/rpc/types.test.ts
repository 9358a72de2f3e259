import { expectTypeOf, it } from 'vitest';
import type { Client } from '../../src/rpc/client.js';
import type { RpcResult } from '../../src/rpc/failure.js';
import type { Handlers } from '../../src/rpc/handler.js';
import { defineService, opaque, pipeline, unary } from '../../src/rpc/service.js';
import { type Bank, number, textual } from './bank.js';

/** Never run: the compiler is the test. A wrong use that compiles leaves a directive without an error, which is one. */
function wrongUses(client: Client<Bank>): void {
  // @ts-expect-error a number is no request of this method
  void client.get.ask(5);
  // @ts-expect-error no such method
  void client.gat;
  // @ts-expect-error a unary method is not opened
  client.get.open({});
  // @ts-expect-error consistent hashing needs a key
  client.put.open({ tenant: 'acme' });
  // @ts-expect-error weighted random has no use for a key
  client.talk.open({ key: 'k' }, { message: () => {}, ended: () => {}, failed: () => {} });
  // @ts-expect-error a pipeline of entries takes no text
  void client.put.open({ key: 'k' }).ask('text');
  // @ts-expect-error answers may be failures
  client.get.call('x', {}, result => result.value);
  // @ts-expect-error a keyed mode needs a key
  unary({ request: textual, response: number, balance: 'consistent-hash' });
  // @ts-expect-error the key is made of a request of this method
  unary({ request: textual, response: number, balance: 'direct', key: (request: number) => `${request}` });
  // @ts-expect-error no such mode
  pipeline({ request: opaque, response: opaque, balance: 'random' });
  const half: Pick<Handlers<Bank>, 'get'> = { get: (_request, reply) => reply.done(1) };
  // @ts-expect-error every method needs a handler
  const _whole: Handlers<Bank> = half;
  // @ts-expect-error the answer of this method is a number
  const _wrong: Pick<Handlers<Bank>, 'get'> = { get: (_request, reply) => reply.done('one') };
}

it('refuses wrong uses', () => {
  expectTypeOf(wrongUses).toBeFunction();
});

it('infers everything from the one descriptor', () => {
  const service = defineService('s', {
    size: unary({
      request: textual,
      response: number,
      balance: 'consistent-hash',
      key: request => request.toLowerCase(),
    }),
    pipe: pipeline({ request: opaque, response: number, balance: 'direct' }),
  });
  type Methods = typeof service.methods;
  type Size = Client<Methods>['size'];
  expectTypeOf<Parameters<Size['ask']>[0]>().toEqualTypeOf<string>();
  expectTypeOf<Awaited<ReturnType<Size['ask']>>>().toEqualTypeOf<RpcResult<number>>();
  expectTypeOf<Parameters<Handlers<Methods>['size']>[0]>().toEqualTypeOf<string>();
  type Open = Parameters<Client<Methods>['pipe']['open']>[0];
  expectTypeOf<Open['key']>().toEqualTypeOf<string>();
});
