import type { Clock } from '../base/env.js';
import {
  decodeMapAnswer,
  encodeDelete,
  encodeGet,
  encodePut,
  MAP_VALUE_BYTES_MAX,
  type MapAnswer,
  mapKey,
  mapKeyFault,
  prefixFault,
} from '../kv/map/map-codec.js';
import { MapListing } from '../kv/map/map-listing.js';
import { ASK } from '../kv/route/client.js';
import { type Answer, type Route, refusal } from './admin-server.js';
import type { KvAccess } from './kv-access.js';

/** The cluster's map, as the administration port serves it. */

/** What became of a change. `unknown`: it may have been done, or be done yet. */
export type MapOutcome =
  | { readonly outcome: 'done'; readonly revision: number | null }
  | { readonly outcome: 'not-done'; readonly why: string }
  | { readonly outcome: 'unknown'; readonly why: string };

export type MapFound =
  | {
      readonly outcome: 'found';
      readonly revision: number;
      readonly modifiedAtMs: number;
      /** Base64. */
      readonly value: string;
    }
  | { readonly outcome: 'absent' }
  | { readonly outcome: 'not-done'; readonly why: string };

export type MapListed =
  | {
      readonly outcome: 'listed';
      readonly entries: readonly MapListedEntry[];
      /** There are more behind the last one. */
      readonly more: boolean;
    }
  | { readonly outcome: 'not-done'; readonly why: string };

export interface MapListedEntry {
  readonly key: string;
  readonly revision: number;
  readonly modifiedAtMs: number;
  readonly bytes: number;
}

export const LISTED_MAX = 10_000;
export const TIMEOUT_MS = 5_000;
export const TIMEOUT_MS_MAX = 10_000;
const PAGES_MAX = 1_000;
const NO_MAP =
  'the map is kept by a cluster, and this node is in none: start it with cluster.seeds, or cluster.enabled: true';

/** Where calls go. */
export type MapAccess = Pick<KvAccess, 'call'>;

interface Source {
  readonly access: MapAccess | undefined;
}

type WallClock = Pick<Clock, 'wallMs'>;

export function mapRoutes(kv: Source, clock: WallClock): readonly (readonly [string, Route])[] {
  const withAccess = (route: (access: MapAccess, body: Body) => Promise<Answer>): Route => {
    return body => {
      const { access } = kv;
      if (access === undefined) return refusal(409, NO_MAP);
      if (typeof body !== 'object' || body === null) return refusal(400, 'the body has to be an object');
      return route(access, body);
    };
  };
  return [
    ['POST /kv/map/get', withAccess(get)],
    ['POST /kv/map/put', withAccess((access, body) => put(access, body, clock))],
    ['POST /kv/map/delete', withAccess((access, body) => remove(access, body, clock))],
    ['POST /kv/map/list', withAccess(list)],
  ];
}

interface Body {
  readonly key?: unknown;
  readonly value?: unknown;
  readonly expected?: unknown;
  readonly timeoutMs?: unknown;
  readonly prefix?: unknown;
  readonly after?: unknown;
  readonly entriesMax?: unknown;
}

// -- Requests ------------------------------------------------------------------------------------------------

/** Takes `{"key": TEXT, "value": BASE64}`, and `"expected": REVISION` (0: the key must not be there). */
async function put(access: MapAccess, body: Body, clock: WallClock): Promise<Answer> {
  const { key, value, expected, timeoutMs = TIMEOUT_MS } = body;
  const fault = keyFault(key) ?? expectedFault(expected) ?? timeoutFault(timeoutMs);
  if (fault !== undefined) return refusal(400, fault);
  if (typeof value !== 'string') return refusal(400, 'the value has to be Base64');
  const bytes = new Uint8Array(Buffer.from(value, 'base64'));
  if (bytes.length > MAP_VALUE_BYTES_MAX)
    return refusal(413, `a value has ${MAP_VALUE_BYTES_MAX} bytes at most, not ${bytes.length}`);
  const change = { key: key as string, value: bytes, nowMs: clock.wallMs(), ...only(expected) };
  return changed(await call(access, ASK.MUTATE, mapKey(change.key), encodePut(change), timeoutMs as number));
}

async function remove(access: MapAccess, body: Body, clock: WallClock): Promise<Answer> {
  const { key, expected, timeoutMs = TIMEOUT_MS } = body;
  const fault = keyFault(key) ?? expectedFault(expected) ?? timeoutFault(timeoutMs);
  if (fault !== undefined) return refusal(400, fault);
  const change = { key: key as string, nowMs: clock.wallMs(), ...only(expected) };
  return changed(
    await call(access, ASK.MUTATE, mapKey(change.key), encodeDelete(change), timeoutMs as number),
  );
}

async function get(access: MapAccess, { key, timeoutMs = TIMEOUT_MS }: Body): Promise<Answer> {
  const fault = keyFault(key) ?? timeoutFault(timeoutMs);
  if (fault !== undefined) return refusal(400, fault);
  const text = key as string;
  const end = await call(access, ASK.QUERY, mapKey(text), encodeGet(text), timeoutMs as number);
  if (end.kind !== 'answer') return told<MapFound>({ outcome: 'not-done', why: end.why });
  const { answer } = end;
  if (answer?.kind === 'absent') return told<MapFound>({ outcome: 'absent' });
  if (answer?.kind !== 'found') return told<MapFound>({ outcome: 'not-done', why: faultOf(answer) });
  const { revision, modifiedAtMs, value } = answer;
  const found = { revision, modifiedAtMs, value: Buffer.from(value).toString('base64') };
  return told<MapFound>({ outcome: 'found', ...found });
}

/** Takes `{"prefix": TEXT, "after": TEXT, "entriesMax": NUMBER}`, all of them optional. */
async function list(access: MapAccess, body: Body): Promise<Answer> {
  const { prefix = '', after, entriesMax = LISTED_MAX, timeoutMs = TIMEOUT_MS } = body;
  const fault =
    (typeof prefix === 'string' ? prefixFault(prefix) : 'the prefix has to be a text') ??
    (after === undefined ? undefined : keyFault(after)) ??
    timeoutFault(timeoutMs);
  if (fault !== undefined) return refusal(400, fault);
  if (
    !Number.isSafeInteger(entriesMax) ||
    !((entriesMax as number) >= 1 && (entriesMax as number) <= LISTED_MAX)
  )
    return refusal(400, `entriesMax wants a whole number from 1 to ${LISTED_MAX}`);
  const options = { prefix: prefix as string, entriesMax: entriesMax as number };
  const listing = new MapListing(after === undefined ? options : { ...options, after: after as string });
  const entries: MapListedEntry[] = [];
  for (let pages = 0; !listing.isDone; pages++) {
    const end = await call(access, ASK.QUERY, listing.key, listing.request(), timeoutMs as number);
    if (end.kind !== 'answer') return told<MapListed>({ outcome: 'not-done', why: end.why });
    const step = end.output === undefined ? undefined : listing.take(end.output);
    if (step?.kind !== 'page' || pages >= PAGES_MAX)
      return told<MapListed>({
        outcome: 'not-done',
        why: faultOf(step?.kind === 'failed' ? step.answer : undefined),
      });
    for (const { key, revision, modifiedAtMs, bytes } of step.entries)
      entries.push({ key, revision, modifiedAtMs, bytes });
  }
  return told<MapListed>({ outcome: 'listed', entries, more: listing.more });
}

// -- Calls ---------------------------------------------------------------------------------------------------

export type CallEnd =
  /** Without output: an earlier attempt did it, and what it said is lost. */
  | {
      readonly kind: 'answer';
      readonly answer: MapAnswer | undefined;
      readonly output: Uint8Array | undefined;
    }
  | { readonly kind: 'not-done' | 'unknown'; readonly why: string };

/** One call to the range of a key, and its end in words. */
export function call(
  access: MapAccess,
  ask: number,
  key: Uint8Array,
  body: Uint8Array,
  timeoutMs: number,
): Promise<CallEnd> {
  return new Promise(resolve => {
    const isTaken = access.call(ask, key, body, timeoutMs, {
      done: output => {
        // It is the wire's, and listings keep parts of it.
        const own = output === undefined ? undefined : new Uint8Array(output);
        resolve({ kind: 'answer', output: own, answer: own && decodeMapAnswer(own) });
      },
      notDone: reason => resolve({ kind: 'not-done', why: NOT_DONE[reason] }),
      unknown: () => resolve({ kind: 'unknown', why: UNKNOWN }),
    });
    if (!isTaken) resolve({ kind: 'not-done', why: 'this node has too many calls under way' });
  });
}

const NOT_DONE = {
  refused: 'the range cannot do it',
  deadline:
    'no store that has the key answered in time; "shoalmq cluster doctor" says why (a new cluster begins its map within some ten seconds)',
} as const;

const UNKNOWN =
  'it was sent, and no answer came: it may have been done, or be done yet; ask again when "kv ranges" shows a leader';

function changed(end: CallEnd): Answer {
  if (end.kind !== 'answer') return told<MapOutcome>({ outcome: end.kind, why: end.why });
  const { answer } = end;
  if (answer === undefined) return told<MapOutcome>({ outcome: 'done', revision: null });
  if (answer.kind === 'put' || answer.kind === 'deleted')
    return told<MapOutcome>({ outcome: 'done', revision: answer.revision });
  return told<MapOutcome>({ outcome: 'not-done', why: faultOf(answer) });
}

function told<T extends object>(body: T): Answer {
  return { status: 200, body };
}

function faultOf(answer: MapAnswer | undefined): string {
  if (answer?.kind === 'conflict')
    return answer.revision === 0
      ? 'the key is not there'
      : `the key has revision ${answer.revision} now, which is not the one that was named`;
  if (answer?.kind === 'full') return 'the map is full: delete something first';
  if (answer?.kind === 'unsupported')
    return 'the store that has the key runs another version, which cannot do it';
  return 'the store that has the key gave an answer that makes no sense; compare the versions of the nodes';
}

// -- What was given ------------------------------------------------------------------------------------------

function keyFault(key: unknown): string | undefined {
  return typeof key === 'string' ? mapKeyFault(key) : 'the key has to be a text';
}

function expectedFault(expected: unknown): string | undefined {
  const isRevision = expected === undefined || (Number.isSafeInteger(expected) && (expected as number) >= 0);
  return isRevision ? undefined : 'the expected revision has to be a whole number, 0 if there must be none';
}

function timeoutFault(timeoutMs: unknown): string | undefined {
  const isTime = typeof timeoutMs === 'number' && timeoutMs >= 1 && timeoutMs <= TIMEOUT_MS_MAX;
  return isTime ? undefined : `timeoutMs wants a number from 1 to ${TIMEOUT_MS_MAX}`;
}

function only(expected: unknown): { readonly expected?: number } {
  return expected === undefined ? {} : { expected: expected as number };
}
