import { bidiStream, defineService, opaque } from '../../rpc/service.js';

/**
 * What stores are asked from other processes. A server is a store; its id is {@link serverIdOf} the store.
 *
 * - `frames`: frames of one store to another (replicated/frames.ts), of which any may be lost.
 * - `calls`: attempts of one caller, answered in any order (attempt-codec.ts).
 */
export const kvService = defineService('kv', {
  frames: bidiStream({ request: opaque, response: opaque, balance: 'direct' }),
  calls: bidiStream({ request: opaque, response: opaque, balance: 'direct' }),
});

export function serverIdOf(store: number): string {
  return store.toString(36);
}
