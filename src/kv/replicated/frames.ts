import { encodeMessage } from '../raft/codec.js';
import type { Message } from '../raft/message.js';
import { type VarintReader, VarintWriter } from '../raft/varint.js';

/** What stores say to each other. A frame holds many, of all the ranges that two stores share. */
export const ITEM = {
  /** A message of a range's group. */
  RAFT: 1,
  /** The named replica is none any more and never will be. Body: replica, target (0, or the range that absorbed it). */
  GONE: 2,
  /** Part of a state. */
  CHUNK: 3,
  /** How far a state has come. */
  CHUNK_ANSWER: 4,
  /** Is the named replica one still? Answered only if it is not. */
  INQUIRY: 5,
} as const;

const FRAME_VERSION = 1;
/** A frame that is larger leaves before the next item. */
const FRAME_BYTES_MAX = 1024 * 1024;

/** Hands a frame to the transport, which may keep the bytes. What cannot be sent may be dropped. */
export type StoreSender = (store: number, frame: Uint8Array) => void;

/** Gathers what goes to each store, so that a turn sends each a frame. An empty frame is a sign of life. */
export class Frames {
  private readonly from: number;
  private readonly starts: number;
  private readonly send: StoreSender;
  private readonly byStore = new Map<number, VarintWriter>();
  private readonly body = new VarintWriter(1024);
  sent = 0;
  items = 0;

  constructor(from: number, starts: number, send: StoreSender) {
    this.from = from;
    this.starts = starts;
    this.send = send;
  }

  message(store: number, range: number, message: Message): void {
    encodeMessage(this.body.reset(), message);
    this.add(store, ITEM.RAFT, range, this.body.view());
  }

  add(store: number, kind: number, range: number, body: Uint8Array): void {
    this.items++;
    const frame = this.open(store).byte(kind).number(range).blob(body);
    if (frame.length > FRAME_BYTES_MAX) this.flushOne(store, frame);
  }

  /** Says that this store lives, if nothing else is said. */
  open(store: number): VarintWriter {
    let frame = this.byStore.get(store);
    if (frame === undefined) {
      frame = new VarintWriter(512).byte(FRAME_VERSION).number(this.from).number(store).number(this.starts);
      this.byStore.set(store, frame);
    }
    return frame;
  }

  /** Frames that are not sent yet. */
  get waiting(): number {
    return this.byStore.size;
  }

  flush(): void {
    if (this.byStore.size === 0) return;
    for (const [store, frame] of this.byStore) this.flushOne(store, frame);
  }

  clear(): void {
    this.byStore.clear();
  }

  private flushOne(store: number, frame: VarintWriter): void {
    this.byStore.delete(store);
    this.sent++;
    this.send(store, frame.view());
  }
}

/** What a frame says before its items. */
export interface FrameHead {
  readonly from: number;
  readonly to: number;
  readonly starts: number;
}

/** Undefined if it is none, or a newer one's. */
export function readFrameHead(reader: VarintReader): FrameHead | undefined {
  const version = reader.byte();
  const head = { from: reader.number(), to: reader.number(), starts: reader.number() };
  return reader.broken || version !== FRAME_VERSION ? undefined : head;
}
