import { JoinArena } from './join-arena.js';
import { ReceiveMemory } from './receive-memory.js';
import type { Peer } from './transport.js';

/**
 * What one event-loop turn has for a connection, written once at the turn's end.
 *
 * A queue of output is a path in a tree: each node holds one extent of bytes, and the last child is remembered.
 * A thousand subscribers of one topic walk the same path, so each append is two comparisons, and the bytes of
 * the whole path are joined once and shared by all of them. Extents that touch each other in one buffer grow
 * together, so messages passed through unchanged are never copied; one that a single writer walks grows in place.
 * The tree lives for one turn.
 *
 * Why so: the kernel's send is the dear thing (DESIGN.md), and a private queue per connection costs an
 * allocation and a copy per message and subscriber.
 */
export class Extent {
  readonly previous: Extent | null;
  readonly buffer: Buffer;
  readonly start: number;
  end: number;
  /** Bytes from the root to here. */
  total: number;
  /** More than one writer's path has come here, so it must stay as it is. */
  shared = false;
  joined: Buffer | null = null;
  nextBuffer: Buffer | null = null;
  nextStart = 0;
  next: Extent | null = null;

  constructor(previous: Extent | null, buffer: Buffer, start: number, end: number) {
    this.previous = previous;
    this.buffer = buffer;
    this.start = start;
    this.end = end;
    this.total = (previous === null ? 0 : previous.total) + end - start;
  }
}

const NOTHING = Buffer.alloc(0);

/** A connection's output. `peer` is null once it is closed: what is appended then goes nowhere. */
export interface Writer {
  peer: Peer | null;
  /** Output of this turn; null when there is none. */
  tail: Extent | null;
  /** The kernel has not taken all that was written before. */
  readonly blocked: boolean;
  /** Called when a write left bytes waiting for the kernel. */
  onBlocked(pendingBytes: number): void;
  /** Somebody waits until all is written. */
  readonly starved: boolean;
  /** Called when a write left nothing waiting and somebody waits for that. */
  onRoom(): void;
}

export class Outbox {
  private root = new Extent(null, NOTHING, 0, 0);
  private dirty: Writer[] = [];
  private spare: Writer[] = [];
  private readonly schedule: () => void;
  private readonly arena = new JoinArena();
  /** What came in this turn; most of what goes out lies there. */
  readonly received = new ReceiveMemory();
  /** Writes handed to the transports and bytes in them, since the start. */
  writes = 0;
  bytes = 0;

  /** `schedule` asks for `flush` at the end of the turn; it is called once per turn at most. */
  constructor(schedule: () => void) {
    this.schedule = schedule;
  }

  /** Appends bytes that will not change until written. */
  append(writer: Writer, buffer: Buffer, start: number, end: number): void {
    let tail = writer.tail;
    if (tail === null) {
      tail = this.root;
      if (this.dirty.length === 0) this.schedule();
      this.dirty.push(writer);
    }
    if (tail.nextBuffer === buffer && tail.nextStart === start && tail.next!.end === end) {
      writer.tail = tail.next;
      tail.next!.shared = true;
      return;
    }
    const grows = tail.buffer === buffer && tail.end === start && tail.previous !== null;
    if (grows && !tail.shared) {
      tail.total += end - start;
      tail.end = end;
      return;
    }
    const next = grows
      ? new Extent(tail.previous, buffer, tail.start, end)
      : new Extent(tail, buffer, start, end);
    tail.nextBuffer = buffer;
    tail.nextStart = start;
    tail.next = next;
    writer.tail = next;
  }

  /** Bytes appended for `writer` in this turn. */
  queuedBytes(writer: Writer): number {
    return writer.tail === null ? 0 : writer.tail.total;
  }

  /** Writes out one connection now, ahead of the turn's end: before it is closed. */
  flushOne(writer: Writer): void {
    const tail = writer.tail;
    if (tail === null || tail === this.root || writer.peer === null) return;
    writer.tail = this.root; // stays on the dirty list
    // Of the arena nothing may be taken here: this tree may outlive the flush that is under way.
    if (tail.joined === null) tail.joined = join(tail, null);
    this.write(writer, writer.peer, tail.joined);
  }

  /** The turn's end: one write per connection that has output. */
  flush(): void {
    const { dirty } = this;
    this.dirty = this.spare;
    this.root = new Extent(null, NOTHING, 0, 0);
    for (let i = 0; i < dirty.length; i++) {
      const writer = dirty[i]!;
      const tail = writer.tail!;
      writer.tail = null;
      if (tail.previous === null || writer.peer === null) continue;
      // What waits behind earlier bytes would hold a whole arena.
      if (tail.joined === null) tail.joined = join(tail, writer.blocked ? null : this.arena);
      this.write(writer, writer.peer, tail.joined);
    }
    this.arena.endTurn();
    this.received.endTurn();
    dirty.length = 0;
    this.spare = dirty;
  }

  private write(writer: Writer, peer: Peer, bytes: Buffer): void {
    this.writes++;
    this.bytes += bytes.length;
    const pending = peer.write(bytes);
    if (pending > 0) {
      this.arena.pin(bytes);
      this.received.pin(bytes);
      writer.onBlocked(pending);
    } else if (writer.starved) writer.onRoom();
  }
}

function join(tail: Extent, arena: JoinArena | null): Buffer {
  if (tail.previous!.previous === null) return tail.buffer.subarray(tail.start, tail.end);
  const joined = arena === null ? Buffer.allocUnsafeSlow(tail.total) : arena.take(tail.total);
  for (let extent = tail; extent.previous !== null; extent = extent.previous) {
    const at = extent.previous.total;
    // Whoever has a joined prefix already saves the walk.
    if (extent.joined !== null) {
      joined.set(extent.joined, 0);
      break;
    }
    const { buffer, start, end } = extent;
    if (end - start < 48) for (let i = start, o = at; i < end; i++, o++) joined[o] = buffer[i]!;
    else buffer.copy(joined, at, start, end);
  }
  return joined;
}
