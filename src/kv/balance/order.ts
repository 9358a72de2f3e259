import { BOUNDARY_BYTES_MAX } from './account-codec.js';

/**
 * What an operator, or a node that stops, tells one store to do; the store that leads the range, but for `recover`, which
 * goes to the one that is to be the survivor. Between releases both ends pass over what they do not know.
 */
export type Order =
  | { readonly kind: 'transfer'; readonly range: number; readonly to: number }
  /** At the first key of the upper half; without one where the coprocessor would divide it. */
  | { readonly kind: 'split'; readonly range: number; readonly key: Uint8Array | undefined }
  /** With the range that begins where it ends. */
  | { readonly kind: 'merge'; readonly range: number }
  | { readonly kind: 'move'; readonly range: number; readonly from: number; readonly to: number }
  /** This replica alone goes on, and what only others have is lost. `forced`: although it may have a leader. */
  | { readonly kind: 'recover'; readonly range: number; readonly forced: boolean }
  /** The process is about to stop: lead nothing and take nothing until then. To be said again until DONE. */
  | { readonly kind: 'drain' }
  /** An operator is at work: balancers that only even things out stand still for {@link STAND_BACK_MS}. */
  | { readonly kind: 'stand-back' }
  /** What balancers have done here. */
  | { readonly kind: 'balancers' };

/** An order for one range. */
export type RangeOrder = Exclude<Order, { readonly kind: 'drain' | 'stand-back' | 'balancers' }>;

/** Long enough to give the next order by hand. */
export const STAND_BACK_MS = 60_000;

export type OrderAnswer =
  | { readonly kind: 'done' }
  /** It is under way; the landscape will show what became of it. */
  | { readonly kind: 'begun' }
  /** In words for the operator. `leader`: the store to be asked instead, 0 if that is not it. */
  | { readonly kind: 'refused'; readonly why: string; readonly leader: number }
  | { readonly kind: 'balancers'; readonly balancers: readonly BalancerReport[] };

export interface BalancerReport {
  readonly name: string;
  readonly running: boolean;
  /** Commands given since the store's start, and those that were refused or failed. */
  readonly commands: number;
  readonly failures: number;
  /** The last one, in words; empty if there was none. */
  readonly last: string;
  /** How long ago it was given, milliseconds; 0 if there was none. */
  readonly lastAgoMs: number;
  /** Milliseconds for which it is not asked, after failures. */
  readonly restsMs: number;
}

/** Of an order or an answer, encoded. */
export const ORDER_BYTES_MAX = 16_384;
const WHY_LENGTH_MAX = 1_000;
const BALANCERS_MAX = 64;

/** Fresh bytes. */
export function encodeOrder(order: Order): Uint8Array {
  const key =
    order.kind === 'split' && order.key !== undefined ? Buffer.from(order.key).toString('hex') : null;
  return bytesOf({ ...order, key });
}

/** Undefined for what is none, or of another release. Never throws. */
export function decodeOrder(bytes: Uint8Array): Order | undefined {
  const found = objectOf(bytes);
  const { kind, range, to, from, key, forced } = found ?? {};
  switch (kind) {
    case 'drain':
    case 'stand-back':
    case 'balancers':
      return { kind };
    case 'merge':
      return isId(range) ? { kind, range } : undefined;
    case 'transfer':
      return isId(range) && isId(to) ? { kind, range, to } : undefined;
    case 'move':
      return isId(range) && isId(to) && isId(from) ? { kind, range, from, to } : undefined;
    case 'recover':
      return isId(range) && typeof forced === 'boolean' ? { kind, range, forced } : undefined;
    case 'split':
      if (!isId(range)) return undefined;
      if (key === null) return { kind, range, key: undefined };
      return isHex(key) ? { kind, range, key: new Uint8Array(Buffer.from(key, 'hex')) } : undefined;
    default:
      return undefined;
  }
}

/** Fresh bytes. */
export function encodeAnswer(answer: OrderAnswer): Uint8Array {
  return bytesOf(answer);
}

/** Undefined for what is none. Never throws. */
export function decodeAnswer(bytes: Uint8Array): OrderAnswer | undefined {
  const found = objectOf(bytes);
  const { kind, why, leader, balancers } = found ?? {};
  if (kind === 'done' || kind === 'begun') return { kind };
  if (kind === 'refused' && typeof why === 'string' && why.length <= WHY_LENGTH_MAX)
    return { kind, why, leader: isId(leader) ? leader : 0 };
  if (kind !== 'balancers' || !Array.isArray(balancers) || balancers.length > BALANCERS_MAX) return undefined;
  return balancers.every(isReport) ? { kind, balancers } : undefined;
}

function isReport(value: unknown): value is BalancerReport {
  if (typeof value !== 'object' || value === null) return false;
  const { name, running, commands, failures, last, lastAgoMs, restsMs } = value as Record<string, unknown>;
  return (
    [name, last].every(text => typeof text === 'string' && text.length <= WHY_LENGTH_MAX) &&
    typeof running === 'boolean' &&
    [commands, failures, lastAgoMs, restsMs].every(figure => typeof figure === 'number' && figure >= 0)
  );
}

function bytesOf(value: object): Uint8Array {
  return new Uint8Array(Buffer.from(JSON.stringify(value)));
}

function objectOf(bytes: Uint8Array): Record<string, unknown> | undefined {
  if (bytes.length > ORDER_BYTES_MAX) return undefined;
  try {
    const found: unknown = JSON.parse(Buffer.from(bytes).toString());
    return typeof found === 'object' && found !== null ? (found as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isHex(value: unknown): value is string {
  return (
    typeof value === 'string' && value.length <= BOUNDARY_BYTES_MAX * 2 && /^(?:[0-9a-f]{2})+$/.test(value)
  );
}
