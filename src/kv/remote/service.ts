import { bidiStream, type Codec, defineService, opaque, unary } from '../../rpc/service.js';
import { ORDER_BYTES_MAX } from '../balance/order.js';

/** What somebody else wants of a store, in the words of kv/balance. */
export interface Steering {
  readonly store: number;
  /** At most {@link ORDER_BYTES_MAX}. */
  readonly order: Uint8Array;
}

/** An order is begun or refused within a turn of its store; what it leads to is seen elsewhere. */
export const STEER_MS = 5_000;
const STORE_BYTES = 8;

const steering: Codec<Steering> = {
  encode({ store, order }) {
    const bytes = Buffer.allocUnsafe(STORE_BYTES + order.length);
    bytes.writeDoubleLE(store);
    bytes.set(order, STORE_BYTES);
    return bytes;
  },
  decode(bytes) {
    if (bytes.length < STORE_BYTES) return undefined;
    const store = Buffer.from(bytes.buffer, bytes.byteOffset, STORE_BYTES).readDoubleLE();
    return Number.isSafeInteger(store) && store > 0
      ? { store, order: bytes.subarray(STORE_BYTES) }
      : undefined;
  },
};

/**
 * What stores are asked from other processes. A server is a store; its id is {@link serverIdOf} the store.
 *
 * - `frames`: frames of one store to another (replicated/frames.ts), of which any may be lost.
 * - `calls`: attempts of one caller, answered in any order (attempt-codec.ts).
 * - `steer`: an order; never given twice by itself.
 */
export const kvService = defineService('kv', {
  frames: bidiStream({ request: opaque, response: opaque, balance: 'direct' }),
  calls: bidiStream({ request: opaque, response: opaque, balance: 'direct' }),
  steer: unary({
    request: steering,
    response: opaque,
    balance: 'direct',
    key: ({ store }) => serverIdOf(store),
    messageBytesMax: ORDER_BYTES_MAX + STORE_BYTES,
    deadlineMs: STEER_MS,
  }),
});

export function serverIdOf(store: number): string {
  return store.toString(36);
}
