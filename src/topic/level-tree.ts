import { assert } from '../base/assert.js';
import { type HashKeys, hashBytes, mix } from './hash.js';
import { type LevelKey, PLUS, SHORT_BYTES } from './level-key.js';

/** Words of a node. A node is 32 bytes, half a cache line. */
const PARENT = 0;
const LENGTH = 1;
const WORD0 = 2;
const WORD1 = 3;
const NEXT = 4;
/** Two words for the owner of the tree; a node with either set, or with children, stays. */
export const VALUE = 5;
export const VALUE_BELOW = 6;
const CHILDREN = 7;
export const STRIDE_SHIFT = 3;
const STRIDE = 1 << STRIDE_SHIFT;

/** In LENGTH, beside the length of the level: this node has a child `+`. */
const HAS_PLUS = 1 << 30;
const LENGTH_MASK = 0xff_ffff;

/** Words of a node's links, kept only for trees whose children must be listed. */
const FIRST = 0;
const SIBLING = 1;
const PREVIOUS = 2;
const LINKS = 3;

const NODES_MIN = 8;
const ARENA_UNIT_BYTES = 8;

/**
 * A tree of topic levels in typed arrays: no object per node, so a million filters cost the garbage collector
 * nothing. Children of all nodes share one hash table from (parent, level) to node, chained through NEXT and grown
 * by linear hashing: one bucket is split per insertion, so growth never stops the thread to rehash everything
 * (only to copy arrays). Levels longer than 8 bytes lie in an arena of 8-byte units with a free list per size.
 *
 * Node 0 is the root, and 0 also means "no node", since the root is nobody's child. Ids are reused after removal.
 * Memory shrinks only when the tree becomes empty. Bounds: 2^26 nodes, and an arena of
 * what one Buffer can hold (4 GiB on Node 20).
 */
export class LevelTree {
  readonly keys: HashKeys;
  readonly linked: boolean;
  nodes: Int32Array = new Int32Array(NODES_MIN * STRIDE);
  private links: Int32Array;
  private heads: Int32Array = new Int32Array(NODES_MIN);
  /** Buckets in use; those below `bucketCount - bucketBase` have been split in this round. */
  private bucketCount = NODES_MIN;
  private bucketBase = NODES_MIN;
  /** Ids below this have been used. */
  nodeEnd = 1;
  nodeCount = 1;
  private freeNode = 0;
  private arena: Buffer = NO_ARENA;
  private arenaEnd = 0;
  private arenaFree = new Map<number, number[]>();

  constructor(keys: HashKeys, linked: boolean) {
    this.keys = keys;
    this.linked = linked;
    this.links = new Int32Array(linked ? NODES_MIN * LINKS : 0);
  }

  clear(): void {
    this.nodes = new Int32Array(NODES_MIN * STRIDE);
    this.links = new Int32Array(this.linked ? NODES_MIN * LINKS : 0);
    this.heads = new Int32Array(NODES_MIN);
    this.bucketCount = NODES_MIN;
    this.bucketBase = NODES_MIN;
    this.nodeEnd = 1;
    this.nodeCount = 1;
    this.freeNode = 0;
    this.arena = NO_ARENA;
    this.arenaEnd = 0;
    this.arenaFree.clear();
  }

  private bucketOf(parent: number, hash: number): number {
    const mixed = mix(hash ^ Math.imul(parent, 0x9e3779b1));
    const base = this.bucketBase;
    const bucket = mixed & (base * 2 - 1);
    return bucket < this.bucketCount ? bucket : bucket & (base - 1);
  }

  /** The child of `parent` that is the level `key`, or 0. */
  find(parent: number, key: LevelKey): number {
    const { nodes } = this;
    const { length, word0, word1 } = key;
    let id = this.heads[this.bucketOf(parent, key.hash)]!;
    while (id !== 0) {
      const at = id << STRIDE_SHIFT;
      if (
        nodes[at + WORD0] === word0 &&
        nodes[at] === parent &&
        (nodes[at + LENGTH]! & LENGTH_MASK) === length
      ) {
        if (length <= SHORT_BYTES ? nodes[at + WORD1] === word1 : this.sameBytes(nodes[at + WORD1]!, key))
          return id;
      }
      id = nodes[at + NEXT]!;
    }
    return 0;
  }

  /** The child `+` of `parent`, or 0; `plus` is the key of that level. */
  findPlus(parent: number, plus: LevelKey): number {
    if ((this.nodes[(parent << STRIDE_SHIFT) + LENGTH]! & HAS_PLUS) === 0) return 0;
    return this.find(parent, plus);
  }

  private sameBytes(unit: number, key: LevelKey): boolean {
    const { arena } = this;
    const { bytes, start, length } = key;
    const from = unit * ARENA_UNIT_BYTES;
    for (let i = 0; i < length; i++) if (arena[from + i] !== bytes[start + i]) return false;
    return true;
  }

  /** Adds the child `key`, which must not be there yet, below `parent`; returns its id. */
  insert(parent: number, key: LevelKey): number {
    const id = this.takeNode();
    const { nodes } = this;
    const at = id << STRIDE_SHIFT;
    nodes[at + PARENT] = parent;
    nodes[at + LENGTH] = key.length;
    nodes[at + WORD0] = key.word0;
    nodes[at + WORD1] = key.length <= SHORT_BYTES ? key.word1 : this.storeBytes(key);
    nodes[at + VALUE] = 0;
    nodes[at + VALUE_BELOW] = 0;
    nodes[at + CHILDREN] = 0;
    const parentAt = parent << STRIDE_SHIFT;
    nodes[parentAt + CHILDREN] = nodes[parentAt + CHILDREN]! + 1;
    if (key.is(PLUS)) nodes[parentAt + LENGTH] = nodes[parentAt + LENGTH]! | HAS_PLUS;
    const bucket = this.bucketOf(parent, key.hash);
    nodes[at + NEXT] = this.heads[bucket]!;
    this.heads[bucket] = id;
    if (this.linked) this.link(parent, id);
    if (this.nodeCount > this.bucketCount) this.splitBucket();
    return id;
  }

  /** Removes `id` and then its ancestors, as far as they hold neither value nor child. */
  prune(id: number): void {
    const { nodes } = this;
    while (id !== 0) {
      const at = id << STRIDE_SHIFT;
      if (nodes[at + VALUE] !== 0 || nodes[at + VALUE_BELOW] !== 0 || nodes[at + CHILDREN] !== 0) return;
      const parent = nodes[at + PARENT]!;
      this.unchain(id);
      if (this.linked) this.unlink(parent, id);
      const length = nodes[at + LENGTH]! & LENGTH_MASK;
      if (length > SHORT_BYTES) this.freeBytes(nodes[at + WORD1]!, length);
      const parentAt = parent << STRIDE_SHIFT;
      nodes[parentAt + CHILDREN] = nodes[parentAt + CHILDREN]! - 1;
      if (length === 1 && nodes[at + WORD0] === PLUS)
        nodes[parentAt + LENGTH] = nodes[parentAt + LENGTH]! & ~HAS_PLUS;
      nodes[at + NEXT] = this.freeNode;
      this.freeNode = id;
      this.nodeCount--;
      id = parent;
    }
    if (this.nodeCount === 1 && nodes[VALUE] === 0 && nodes[VALUE_BELOW] === 0) this.clear();
  }

  /** First child of `id`, or 0. Linked trees only; the order is that of insertion, newest first. */
  firstChild(id: number): number {
    return this.links[id * LINKS + FIRST]!;
  }

  nextSibling(id: number): number {
    return this.links[id * LINKS + SIBLING]!;
  }

  parentOf(id: number): number {
    return this.nodes[(id << STRIDE_SHIFT) + PARENT]!;
  }

  /** First byte of the level of `id`, 0 if the level is empty. */
  firstByte(id: number): number {
    const at = id << STRIDE_SHIFT;
    if ((this.nodes[at + LENGTH]! & LENGTH_MASK) <= SHORT_BYTES) return this.nodes[at + WORD0]! & 0xff;
    return this.arena[this.nodes[at + WORD1]! * ARENA_UNIT_BYTES]!;
  }

  /** The levels from the root to `id`, joined. */
  pathOf(id: number): string {
    const levels: string[] = [];
    for (let node = id; node !== 0; node = this.parentOf(node)) levels.push(this.levelOf(node));
    return levels.reverse().join('/');
  }

  private levelOf(id: number): string {
    const at = id << STRIDE_SHIFT;
    const { nodes } = this;
    const length = nodes[at + LENGTH]! & LENGTH_MASK;
    if (length > SHORT_BYTES) {
      const from = nodes[at + WORD1]! * ARENA_UNIT_BYTES;
      return this.arena.toString('utf8', from, from + length);
    }
    const bytes = Buffer.alloc(SHORT_BYTES);
    bytes.writeInt32LE(nodes[at + WORD0]!, 0);
    bytes.writeInt32LE(nodes[at + WORD1]!, 4);
    return bytes.toString('utf8', 0, length);
  }

  private takeNode(): number {
    this.nodeCount++;
    const free = this.freeNode;
    if (free !== 0) {
      this.freeNode = this.nodes[(free << STRIDE_SHIFT) + NEXT]!;
      return free;
    }
    const id = this.nodeEnd++;
    if (id << STRIDE_SHIFT >= this.nodes.length) {
      const capacity = grownCount(this.nodes.length >> STRIDE_SHIFT);
      assert(capacity <= 1 << 26, 'a level tree holds at most 2^26 nodes');
      this.nodes = grown(this.nodes, capacity * STRIDE);
      if (this.linked) this.links = grown(this.links, capacity * LINKS);
    }
    return id;
  }

  private hashOf(id: number): number {
    const at = id << STRIDE_SHIFT;
    const { nodes } = this;
    const length = nodes[at + LENGTH]! & LENGTH_MASK;
    if (length > SHORT_BYTES) return nodes[at + WORD0]!;
    let word0 = nodes[at + WORD0]!;
    let word1 = nodes[at + WORD1]!;
    for (let i = 0; i < 4; i++, word0 >>>= 8) SHORT_SCRATCH[i] = word0;
    for (let i = 4; i < 8; i++, word1 >>>= 8) SHORT_SCRATCH[i] = word1;
    return hashBytes(this.keys, SHORT_SCRATCH, 0, length);
  }

  private splitBucket(): void {
    if (this.bucketCount === this.heads.length) this.heads = grown(this.heads, this.heads.length * 2);
    const from = this.bucketCount - this.bucketBase;
    const to = this.bucketCount++;
    const { nodes, heads } = this;
    let id = heads[from]!;
    heads[from] = 0;
    while (id !== 0) {
      const at = id << STRIDE_SHIFT;
      const next = nodes[at + NEXT]!;
      const bucket = this.bucketOf(nodes[at + PARENT]!, this.hashOf(id));
      nodes[at + NEXT] = heads[bucket]!;
      heads[bucket] = id;
      id = next;
    }
    if (to + 1 === this.bucketBase * 2) this.bucketBase *= 2;
  }

  private unchain(id: number): void {
    const { nodes, heads } = this;
    const at = id << STRIDE_SHIFT;
    const bucket = this.bucketOf(nodes[at + PARENT]!, this.hashOf(id));
    let before = heads[bucket]!;
    if (before === id) {
      heads[bucket] = nodes[at + NEXT]!;
      return;
    }
    while (before !== 0) {
      const beforeAt = before << STRIDE_SHIFT;
      const next = nodes[beforeAt + NEXT]!;
      if (next === id) {
        nodes[beforeAt + NEXT] = nodes[at + NEXT]!;
        return;
      }
      before = next;
    }
    assert(false, 'a node is in the bucket of its level');
  }

  private link(parent: number, id: number): void {
    const { links } = this;
    const first = links[parent * LINKS + FIRST]!;
    links[id * LINKS + FIRST] = 0;
    links[id * LINKS + SIBLING] = first;
    links[id * LINKS + PREVIOUS] = 0;
    if (first !== 0) links[first * LINKS + PREVIOUS] = id;
    links[parent * LINKS + FIRST] = id;
  }

  private unlink(parent: number, id: number): void {
    const { links } = this;
    const next = links[id * LINKS + SIBLING]!;
    const previous = links[id * LINKS + PREVIOUS]!;
    if (previous === 0) links[parent * LINKS + FIRST] = next;
    else links[previous * LINKS + SIBLING] = next;
    if (next !== 0) links[next * LINKS + PREVIOUS] = previous;
  }

  /** Returns the unit at which the bytes of `key` now lie. */
  private storeBytes(key: LevelKey): number {
    const units = Math.ceil(key.length / ARENA_UNIT_BYTES);
    const { bytes, start, length } = key;
    let unit = this.arenaFree.get(units)?.pop();
    if (unit === undefined) {
      unit = this.arenaEnd;
      this.arenaEnd += units;
      const need = this.arenaEnd * ARENA_UNIT_BYTES;
      if (need > this.arena.length) {
        const arena = Buffer.allocUnsafeSlow(Math.max(need, grownCount(this.arena.length)));
        this.arena.copy(arena);
        this.arena = arena;
      }
    }
    const { arena } = this;
    const to = unit * ARENA_UNIT_BYTES;
    for (let i = 0; i < length; i++) arena[to + i] = bytes[start + i]!;
    return unit;
  }

  private freeBytes(unit: number, length: number): void {
    const units = Math.ceil(length / ARENA_UNIT_BYTES);
    const free = this.arenaFree.get(units);
    if (free === undefined) this.arenaFree.set(units, [unit]);
    else free.push(unit);
  }
}

/** Doubles small arrays and grows large ones by half, so that slack stays below a third. */
function grownCount(count: number): number {
  return count < 1 << 16 ? count * 2 : count + (count >> 1);
}

function grown(array: Int32Array, length: number): Int32Array {
  const copy = new Int32Array(length);
  copy.set(array);
  return copy;
}

const NO_ARENA = Buffer.alloc(0);
const SHORT_SCRATCH = new Uint8Array(SHORT_BYTES);
