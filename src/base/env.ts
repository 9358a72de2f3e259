/** What a machine may know of the world. Simulated in tests; the real one is made in `node/`. */
export interface Env {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface Clock {
  /** Wall clock, milliseconds since 1970; may jump. For what is stored: expiry, will delay. */
  wallMs(): number;
  /** Monotonic milliseconds with a fraction. For keep-alive, latency, rates. */
  monotonicMs(): number;
}

export interface Random {
  /** A uniform integer in [0, 2^32). Not for secrets. */
  u32(): number;
}

/** Structured log: a message and fields. Never a password, key or payload. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
