import { changedRules, DEFAULT_RULES, type Rules } from './rules.js';

/**
 * What operators have changed, as one entry of the shared map that every board hears. Of two the later one counts, whole,
 * whichever the map has: it forgets when all nodes stop, so each keeps what it heard last, and whoever finds the map
 * behind that tells it again. A release that knows more rules writes a higher version; older ones keep to what they heard
 * last, so rules are changed when the upgrade is through.
 */
export interface Steering {
  /** What differs from the defaults. */
  readonly changes: Readonly<Partial<Rules>>;
  /** Names of balancers that are not to run anywhere, in order. */
  readonly stopped: readonly string[];
  /** When, by the clock of whoever did; later than what it changed. Milliseconds since 1970; 0: never. */
  readonly atMs: number;
}

export const NO_STEERING: Steering = { changes: {}, stopped: [], atMs: 0 };

/** The key of the entry. */
export const RULES_KEY = 'rules';

const VERSION = 1;
const ENTRY_BYTES_MAX = 4096;
const STOPPED_MAX = 32;

/** Fresh bytes. */
export function encodeSteering({ changes, stopped, atMs }: Steering): Uint8Array {
  return new Uint8Array(Buffer.from(JSON.stringify({ version: VERSION, rules: changes, stopped, atMs })));
}

/** Undefined for what is none, contradicts itself, or is of a newer release. Never throws. */
export function decodeSteering(bytes: Uint8Array): Steering | undefined {
  if (bytes.length > ENTRY_BYTES_MAX) return undefined;
  let found: unknown;
  try {
    found = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return undefined;
  }
  if (!isRecord(found) || found.version !== VERSION) return undefined;
  const { rules: changes, stopped, atMs } = found;
  if (!isRecord(changes) || typeof changedRules(DEFAULT_RULES, changes) === 'string') return undefined;
  if (!Array.isArray(stopped) || stopped.length > STOPPED_MAX) return undefined;
  if (!stopped.every(name => typeof name === 'string')) return undefined;
  if (!Number.isSafeInteger(atMs) || (atMs as number) < 0) return undefined;
  return { changes, stopped, atMs: atMs as number };
}

/** The rules in effect; `base` alone where the two contradict each other. */
export function rulesOf({ changes }: Steering, base: Rules = DEFAULT_RULES): Rules {
  const rules = changedRules(base, changes);
  return typeof rules === 'string' ? base : rules;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
