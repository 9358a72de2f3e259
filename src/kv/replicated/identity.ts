import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { Random } from '../../base/env.js';
import { ShoalError } from '../../base/errors.js';
import type { Engine } from '../engine.js';
import { bookKey, copyOf } from '../keys.js';
import { BOOK, BOOKS_VERSION } from './books.js';

/** Who a store is, for as long as its data lasts. */
export interface StoreIdentity {
  /** Random, from 1 to 2^53 - 1. */
  readonly store: number;
  /** How often it was opened, this time included: others tell by it that it has forgotten what was not stored. */
  readonly starts: number;
}

/**
 * Opens the books of a store, or begins them. Throws SHOAL_STORAGE_VERSION if a newer ShoalMQ wrote them. The books
 * say their version here, so that nothing else of a newer store is looked at.
 */
export function openIdentity(engine: Engine, random: Random): StoreIdentity {
  const key = bookKey(new ByteWriter(16), BOOK.IDENTITY, 0).copy();
  const stored = engine.get(key);
  let store = 0;
  let starts = 0;
  if (stored !== undefined) {
    const reader = new ByteReader(copyOf(stored));
    const version = reader.u32();
    if (version > BOOKS_VERSION)
      throw new ShoalError(
        'SHOAL_STORAGE_VERSION',
        `the store has books of version ${version}, this is ${BOOKS_VERSION}`,
      );
    store = reader.u53();
    starts = reader.u53();
  }
  while (store === 0) store = randomU53(random);
  const identity = { store, starts: starts + 1 };
  const value = new ByteWriter(32).u32(BOOKS_VERSION).u53(identity.store).u53(identity.starts);
  // Commits become durable in their order: nothing of the store is durable before its identity.
  engine.write(
    writer => writer.put(key, value.view()),
    () => undefined,
  );
  return identity;
}

/** From 0 to 2^53 - 1. */
export function randomU53(random: Random): number {
  return (random.u32() & 0x1f_ffff) * 0x1_0000_0000 + random.u32();
}
