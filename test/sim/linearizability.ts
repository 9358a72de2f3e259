/**
 * Is there one order of a register's operations, each between its start and its end, that explains every answer?
 *
 * The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993): take any operation that no other one
 * precedes, see whether its answer fits, go on with the rest, turn back at a dead end; with Lowe's improvements
 * ("Testing for linearizability", 2017): a configuration (which operations are done, what the register holds) is
 * entered once, and a history is cut by key first, since linearizability is local.
 *
 * An operation whose answer never came may have taken effect at any time after its start, or never. Many of them make
 * the search exponential, therefore what can be known is found out first (`settle`): where each value is written by
 * one operation only, an unknown write whose value somebody saw did happen, before that one ended; and one whose value
 * nobody saw explains nothing that could not be explained without it.
 *
 * The work is bounded; "undecided" is a verdict of its own, and whoever asks counts it as a failure.
 */
export const OPERATION = { READ: 0, WRITE: 1, SWAP: 2, ADD: 3 } as const;

export interface Operation {
  /** One of {@link OPERATION}. SWAP is compare-and-set. */
  readonly kind: number;
  /** What is written, or added. */
  readonly value: number;
  /** What SWAP wants to find; it changes nothing otherwise. */
  readonly expected: number;
  /** What the register held just before, as the answer says; undefined when it does not. */
  readonly seen: number | undefined;
  /** Any clock: of two operations one of which ended before the other started, the earlier must come first. */
  readonly startedAt: number;
  /** Infinity when the outcome is unknown. */
  readonly endedAt: number;
}

export interface KeyedOperation extends Operation {
  readonly key: number;
}

export type Verdict =
  | { readonly kind: 'linearizable'; readonly work: number }
  | { readonly kind: 'undecided'; readonly work: number }
  | {
      readonly kind: 'violation';
      readonly work: number;
      /** The operation that cannot be placed, and the last ones placed before it in the longest order found. */
      readonly stuck: Operation;
      readonly before: readonly Operation[];
      /** What the register held there. */
      readonly held: number;
    };

const WORK_MAX = 1_000_000;
const BEFORE_KEPT = 12;

export function checkRegister(history: readonly Operation[], initial: number, workMax = WORK_MAX): Verdict {
  const settled = settle(history, initial);
  return settled.kind === 'history' ? new Search(settled.operations, initial, workMax).run() : settled;
}

/** The first verdict that is not "linearizable", and its key; undefined when every key's history is. */
export function checkByKey(
  history: Iterable<KeyedOperation>,
  initial: number,
  workMax = WORK_MAX,
): { readonly key: number; readonly verdict: Verdict } | undefined {
  const byKey = new Map<number, KeyedOperation[]>();
  for (const operation of history) {
    const list = byKey.get(operation.key);
    if (list === undefined) byKey.set(operation.key, [operation]);
    else list.push(operation);
  }
  for (const [key, operations] of byKey) {
    const verdict = checkRegister(operations, initial, workMax);
    if (verdict.kind !== 'linearizable') return { key, verdict };
  }
  return undefined;
}

export function operationWords({ kind, value, expected, seen, startedAt, endedAt }: Operation): string {
  const what = ['read', `write ${value}`, `swap ${expected} for ${value}`, `add ${value}`][kind]!;
  const answer = seen === undefined ? '' : ` saw ${seen}`;
  return `[${startedAt.toFixed(1)}, ${endedAt === Number.POSITIVE_INFINITY ? 'unknown' : endedAt.toFixed(1)}] ${what}${answer}`;
}

export function verdictWords(verdict: Verdict): string {
  if (verdict.kind !== 'violation') return `${verdict.kind} after ${verdict.work} steps`;
  return [
    'not linearizable; the longest order found ends with',
    ...verdict.before.map(operation => `  ${operationWords(operation)}`),
    `which leaves ${verdict.held}, and this one fits nowhere:`,
    `  ${operationWords(verdict.stuck)}`,
  ].join('\n');
}

type Settled = { readonly kind: 'history'; readonly operations: readonly Operation[] } | Verdict;

/** Takes out what explains nothing, and bounds what must have happened. */
function settle(history: readonly Operation[], initial: number): Settled {
  const operations = history.filter(
    ({ kind, endedAt, seen }) => kind !== OPERATION.READ || (isKnown(endedAt) && seen !== undefined),
  );
  const makers = makersOf(operations, initial);
  if (makers === undefined) return { kind: 'history', operations };
  const ends = operations.map(({ endedAt }) => endedAt);
  const isSeen = new Uint8Array(operations.length);
  const open: number[] = [];
  const see = (value: number, by: number) => {
    const maker = makers.get(value);
    if (maker === undefined) return;
    // Seen again by one that ended earlier: what the maker itself has seen is bounded anew.
    if (isSeen[maker] === 1 && ends[by]! >= ends[maker]!) return;
    isSeen[maker] = 1;
    ends[maker] = Math.min(ends[maker]!, ends[by]!);
    open.push(maker);
  };
  operations.forEach(({ seen }, at) => {
    if (seen !== undefined) see(seen, at);
  });
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (operations[at]!.kind === OPERATION.SWAP) see(operations[at]!.expected, at);
  }
  const settled: Operation[] = [];
  for (const [at, operation] of operations.entries()) {
    const endedAt = ends[at]!;
    if (!isKnown(endedAt)) continue;
    if (endedAt < operation.startedAt)
      return { kind: 'violation', work: 0, stuck: operation, before: [], held: operation.value };
    settled.push(endedAt === operation.endedAt ? operation : { ...operation, endedAt });
  }
  return { kind: 'history', operations: settled };
}

/** Which operation makes each value; undefined when that is not certain. */
function makersOf(operations: readonly Operation[], initial: number): Map<number, number> | undefined {
  const makers = new Map<number, number>();
  for (const [at, { kind, value }] of operations.entries()) {
    if (kind === OPERATION.READ) continue;
    if (kind === OPERATION.ADD || value === initial || makers.has(value)) return undefined;
    makers.set(value, at);
  }
  return makers;
}

function isKnown(endedAt: number): boolean {
  return endedAt !== Number.POSITIVE_INFINITY;
}

const HEAD = 0;

class Search {
  /** Those with an end first, by their start; then those without. */
  readonly #operations: readonly Operation[];
  /** How many have an end. */
  readonly #known: number;
  readonly #workMax: number;
  /** A ring of starts and ends by time, without those of placed operations. Start of operation n: 1 + 2 n, end: 2 + 2 n. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #isPlaced: Uint8Array;
  readonly #entered = new Set<string>();
  /** Placed operations in their order, and what the register held before each. */
  readonly #order: number[] = [];
  readonly #heldBefore: number[] = [];
  #held: number;
  #left: number;
  /** All before it are placed. */
  #low = 0;
  #work = 0;
  /** The longest order that came to a dead end, by its last ones. */
  #best:
    | { readonly length: number; readonly last: readonly number[]; readonly held: number; stuck: number }
    | undefined;

  constructor(operations: readonly Operation[], initial: number, workMax: number) {
    const byStart = (left: Operation, right: Operation) => left.startedAt - right.startedAt;
    const known = operations.filter(({ endedAt }) => isKnown(endedAt)).sort(byStart);
    const unknown = operations.filter(({ endedAt }) => !isKnown(endedAt)).sort(byStart);
    this.#operations = [...known, ...unknown];
    this.#known = known.length;
    this.#left = known.length;
    this.#held = initial;
    this.#workMax = workMax;
    this.#isPlaced = new Uint8Array(this.#operations.length);
    this.#next = new Int32Array(2 * this.#operations.length + 1);
    this.#previous = new Int32Array(2 * this.#operations.length + 1);
    this.#link();
  }

  /** Of equal times starts come first: operations that touch count as concurrent. */
  #link(): void {
    const points: { readonly at: number; readonly node: number }[] = [];
    this.#operations.forEach(({ startedAt, endedAt }, index) => {
      points.push({ at: startedAt, node: 1 + 2 * index });
      if (isKnown(endedAt)) points.push({ at: endedAt, node: 2 + 2 * index });
    });
    points.sort((left, right) => left.at - right.at || (right.node & 1) - (left.node & 1));
    let last = HEAD;
    for (const { node } of points) {
      this.#next[last] = node;
      this.#previous[node] = last;
      last = node;
    }
    this.#next[last] = HEAD;
    this.#previous[HEAD] = last;
  }

  run(): Verdict {
    let node = this.#next[HEAD]!;
    while (this.#left > 0) {
      const index = (node - 1) >> 1;
      if ((node & 1) === 1) {
        this.#work += 1;
        if (this.#work > this.#workMax) return { kind: 'undecided', work: this.#work };
        node = this.#place(index) ? this.#next[HEAD]! : this.#next[node]!;
        continue;
      }
      // It ends here and is not placed: something placed earlier is in the wrong order.
      this.#remember(index);
      const last = this.#order.pop();
      if (last === undefined) return this.#violation();
      this.#held = this.#heldBefore.pop()!;
      this.#putBack(last);
      node = this.#next[1 + 2 * last]!;
    }
    return { kind: 'linearizable', work: this.#work };
  }

  #place(index: number): boolean {
    const { kind, value, expected, seen } = this.#operations[index]!;
    const held = this.#held;
    if (seen !== undefined && seen !== held) return false;
    let after = held;
    if (kind === OPERATION.WRITE) after = value;
    else if (kind === OPERATION.ADD) after = held + value;
    else if (kind === OPERATION.SWAP && held === expected) after = value;
    // Without an end nothing asks for it, unless it changes something.
    if (index >= this.#known && after === held) return false;
    this.#isPlaced[index] = 1;
    const lowBefore = this.#low;
    while (this.#low < this.#known && this.#isPlaced[this.#low] === 1) this.#low += 1;
    const key = this.#configuration(after);
    if (this.#entered.has(key)) {
      this.#isPlaced[index] = 0;
      this.#low = lowBefore;
      return false;
    }
    this.#entered.add(key);
    this.#order.push(index);
    this.#heldBefore.push(held);
    this.#held = after;
    this.#take(1 + 2 * index);
    if (index < this.#known) {
      this.#take(2 + 2 * index);
      this.#left -= 1;
    }
    return true;
  }

  #putBack(index: number): void {
    if (index < this.#known) {
      this.#untake(2 + 2 * index);
      this.#left += 1;
    }
    this.#untake(1 + 2 * index);
    this.#isPlaced[index] = 0;
    if (index < this.#low) this.#low = index;
  }

  #take(node: number): void {
    this.#next[this.#previous[node]!] = this.#next[node]!;
    this.#previous[this.#next[node]!] = this.#previous[node]!;
  }

  /** In the reverse order of taking, so that the neighbours are those of then. */
  #untake(node: number): void {
    this.#next[this.#previous[node]!] = node;
    this.#previous[this.#next[node]!] = node;
  }

  /** Exact: what is held, up to where all are placed, and which ones beyond. */
  #configuration(held: number): string {
    const low = this.#low;
    let key = `${held}:${low}`;
    let placedBeyond = this.#order.length + 1 - low;
    for (let at = low + 1; placedBeyond > 0 && at < this.#operations.length; at += 1) {
      if (this.#isPlaced[at] === 0) continue;
      key += `,${at}`;
      placedBeyond -= 1;
    }
    return key;
  }

  #remember(stuck: number): void {
    const { length } = this.#order;
    if (this.#best !== undefined && this.#best.length >= length) return;
    this.#best = { length, last: this.#order.slice(-BEFORE_KEPT), held: this.#held, stuck };
  }

  #violation(): Verdict {
    const { last, held, stuck } = this.#best!;
    return {
      kind: 'violation',
      work: this.#work,
      stuck: this.#operations[stuck]!,
      before: last.map(index => this.#operations[index]!),
      held,
    };
  }
}
