import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP } from '../contract/contract.js';
import type { DueEntry } from '../kv/due-index.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import type { FrameBatch } from '../kv/frame-batch.js';
import type { Range } from '../kv/range.js';
import { OWN_OP, type Request, type Service, type ServiceHost } from '../kv/service.js';
import { RETAIN_COMMAND, type RetainCoprocessor } from './retain.js';

/** Frames before a retain range. Scans run in the turn, behind what was set before them. */
export class RetainService implements Service {
  readonly range: Range;
  private readonly coprocessor: RetainCoprocessor;
  private readonly host: ServiceHost;
  private readonly command = new ByteWriter(1024);
  private readonly commandReader = new ByteReader();
  private readonly outcome = new ByteWriter(64);

  constructor(range: Range, coprocessor: RetainCoprocessor, host: ServiceHost) {
    this.host = host;
    this.range = range;
    this.coprocessor = coprocessor;
  }

  get messages(): number {
    return this.coprocessor.messages;
  }

  get bytes(): number {
    return this.coprocessor.bytes;
  }

  owns(op: number): boolean {
    return op === OP.RETAIN_SET || op === OP.RETAIN_SCAN || op === EXPIRE;
  }

  ask(): boolean {
    return false;
  }

  canWait(): boolean {
    return false;
  }

  weight(op: number): number {
    return op === EXPIRE ? 8 * EXPIRED_PER_COMMAND : 8;
  }

  apply(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    if (request.op === OP.RETAIN_SCAN) {
      this.coprocessor.query(body, writer, out.begin(request.peer, OP.REPLY, request.callId));
      out.end();
      return;
    }
    this.command.reset().u8(request.op === EXPIRE ? RETAIN_COMMAND.EXPIRE : RETAIN_COMMAND.SET);
    this.command.raw(body.bytes, body.position, body.end);
    const input = this.commandReader.over(this.command.bytes, 0, this.command.length);
    this.range.decide(input, writer, this.outcome.reset());
    if (request.callId !== 0)
      out.reply(request.peer, request.callId, this.outcome.bytes, 0, this.outcome.length);
  }

  finish(): void {
    // Nothing is held back.
  }

  durable(): void {
    // Nothing waits for more than the transaction.
  }

  failed(): void {
    // Nothing is kept beside the range.
  }

  answered(): boolean {
    return false;
  }

  tick(nowMs: number, reader: KvReader): void {
    const due: DueEntry[] = [];
    this.coprocessor.dueIndex.due(reader, nowMs, TENANTS_PER_TICK, EXPIRED_PER_TICK, due);
    for (let i = 0; i < due.length; i += EXPIRED_PER_COMMAND) {
      const share = due.slice(i, i + EXPIRED_PER_COMMAND);
      this.command.reset().u32(share.length);
      for (const { tenant, key } of share) this.command.text(tenant).blob(key);
      this.host.enqueue(EXPIRE, this.command.copy());
    }
  }

  peerLost(): void {
    // Nothing here belongs to a connection.
  }
}

const EXPIRE = OWN_OP + 20;
const TENANTS_PER_TICK = 512;
const EXPIRED_PER_TICK = 2000;
const EXPIRED_PER_COMMAND = 50;
