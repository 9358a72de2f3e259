import type { HashKeys } from './hash.js';
import { DOLLAR, LevelKey, PLUS, POUND, TextScratch } from './level-key.js';
import { LevelTree, STRIDE_SHIFT, VALUE } from './level-tree.js';
import { HeldValues } from './paged.js';

/**
 * The mirror image of `TopicTrie`: topic names in, and for a filter the names that it matches. Each name holds one
 * value. An exact filter costs one walk; `+` visits the children of the nodes reached, `#` the subtree.
 */
export class NameIndex<V> {
  private readonly tree: LevelTree;
  private readonly held = new HeldValues<V>();
  /** Names that hold a value. */
  size = 0;

  constructor(keys: HashKeys) {
    this.tree = new LevelTree(keys, true);
  }

  clear(): void {
    this.tree.clear();
    this.held.clear();
    this.size = 0;
  }

  /** Sets the value of the name at `bytes[start, end)`; returns the value that it replaced. */
  set(bytes: Uint8Array, start: number, end: number, value: V): V | undefined {
    const { tree } = this;
    let id = 0;
    for (let at = start; ; ) {
      const stop = KEY.read(tree.keys, bytes, at, end);
      const child = tree.find(id, KEY);
      id = child === 0 ? tree.insert(id, KEY) : child;
      if (stop === end) break;
      at = stop + 1;
    }
    const field = (id << STRIDE_SHIFT) + VALUE;
    const index = tree.nodes.get(field);
    if (index !== 0) {
      const replaced = this.held.get(index);
      this.held.set(index, value);
      return replaced;
    }
    tree.nodes.set(field, this.held.hold(value));
    this.size++;
    return undefined;
  }

  get(bytes: Uint8Array, start: number, end: number): V | undefined {
    const index = this.tree.nodes.get((this.walk(bytes, start, end) << STRIDE_SHIFT) + VALUE);
    return index === 0 ? undefined : this.held.get(index);
  }

  /** Removes a name; returns the value that it held. */
  delete(bytes: Uint8Array, start: number, end: number): V | undefined {
    const id = this.walk(bytes, start, end);
    const field = (id << STRIDE_SHIFT) + VALUE;
    const index = this.tree.nodes.get(field);
    if (index === 0) return undefined;
    const value = this.held.get(index);
    this.tree.nodes.set(field, 0);
    this.held.release(index);
    this.size--;
    if (this.size === 0) this.clear();
    else this.tree.prune(id);
    return value;
  }

  /** The node of a name, 0 (which never holds a value) if there is none. */
  private walk(bytes: Uint8Array, start: number, end: number): number {
    const { tree } = this;
    let id = 0;
    for (let at = start; ; ) {
      const stop = KEY.read(tree.keys, bytes, at, end);
      id = tree.find(id, KEY);
      if (id === 0 || stop === end) return id;
      at = stop + 1;
    }
  }

  /**
   * Appends the values of all names that the valid, plain `filter` matches; each once, in no order. Collected before
   * the caller acts, so that the caller may delete what it gets.
   */
  collect(filter: string, out: V[]): void {
    const { tree } = this;
    const end = TEXT.encode(filter);
    let near: number[] = [0];
    for (let at = 0; ; ) {
      const stop = KEY.read(tree.keys, TEXT.bytes, at, end);
      if (stop === end && KEY.is(POUND)) {
        for (const id of near) this.subtree(id, out);
        return;
      }
      const far: number[] = [];
      if (KEY.is(PLUS)) for (const id of near) this.children(id, far);
      else for (const id of near) this.child(id, far);
      near = far;
      if (stop === end || near.length === 0) break;
      at = stop + 1;
    }
    for (const id of near) this.emit(id, out);
  }

  private child(id: number, far: number[]): void {
    const child = this.tree.find(id, KEY);
    if (child !== 0) far.push(child);
  }

  /** [MQTT-4.7.2-1]: at the first level, a wildcard passes over what starts with `$`. */
  private hidden(parent: number, child: number): boolean {
    return parent === 0 && this.tree.firstByte(child) === DOLLAR;
  }

  private children(id: number, far: number[]): void {
    const { tree } = this;
    for (let child = tree.firstChild(id); child !== 0; child = tree.nextSibling(child)) {
      if (!this.hidden(id, child)) far.push(child);
    }
  }

  /** Depth first along the links and back by the parents: needs no stack, however deep. */
  private subtree(top: number, out: V[]): void {
    const { tree } = this;
    let id = top;
    for (;;) {
      this.emit(id, out);
      let next = tree.firstChild(id);
      for (;;) {
        while (next !== 0 && top === 0 && tree.parentOf(next) === 0 && this.hidden(0, next))
          next = tree.nextSibling(next);
        if (next !== 0) break;
        if (id === top) return;
        next = tree.nextSibling(id);
        id = tree.parentOf(id);
      }
      id = next;
    }
  }

  private emit(id: number, out: V[]): void {
    const index = this.tree.nodes.get((id << STRIDE_SHIFT) + VALUE);
    if (index !== 0) out.push(this.held.get(index));
  }
}

// Scratch of this thread: used within one synchronous call only.
const KEY = new LevelKey();
const TEXT = new TextScratch();
