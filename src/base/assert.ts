/** Stops the thread on a broken invariant: a bug of ours, never an expected outcome. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Thrown by {@link assert}; nothing catches it, so the shard that broke an invariant stops and is restarted. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}
