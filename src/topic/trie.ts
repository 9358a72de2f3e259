import type { HashKeys } from './hash.js';
import { DOLLAR, LevelKey, PLUS, POUND, TextScratch } from './level-key.js';
import { LevelTree, STRIDE_SHIFT, VALUE, VALUE_BELOW } from './level-tree.js';
import { HeldValues } from './paged.js';

/**
 * Filters in, matches out. Each filter holds a set of values; a topic yields the values of every filter that
 * matches it. `#` is not a node: its values hang on the node above it, which also makes `a/#` match `a`.
 * Filters and topics must be valid (see topic.ts); shared subscriptions are added without their `$share/group/`.
 *
 * Cost of a match: one hash lookup per level and node that the topic reaches through `+` or by name; no
 * recursion, nothing allocated but what `out` needs (perf/micro/trie.bench.ts). The order of results is not defined.
 */
export class TopicTrie<V> {
  private readonly tree: LevelTree;
  /** Values of a filter: the value itself, or a `Bag` of several. */
  private readonly held = new HeldValues<V | Bag<V>>();
  /** Filters that hold at least one value. */
  sizeFilters = 0;
  /** (filter, value) pairs. */
  sizeValues = 0;

  constructor(keys: HashKeys) {
    this.tree = new LevelTree(keys, false);
  }

  /** Nodes of the tree, its root counted: what the memory of the trie grows with. */
  get nodeCount(): number {
    return this.tree.nodeCount;
  }

  clear(): void {
    this.tree.clear();
    this.held.clear();
    this.sizeFilters = 0;
    this.sizeValues = 0;
  }

  /** Adds `value` at `filter`; false if it is there already (compared as Map keys are). */
  add(filter: string, value: V): boolean {
    const field = this.fieldOf(filter, true);
    const { nodes } = this.tree;
    const index = nodes.get(field);
    if (index === 0) {
      nodes.set(field, this.held.hold(value));
      this.sizeFilters++;
    } else {
      const held = this.held.get(index);
      if (held instanceof Bag) {
        if (!held.add(value)) return false;
      } else {
        if (Object.is(held, value)) return false;
        this.held.set(index, new Bag(held, value));
      }
    }
    this.sizeValues++;
    return true;
  }

  /** Removes `value` from `filter`; false if it was not there. */
  remove(filter: string, value: V): boolean {
    const field = this.fieldOf(filter, false);
    const index = field < 0 ? 0 : this.tree.nodes.get(field);
    if (index === 0) return false;
    const held = this.held.get(index);
    if (held instanceof Bag) {
      if (!held.remove(value)) return false;
      this.sizeValues--;
      if (held.items.length === 1) this.held.set(index, held.items[0]!);
    } else {
      if (!Object.is(held, value)) return false;
      this.release(field, index);
    }
    return true;
  }

  /** The values at exactly this filter, in no order; a copy. */
  get(filter: string): V[] {
    const out: V[] = [];
    const field = this.fieldOf(filter, false);
    if (field >= 0) this.emit(this.tree.nodes.get(field), out);
    return out;
  }

  /** Appends the values of all filters that match `topic`. A value found under two filters comes twice. */
  match(topic: string, out: V[]): void {
    const length = TEXT.encode(topic);
    this.matchBytes(TEXT.bytes, 0, length, out);
  }

  /** As `match`, for a topic in UTF-8 at `bytes[start, end)`. */
  matchBytes(bytes: Uint8Array, start: number, end: number, out: V[]): void {
    const { tree } = this;
    const { nodes, keys } = tree;
    PLUS_KEY.read(keys, PLUS_BYTES, 0, 1);
    let from = FRONTIERS.near;
    let count = 1;
    from[0] = 0;
    // [MQTT-4.7.2-1]: a filter that starts with a wildcard does not match a topic that starts with $.
    let wild = bytes[start] !== DOLLAR || start === end;
    for (let at = start; ; ) {
      const stop = KEY.read(keys, bytes, at, end);
      const to = FRONTIERS.other(from, count * 2);
      let next = 0;
      for (let i = 0; i < count; i++) {
        const id = from[i]!;
        if (wild) {
          const below = nodes.get((id << STRIDE_SHIFT) + VALUE_BELOW);
          if (below !== 0) this.emit(below, out);
          const plus = tree.findPlus(id, PLUS_KEY);
          if (plus !== 0) to[next++] = plus;
        }
        const child = tree.find(id, KEY);
        if (child !== 0) to[next++] = child;
      }
      wild = true;
      from = to;
      count = next;
      if (stop === end || count === 0) break;
      at = stop + 1;
    }
    for (let i = 0; i < count; i++) {
      const field = from[i]! << STRIDE_SHIFT;
      const here = nodes.get(field + VALUE);
      if (here !== 0) this.emit(here, out);
      const below = nodes.get(field + VALUE_BELOW);
      if (below !== 0) this.emit(below, out);
    }
  }

  /** Every (filter, value), in no order. The trie must not change until the iteration has ended. */
  *entries(): Generator<[filter: string, value: V]> {
    const { tree } = this;
    const values: V[] = [];
    for (let id = 0; id < tree.nodeEnd; id++) {
      for (let word = VALUE; word <= VALUE_BELOW; word++) {
        const index = tree.nodes.get((id << STRIDE_SHIFT) + word);
        if (index === 0) continue;
        const path = tree.pathOf(id);
        const filter = word === VALUE ? path : id === 0 ? '#' : `${path}/#`;
        values.length = 0;
        this.emit(index, values);
        for (const value of values) yield [filter, value];
      }
    }
  }

  private emit(index: number, out: V[]): void {
    if (index === 0) return;
    const held = this.held.get(index);
    if (held instanceof Bag) for (const item of held.items) out.push(item);
    else out.push(held);
  }

  /** Position in `tree.nodes` of the word that holds the values of `filter`; -1 if absent and not `create`. */
  private fieldOf(filter: string, create: boolean): number {
    const { tree } = this;
    const end = TEXT.encode(filter);
    const { bytes } = TEXT;
    let id = 0;
    for (let at = 0; ; ) {
      const stop = KEY.read(tree.keys, bytes, at, end);
      if (stop === end && KEY.is(POUND)) return (id << STRIDE_SHIFT) + VALUE_BELOW;
      let child = tree.find(id, KEY);
      if (child === 0) {
        if (!create) return -1;
        child = tree.insert(id, KEY);
      }
      id = child;
      if (stop === end) return (id << STRIDE_SHIFT) + VALUE;
      at = stop + 1;
    }
  }

  private release(field: number, index: number): void {
    this.tree.nodes.set(field, 0);
    this.sizeFilters--;
    this.sizeValues--;
    this.held.release(index);
    if (this.sizeFilters === 0) this.clear();
    else this.tree.prune(field >> STRIDE_SHIFT);
  }
}

/** Two or more values of one filter. Large ones know each value's place, so that a mass departure stays linear. */
class Bag<V> {
  readonly items: V[];
  private places: Map<V, number> | undefined;

  constructor(first: V, second: V) {
    this.items = [first, second];
  }

  private placeOf(value: V): number {
    return this.places === undefined ? this.items.indexOf(value) : (this.places.get(value) ?? -1);
  }

  add(value: V): boolean {
    if (this.placeOf(value) >= 0) return false;
    const place = this.items.push(value) - 1;
    if (this.places !== undefined) this.places.set(value, place);
    else if (this.items.length > INDEX_FROM) this.places = new Map(this.items.map((item, i) => [item, i]));
    return true;
  }

  remove(value: V): boolean {
    const place = this.placeOf(value);
    if (place < 0) return false;
    const last = this.items.pop() as V;
    this.places?.delete(value);
    if (place < this.items.length) {
      this.items[place] = last;
      this.places?.set(last, place);
    }
    if (this.items.length <= INDEX_FROM / 2) this.places = undefined;
    return true;
  }
}

const INDEX_FROM = 32;

/** The nodes reached at one level and at the next; they grow to the widest match seen. */
class Frontiers {
  near: Int32Array = new Int32Array(64);
  private far: Int32Array = new Int32Array(64);

  /** The array that `current` is not, with room for `count`. */
  other(current: Int32Array, count: number): Int32Array {
    if (current === this.near) {
      if (this.far.length < count) this.far = new Int32Array(count * 2);
      return this.far;
    }
    if (this.near.length < count) this.near = new Int32Array(count * 2);
    return this.near;
  }
}

// Scratch of this thread: used within one synchronous call only, shared so that small tries stay small.
const KEY = new LevelKey();
const PLUS_KEY = new LevelKey();
const PLUS_BYTES = Uint8Array.of(PLUS);
const FRONTIERS = new Frontiers();
const TEXT = new TextScratch();
