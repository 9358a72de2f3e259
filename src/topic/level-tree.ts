import { assert } from '../base/assert.js';
import { type HashKeys, hashBytes, mix } from './hash.js';
import { LevelArena } from './level-arena.js';
import { type LevelKey, PLUS, SHORT_BYTES } from './level-key.js';
import { inPage, PagedInts } from './paged.js';

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

/** In LENGTH, beside the length of the level: this node has a child `+`. */
const HAS_PLUS = 1 << 30;
const LENGTH_MASK = 0xff_ffff;

/** Words of a node's links, kept only for trees whose children must be listed. */
const FIRST = 0;
const SIBLING = 1;
const PREVIOUS = 2;
const LINKS_SHIFT = 2;

const NODES_MIN = 8;
const NODES_MAX = 1 << 26;

/**
 * A tree of topic levels in typed arrays: no object per node, so a million filters cost the garbage collector
 * nothing. Children of all nodes share one hash table from (parent, level) to node, chained through NEXT and grown
 * by linear hashing: one bucket is split per insertion. With the arrays in pages, no insertion ever stops the
 * thread to copy or rehash the whole. Levels longer than 8 bytes lie in a `LevelArena`.
 *
 * Node 0 is the root, and 0 also means "no node", since the root is nobody's child. Ids are reused after removal.
 * Memory shrinks only when the tree becomes empty. Bound: 2^26 nodes.
 */
export class LevelTree {
  readonly keys: HashKeys;
  readonly linked: boolean;
  nodes = new PagedInts(NODES_MIN << STRIDE_SHIFT);
  private links = new PagedInts(NODES_MIN << LINKS_SHIFT);
  private heads = new PagedInts(NODES_MIN);
  /** Buckets in use; those below `bucketCount - bucketBase` have been split in this round. */
  private bucketCount = NODES_MIN;
  private bucketBase = NODES_MIN;
  /** Ids below this have been used. */
  nodeEnd = 1;
  nodeCount = 1;
  private freeNode = 0;
  private readonly arena = new LevelArena();

  /** @param linked whether children are to be listed (`firstChild`, `nextSibling`), for 16 bytes a node more. */
  constructor(keys: HashKeys, linked: boolean) {
    this.keys = keys;
    this.linked = linked;
  }

  clear(): void {
    this.nodes = new PagedInts(NODES_MIN << STRIDE_SHIFT);
    this.links = new PagedInts(NODES_MIN << LINKS_SHIFT);
    this.heads = new PagedInts(NODES_MIN);
    this.bucketCount = NODES_MIN;
    this.bucketBase = NODES_MIN;
    this.nodeEnd = 1;
    this.nodeCount = 1;
    this.freeNode = 0;
    this.arena.clear();
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
    let id = this.heads.get(this.bucketOf(parent, key.hash));
    while (id !== 0) {
      const page = nodes.pageOf(id << STRIDE_SHIFT);
      const at = inPage(id << STRIDE_SHIFT);
      if (
        page[at + WORD0] === word0 &&
        page[at] === parent &&
        (page[at + LENGTH]! & LENGTH_MASK) === length
      ) {
        const word = page[at + WORD1]!;
        if (length <= SHORT_BYTES ? word === word1 : this.arena.same(word, key)) return id;
      }
      id = page[at + NEXT]!;
    }
    return 0;
  }

  /** The child `+` of `parent`, or 0; `plus` is the key of that level. */
  findPlus(parent: number, plus: LevelKey): number {
    if ((this.nodes.get((parent << STRIDE_SHIFT) + LENGTH) & HAS_PLUS) === 0) return 0;
    return this.find(parent, plus);
  }

  /** Adds the child `key`, which must not be there yet, below `parent`; returns its id. */
  insert(parent: number, key: LevelKey): number {
    const id = this.takeNode();
    const { nodes, heads } = this;
    const page = nodes.pageOf(id << STRIDE_SHIFT);
    const at = inPage(id << STRIDE_SHIFT);
    page[at + PARENT] = parent;
    page[at + LENGTH] = key.length;
    page[at + WORD0] = key.word0;
    page[at + WORD1] = key.length <= SHORT_BYTES ? key.word1 : this.arena.store(key);
    page[at + VALUE] = 0;
    page[at + VALUE_BELOW] = 0;
    page[at + CHILDREN] = 0;
    const bucket = this.bucketOf(parent, key.hash);
    page[at + NEXT] = heads.get(bucket);
    heads.set(bucket, id);
    this.countChild(parent, 1);
    if (key.is(PLUS)) this.flagPlus(parent, true);
    if (this.linked) this.link(parent, id);
    if (this.nodeCount > this.bucketCount) this.splitBucket();
    return id;
  }

  /** Removes `id` and then its ancestors, as far as they hold neither value nor child. */
  prune(id: number): void {
    const { nodes } = this;
    while (id !== 0) {
      const page = nodes.pageOf(id << STRIDE_SHIFT);
      const at = inPage(id << STRIDE_SHIFT);
      if (page[at + VALUE] !== 0 || page[at + VALUE_BELOW] !== 0 || page[at + CHILDREN] !== 0) return;
      const parent = page[at + PARENT]!;
      this.unchain(id);
      if (this.linked) this.unlink(parent, id);
      const length = page[at + LENGTH]! & LENGTH_MASK;
      if (length > SHORT_BYTES) this.arena.release(page[at + WORD1]!, length);
      this.countChild(parent, -1);
      if (length === 1 && page[at + WORD0] === PLUS) this.flagPlus(parent, false);
      page[at + NEXT] = this.freeNode;
      this.freeNode = id;
      this.nodeCount--;
      id = parent;
    }
  }

  private countChild(parent: number, change: number): void {
    const at = (parent << STRIDE_SHIFT) + CHILDREN;
    this.nodes.set(at, this.nodes.get(at) + change);
  }

  private flagPlus(parent: number, has: boolean): void {
    const at = (parent << STRIDE_SHIFT) + LENGTH;
    const word = this.nodes.get(at);
    this.nodes.set(at, has ? word | HAS_PLUS : word & ~HAS_PLUS);
  }

  /** First child of `id`, or 0. Linked trees only; the order is that of insertion, newest first. */
  firstChild(id: number): number {
    return this.links.get((id << LINKS_SHIFT) + FIRST);
  }

  nextSibling(id: number): number {
    return this.links.get((id << LINKS_SHIFT) + SIBLING);
  }

  parentOf(id: number): number {
    return this.nodes.get((id << STRIDE_SHIFT) + PARENT);
  }

  /** First byte of the level of `id`, 0 if the level is empty. */
  firstByte(id: number): number {
    const at = id << STRIDE_SHIFT;
    if ((this.nodes.get(at + LENGTH) & LENGTH_MASK) <= SHORT_BYTES) return this.nodes.get(at + WORD0) & 0xff;
    return this.arena.firstByte(this.nodes.get(at + WORD1));
  }

  /** The levels from the root to `id`, joined. */
  pathOf(id: number): string {
    const levels: string[] = [];
    for (let node = id; node !== 0; node = this.parentOf(node)) levels.push(this.levelOf(node));
    return levels.reverse().join('/');
  }

  private levelOf(id: number): string {
    const at = id << STRIDE_SHIFT;
    const length = this.nodes.get(at + LENGTH) & LENGTH_MASK;
    if (length > SHORT_BYTES) return this.arena.text(this.nodes.get(at + WORD1), length);
    this.unpackShort(at);
    return SHORT_SCRATCH.toString('utf8', 0, length);
  }

  private unpackShort(at: number): void {
    let word0 = this.nodes.get(at + WORD0);
    let word1 = this.nodes.get(at + WORD1);
    for (let i = 0; i < 4; i++, word0 >>>= 8) SHORT_SCRATCH[i] = word0;
    for (let i = 4; i < 8; i++, word1 >>>= 8) SHORT_SCRATCH[i] = word1;
  }

  private takeNode(): number {
    this.nodeCount++;
    const free = this.freeNode;
    if (free !== 0) {
      this.freeNode = this.nodes.get((free << STRIDE_SHIFT) + NEXT);
      return free;
    }
    const id = this.nodeEnd++;
    assert(id < NODES_MAX, 'a level tree holds at most 2^26 nodes');
    if (id << STRIDE_SHIFT >= this.nodes.length) this.nodes.grow();
    if (this.linked && id << LINKS_SHIFT >= this.links.length) this.links.grow();
    return id;
  }

  private hashOf(id: number): number {
    const at = id << STRIDE_SHIFT;
    const length = this.nodes.get(at + LENGTH) & LENGTH_MASK;
    if (length > SHORT_BYTES) return this.nodes.get(at + WORD0);
    this.unpackShort(at);
    return hashBytes(this.keys, SHORT_SCRATCH, 0, length);
  }

  private splitBucket(): void {
    const { nodes, heads } = this;
    if (this.bucketCount === heads.length) heads.grow();
    const from = this.bucketCount - this.bucketBase;
    this.bucketCount++;
    let id = heads.get(from);
    heads.set(from, 0);
    while (id !== 0) {
      const next = nodes.get((id << STRIDE_SHIFT) + NEXT);
      const bucket = this.bucketOf(this.parentOf(id), this.hashOf(id));
      nodes.set((id << STRIDE_SHIFT) + NEXT, heads.get(bucket));
      heads.set(bucket, id);
      id = next;
    }
    if (this.bucketCount === this.bucketBase * 2) this.bucketBase *= 2;
  }

  private unchain(id: number): void {
    const { nodes, heads } = this;
    const after = nodes.get((id << STRIDE_SHIFT) + NEXT);
    const bucket = this.bucketOf(this.parentOf(id), this.hashOf(id));
    let before = heads.get(bucket);
    if (before === id) {
      heads.set(bucket, after);
      return;
    }
    while (before !== 0) {
      const next = nodes.get((before << STRIDE_SHIFT) + NEXT);
      if (next === id) {
        nodes.set((before << STRIDE_SHIFT) + NEXT, after);
        return;
      }
      before = next;
    }
    assert(false, 'a node is in the bucket of its level');
  }

  private link(parent: number, id: number): void {
    const { links } = this;
    const first = this.firstChild(parent);
    const at = id << LINKS_SHIFT;
    links.set(at + FIRST, 0);
    links.set(at + SIBLING, first);
    links.set(at + PREVIOUS, 0);
    if (first !== 0) links.set((first << LINKS_SHIFT) + PREVIOUS, id);
    links.set((parent << LINKS_SHIFT) + FIRST, id);
  }

  private unlink(parent: number, id: number): void {
    const { links } = this;
    const next = this.nextSibling(id);
    const previous = links.get((id << LINKS_SHIFT) + PREVIOUS);
    if (previous === 0) links.set((parent << LINKS_SHIFT) + FIRST, next);
    else links.set((previous << LINKS_SHIFT) + SIBLING, next);
    if (next !== 0) links.set((next << LINKS_SHIFT) + PREVIOUS, previous);
  }
}

const SHORT_SCRATCH = Buffer.alloc(SHORT_BYTES);
