import { isValidMqttUtf8 } from '../base/utf8.js';
import { DOLLAR, PLUS, POUND, SEPARATOR } from './level-key.js';

/**
 * # Room `topic`: topic names, topic filters, and finding one by the other
 *
 * A topic name is what is published to; a topic filter is what is subscribed to, and may hold wildcards. Both are
 * cut into levels by `/`; levels may be empty (`a//b` has three, `/` has two). This room knows nothing of
 * sessions, tenants or packets: one structure serves one tenant, its owner keeps tenants apart.
 *
 * | file | abstraction |
 * | --- | --- |
 * | topic.ts | what is a valid name or filter; shared subscriptions; `matches`, the oracle of all the rest |
 * | trie.ts | `TopicTrie`: filters in; a topic yields the values of the filters that match it |
 * | name-index.ts | `NameIndex`: names in; a filter yields the values of the names that it matches |
 * | cache.ts | `TopicTable`: bounded map from topic bytes to an entry, with a `NameIndex` for invalidation |
 * | level-tree.ts | the tree under both: nodes in typed arrays, one hash table for all children |
 * | paged.ts, level-arena.ts | growing arrays of numbers, values and bytes that never copy themselves whole |
 * | level-key.ts, hash.ts | a level as numbers; the keyed hash |
 *
 * ## Invariants
 *
 * - `TopicTrie.match`, `NameIndex.collect` and `matches` agree on every valid filter and topic (property tests).
 * - Matching holds no state between calls and calls nobody, so scratch memory is shared by all structures of a thread.
 * - A structure that has become empty has given its memory back; otherwise memory shrinks only by reuse.
 * - Nothing here recurses, and each loop is bounded by the bytes of the topic or by the size of the structure.
 * - Bytes, not strings, are compared: two names are the same topic only if their UTF-8 is identical [MQTT-4.7.3-4].
 *   No normalisation is done, U+FEFF is kept [MQTT-1.5.4-3].
 *
 * ## Why typed arrays
 *
 * The garbage collector visits every object of a trie in every full collection of every shard. Here a node is 32
 * bytes that it never looks at: 50 to 90 bytes for a short filter, all told (test/topic/memory.test.ts holds the bound).
 * Measured with a million filters of four levels, a quarter with `+`, on one core of a shared 2-core machine, Node
 * 20.20: 2.5 µs a match that yields 10 values, slowest single `add` 2.8 ms (140 ms before the arrays were in pages),
 * cached find 56 ns (perf/micro/trie.bench.ts, topic-cache.bench.ts).
 *
 * ## Hash flooding
 *
 * Topics are chosen by clients, so every table is keyed with secret random words (hash.ts); the seed comes from the
 * process (`hashKeys(env.random.u32())`), nothing here draws random numbers.
 *
 * ## Limits
 *
 * `TopicLimits`, per tenant settings. The protocol's own limit of 65,535 bytes holds always. Matching visits at most
 * the nodes of the tree, and at most 2^levels of them: `levelsMax` is what bounds a hostile set of filters.
 *
 * ## Where it differs from BifroMQ
 *
 * BifroMQ's defaults allow 40 bytes a level and 255 a topic, and count UTF-16 units; ours allow 256 and 1,024, in
 * bytes, as a client id in a topic may well be longer than 40.
 */
export interface TopicLimits {
  /** Most levels of a name or filter; `$share/group/` is not counted. */
  readonly levelsMax: number;
  /** Most bytes of one level. */
  readonly levelBytesMax: number;
  /** Most bytes of the whole, at most 65,535. */
  readonly topicBytesMax: number;
}

export const DEFAULT_TOPIC_LIMITS: TopicLimits = { levelsMax: 16, levelBytesMax: 256, topicBytesMax: 1024 };

/** All that the protocol itself allows. */
export const PROTOCOL_TOPIC_LIMITS: TopicLimits = {
  levelsMax: 65_536,
  levelBytesMax: 65_535,
  topicBytesMax: 65_535,
};

const PROTOCOL_BYTES_MAX = 65_535;

/** What is wrong with a name or filter; 0 is nothing. Numbers, since names are checked on the data path. */
export const TOPIC_FAULT = {
  none: 0,
  empty: 1,
  illFormed: 2,
  wildcard: 3,
  plusMisplaced: 4,
  poundMisplaced: 5,
  tooLong: 6,
  tooManyLevels: 7,
  levelTooLong: 8,
  shareGroup: 9,
  shareFilter: 10,
} as const;

export type TopicFault = (typeof TOPIC_FAULT)[keyof typeof TOPIC_FAULT];

/** Reasons for people, by fault. */
export const TOPIC_FAULT_TEXT: readonly string[] = [
  'valid',
  'is empty [MQTT-4.7.3-1]',
  'is not valid UTF-8 or holds U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2]',
  'is a topic name and holds a wildcard [MQTT-3.3.2-2]',
  'has a + that does not fill its level [MQTT-4.7.1-2]',
  'has a # that is not its last level [MQTT-4.7.1-1]',
  'is longer than allowed',
  'has more levels than allowed',
  'has a level longer than allowed',
  'has a share name that is empty or holds a wildcard [MQTT-4.8.2-1] [MQTT-4.8.2-2]',
  'has no topic filter after the share name [MQTT-4.8.2-2]',
];

/**
 * Faults above the protocol's own rules: the name or filter is well-formed, but this broker's settings refuse it
 * (0x90 or 0x8F without closing the connection).
 */
export function isLimitFault(fault: TopicFault): boolean {
  return fault >= TOPIC_FAULT.tooLong && fault <= TOPIC_FAULT.levelTooLong;
}

export type TopicCheck =
  | { readonly kind: 'ok' }
  | { readonly kind: 'invalid'; readonly fault: TopicFault; readonly why: string };

const OK: TopicCheck = { kind: 'ok' };

/** Checks the topic name of a PUBLISH or will in UTF-8 at `bytes[start, end)`; allocates nothing. */
export function topicNameFault(
  bytes: Uint8Array,
  start: number,
  end: number,
  limits: TopicLimits,
): TopicFault {
  if (start >= end) return TOPIC_FAULT.empty;
  if (!isValidMqttUtf8(bytes, start, end)) return TOPIC_FAULT.illFormed;
  for (let at = start; at < end; at++) {
    const code = bytes[at];
    if (code === PLUS || code === POUND) return TOPIC_FAULT.wildcard;
  }
  return limitFault(bytes, start, end, limits);
}

/** Checks a plain topic filter (no share prefix) in UTF-8 at `bytes[start, end)`; allocates nothing. */
export function topicFilterFault(
  bytes: Uint8Array,
  start: number,
  end: number,
  limits: TopicLimits,
): TopicFault {
  if (start >= end) return TOPIC_FAULT.empty;
  if (!isValidMqttUtf8(bytes, start, end)) return TOPIC_FAULT.illFormed;
  for (let at = start; at < end; at++) {
    const code = bytes[at];
    if (code !== PLUS && code !== POUND) continue;
    const opens = at === start || bytes[at - 1] === SEPARATOR;
    if (code === POUND) {
      if (!opens || at + 1 !== end) return TOPIC_FAULT.poundMisplaced;
    } else if (!opens || (at + 1 < end && bytes[at + 1] !== SEPARATOR)) return TOPIC_FAULT.plusMisplaced;
  }
  return limitFault(bytes, start, end, limits);
}

function limitFault(bytes: Uint8Array, start: number, end: number, limits: TopicLimits): TopicFault {
  if (end - start > limits.topicBytesMax || end - start > PROTOCOL_BYTES_MAX) return TOPIC_FAULT.tooLong;
  let levels = 1;
  let levelStart = start;
  for (let at = start; at < end; at++) {
    if (bytes[at] !== SEPARATOR) continue;
    if (at - levelStart > limits.levelBytesMax) return TOPIC_FAULT.levelTooLong;
    levelStart = at + 1;
    levels++;
  }
  if (end - levelStart > limits.levelBytesMax) return TOPIC_FAULT.levelTooLong;
  return levels > limits.levelsMax ? TOPIC_FAULT.tooManyLevels : TOPIC_FAULT.none;
}

/** As {@link topicNameFault}, for text. */
export function checkTopicName(text: string, limits: TopicLimits = DEFAULT_TOPIC_LIMITS): TopicCheck {
  return checkText(text, limits, topicNameFault);
}

/** As {@link topicFilterFault}, for text. For what a SUBSCRIBE holds use {@link parseFilter}. */
export function checkTopicFilter(text: string, limits: TopicLimits = DEFAULT_TOPIC_LIMITS): TopicCheck {
  return checkText(text, limits, topicFilterFault);
}

const LONE_SURROGATE = /\p{Surrogate}/u;

function checkText(text: string, limits: TopicLimits, faultOf: typeof topicNameFault): TopicCheck {
  if (text.length > PROTOCOL_BYTES_MAX) return invalid(TOPIC_FAULT.tooLong);
  if (LONE_SURROGATE.test(text)) return invalid(TOPIC_FAULT.illFormed);
  const bytes = Buffer.from(text, 'utf8');
  const fault = faultOf(bytes, 0, bytes.length, limits);
  return fault === TOPIC_FAULT.none ? OK : invalid(fault);
}

function invalid(fault: TopicFault): Extract<TopicCheck, { kind: 'invalid' }> {
  return { kind: 'invalid', fault, why: TOPIC_FAULT_TEXT[fault]! };
}

export type ParsedFilter =
  | { readonly kind: 'plain'; readonly filter: string }
  | { readonly kind: 'shared'; readonly group: string; readonly ordered: boolean; readonly filter: string }
  | { readonly kind: 'invalid'; readonly fault: TopicFault; readonly why: string };

const SHARE = '$share/';
const ORDERED_SHARE = '$oshare/';

/**
 * Checks the filter of a SUBSCRIBE or UNSUBSCRIBE and takes a share prefix off it. `$share/group/filter` spreads
 * messages over the group; `$oshare/group/filter` keeps one publisher's messages with one member. `limits` apply to
 * the filter without its prefix, `levelBytesMax` to the group too.
 */
export function parseFilter(text: string, limits: TopicLimits = DEFAULT_TOPIC_LIMITS): ParsedFilter {
  const ordered = text.startsWith(ORDERED_SHARE);
  if (!ordered && !text.startsWith(SHARE)) {
    const check = checkTopicFilter(text, limits);
    return check.kind === 'ok' ? { kind: 'plain', filter: text } : check;
  }
  const groupStart = ordered ? ORDERED_SHARE.length : SHARE.length;
  const groupEnd = text.indexOf('/', groupStart);
  const group = text.slice(groupStart, groupEnd < 0 ? text.length : groupEnd);
  const groupCheck = checkTopicName(group, limits);
  if (groupCheck.kind === 'invalid') {
    const { fault } = groupCheck;
    return fault === TOPIC_FAULT.empty || fault === TOPIC_FAULT.wildcard
      ? invalid(TOPIC_FAULT.shareGroup)
      : groupCheck;
  }
  if (groupEnd < 0) return invalid(TOPIC_FAULT.shareFilter);
  const filter = text.slice(groupEnd + 1);
  const check = checkTopicFilter(filter, limits);
  if (check.kind === 'ok') return { kind: 'shared', group, ordered, filter };
  return check.fault === TOPIC_FAULT.empty ? invalid(TOPIC_FAULT.shareFilter) : check;
}

/**
 * Whether a valid plain filter matches a valid topic name, by the letter of section 4.7; slow and obvious, the
 * oracle for the trie. A filter that starts with a wildcard does not match a topic that starts with `$`
 * [MQTT-4.7.2-1].
 */
export function matches(filter: string, topic: string): boolean {
  const wanted = filter.split('/');
  const levels = topic.split('/');
  if (topic.charCodeAt(0) === DOLLAR && (wanted[0] === '+' || wanted[0] === '#')) return false;
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '#') return true;
    if (i >= levels.length || (wanted[i] !== '+' && wanted[i] !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}
