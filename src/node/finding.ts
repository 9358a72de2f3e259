import type { Reached } from './cluster-reach.js';
import type { LostRow } from './cluster-view.js';

/** What the doctor says, and the words that all of its findings share. */

/** One thing that looks wrong (or, a `note`, that is worth knowing), in plain words, and what to do about it. */
export interface Finding {
  readonly severity: 'wrong' | 'note';
  readonly what: string;
  readonly remedy: string;
}

/** Names in one sentence. */
export const NAMES_MAX = 8;

export function wrong(what: string, remedy: string): Finding {
  return { severity: 'wrong', what, remedy };
}

export function note(what: string, remedy: string): Finding {
  return { severity: 'note', what, remedy };
}

export function tcpWords(reached: Reached | undefined): string {
  if (reached === 'open') return 'TCP gets through to it right now.';
  if (reached === 'refused') return 'Its machine answers, but nobody listens on that port.';
  if (reached === 'silent') return 'TCP does not get through to it either: no answer.';
  if (reached === 'no-way') return 'TCP does not get through to it either: no route, or no such name.';
  return '';
}

export function nameOf({ name, address }: Pick<LostRow, 'name' | 'address'>): string {
  return `${clean(name)} (${clean(address)})`;
}

export function list(words: readonly string[]): string {
  const more = words.length - NAMES_MAX;
  return more > 0 ? `${words.slice(0, NAMES_MAX).join(', ')} and ${more} more` : words.join(', ');
}

/** What came from another machine must not steer a terminal. */
export function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
}

export function since(sinceMs: number, atMs: number): string {
  return ` for ${duration(atMs - sinceMs)}`;
}

export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}
