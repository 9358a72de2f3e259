import { type ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { STATUS } from '../../src/contract/contract.js';
import type { KvReader, KvWriter } from '../../src/kv/engine.js';
import type { FrameBatch } from '../../src/kv/frame-batch.js';
import { localKey } from '../../src/kv/keys.js';
import type { Boundary, Coprocessor } from '../../src/kv/range.js';
import { OWN_OP, type Request, type Service } from '../../src/kv/service.js';
import type { SoleRange } from '../../src/kv/sole-range.js';
import { mix } from './kv-registers.js';
import { fail } from './underlay-checkers.js';

/** Keys of ledgers begin with this. */
export const LEDGER = 0x6c;
/** A request that waits for the next commit, and one that has a commit made. */
const OP_LATER = OWN_OP - 2;
const OP_NOW = OWN_OP - 1;
const PEER = 1;
const SLOTS = 32;
const OPEN_MAX = 64;
const SUMS = 1;
/** In the calm a request is answered within this. */
const PATIENCE_MS = 15_000;

interface Line {
  readonly number: number;
  readonly digest: number;
}

/**
 * What a store's own range must hold: every command in the order in which it was done. It outlives the processes, so when
 * one opens the range, or opens it again because a transaction failed, what is stored must be a beginning of this, to the
 * byte, with all that was acknowledged in it.
 */
export class LedgerTruth {
  readonly label: string;
  #lines: Line[] = [];
  #acknowledged = 0;
  last = 0;

  constructor(label: string) {
    this.label = label;
  }

  get count(): number {
    return this.#acknowledged;
  }

  does(count: number, number: number, digest: number): void {
    if (count !== this.#lines.length + 1)
      fail(`ledger of ${this.label}: line ${count} comes behind line ${this.#lines.length}`);
    this.#lines.push({ number, digest });
  }

  acknowledged(count: number, number: number): void {
    if (this.#lines[count - 1]?.number !== number)
      fail(`ledger of ${this.label}: ${number} is acknowledged as line ${count} and is not there`);
    this.#acknowledged = Math.max(this.#acknowledged, count);
  }

  refused(number: number): void {
    if (this.#lines.some(line => line.number === number))
      fail(`ledger of ${this.label}: ${number} was refused and is done`);
  }

  /** A crash may have taken what nobody was told of. */
  opens(count: number, bytes: string): void {
    if (count < this.#acknowledged)
      fail(`ledger of ${this.label}: ${this.#acknowledged} lines were acknowledged, ${count} are there`);
    if (count > this.#lines.length) fail(`ledger of ${this.label}: line ${count} was never done`);
    this.#lines.length = count;
    if (bytes !== this.#bytes()) fail(`ledger of ${this.label}: it is not what its ${count} lines have made`);
  }

  #bytes(): string {
    const slots = new Map<number, string>();
    for (const { number, digest } of this.#lines)
      slots.set(number % SLOTS, entryWords(number % SLOTS, number, digest));
    return [...slots.entries()]
      .sort(([left], [right]) => left - right)
      .map(([, words]) => words)
      .join();
  }
}

function entryWords(slot: number, number: number, digest: number): string {
  return `${slot}=${number}:${digest}`;
}

/** Counts commands and chains their digests; both are written once for a transaction. */
export class LedgerRange implements Coprocessor {
  readonly #id: number;
  readonly #truth: LedgerTruth;
  readonly #value = new ByteWriter(16);
  #count = 0;
  #digest = 0;

  constructor(id: number, truth: LedgerTruth) {
    this.#id = id;
    this.#truth = truth;
  }

  query(): void {}

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const number = input.u32();
    this.#count += 1;
    this.#digest = mix(this.#digest, number) >>> 0;
    this.#truth.does(this.#count, number, this.#digest);
    writer.put(
      Uint8Array.of(LEDGER, number % SLOTS),
      this.#value.reset().u32(number).u32(this.#digest).view(),
    );
    output.u32(this.#count);
  }

  finish(writer: KvWriter): void {
    writer.put(this.#sumsKey(), this.#value.reset().u32(this.#count).u32(this.#digest).view());
  }

  reset({ start, end }: Boundary, reader: KvReader): void {
    const sums = reader.get(this.#sumsKey());
    this.#count = sums === undefined ? 0 : Buffer.from(sums).readUInt32LE(0);
    this.#digest = sums === undefined ? 0 : Buffer.from(sums).readUInt32LE(4);
    const words: string[] = [];
    reader.scan(start, end, (key, value) => {
      const bytes = Buffer.from(value);
      words.push(entryWords(key[1]!, bytes.readUInt32LE(0), bytes.readUInt32LE(4)));
      return true;
    });
    this.#truth.opens(this.#count, words.join());
  }

  #sumsKey(): Uint8Array {
    return localKey(new ByteWriter(16), LEDGER, this.#id, SUMS).copy();
  }
}

/** What asks for lines, in one process: frames as those of an mqtt thread, and their replies. */
export class LedgerService implements Service {
  readonly range: SoleRange;
  readonly #truth: LedgerTruth;
  readonly #open = new Map<number, number>();
  readonly #output = new ByteWriter(16);
  readonly #frame = new ByteWriter(16);

  constructor(range: SoleRange, truth: LedgerTruth) {
    this.range = range;
    this.#truth = truth;
  }

  /** The frame of the next request; undefined while too many wait. */
  request(nowMs: number, isUrgent: boolean): ByteWriter | undefined {
    if (this.#open.size >= OPEN_MAX) return undefined;
    const number = ++this.#truth.last;
    this.#open.set(number, nowMs);
    return this.#frame
      .reset()
      .u8(isUrgent ? OP_NOW : OP_LATER)
      .u32(number)
      .u32(number);
  }

  get peer(): number {
    return PEER;
  }

  /** A reply on its way to the thread that asked. */
  sent(frame: Uint8Array): void {
    const bytes = Buffer.from(frame);
    const number = bytes.readUInt32LE(1);
    if (!this.#open.delete(number)) fail(`ledger of ${this.#truth.label}: ${number} is answered twice`);
    if (bytes[5] === STATUS.OK) this.#truth.acknowledged(bytes.readUInt32LE(6), number);
    else this.#truth.refused(number);
  }

  /** What waits for too long, since `sinceMs` at the earliest. */
  check(nowMs: number, sinceMs: number): void {
    for (const [number, askedMs] of this.#open)
      if (nowMs - Math.max(askedMs, sinceMs) > PATIENCE_MS)
        fail(`liveness: the ledger of ${this.#truth.label} does not answer ${number}`);
  }

  owns(op: number): boolean {
    return op === OP_NOW || op === OP_LATER;
  }

  ask(): boolean {
    return false;
  }

  canWait(op: number): boolean {
    return op === OP_LATER;
  }

  weight(): number {
    return 1;
  }

  apply({ peer, callId }: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    const output = this.#output.reset().u8(STATUS.OK);
    this.range.decide(body, writer, output);
    out.reply(peer, callId, output.view());
  }

  finish(): void {}

  durable(): void {}

  failed(): void {}

  answered(): boolean {
    return false;
  }

  tick(): void {}

  peerLost(): void {}
}
