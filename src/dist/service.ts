import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP } from '../contract/contract.js';
import type { KvReader, KvWriter } from '../kv/engine.js';
import type { FrameBatch } from '../kv/frame-batch.js';
import type { Range } from '../kv/range.js';
import { OWN_OP, type Request, type Service, type ServiceHost } from '../kv/service.js';
import { WriteBatch } from '../kv/write-batch.js';
import { DIST_COMMAND, type DistCoprocessor } from './dist.js';

/** What the service must know of the node around it. */
export interface DistTopology {
  readonly node: string;
  /** Mesh index of each mqtt shard, by shard number. */
  readonly shardPeers: readonly number[];
}

/**
 * Frames before a dist range.
 *
 * The SUBACK promise: all routes added in a turn form a round. Each mqtt shard is told the changed filters, and
 * the replies go when all of them have said that their caches are clean, and when the routes are durable. A
 * requester that is alone in its round is told without being waited for: on its port the invalidation comes
 * before the reply.
 *
 * Held-back writes: a request whose routes all lead to shards is applied to memory and answered without a
 * commit, ahead of the range; its writes wait in `held` for the next durable request, for `HELD_BYTES_MAX`, or for a tick. What is
 * lost with a crash of this thread within that time, the mqtt shards add again when they hear of the new thread.
 */
export class DistService implements Service {
  readonly range: Range;
  private readonly coprocessor: DistCoprocessor;
  private readonly topology: DistTopology;
  private readonly host: ServiceHost;
  private readonly held = new WriteBatch();
  /** `held` was replayed into the transaction of this turn. */
  private heldReplayed = false;
  private commits = false;
  private readonly changes = new Map<string, string[]>();
  private round: Round | null = null;
  private readonly rounds = new Map<number, Round>();
  private lastRoundId: number;
  private readonly command = new ByteWriter(1024);
  private readonly commandReader = new ByteReader();
  private readonly outcome = new ByteWriter(1024);
  private readonly outcomeReader = new ByteReader();
  private readonly frame = new ByteWriter(1024);

  /** `callIdSeed`: a random unsigned 32-bit number, so that no answer to a former life of this thread names a round. */
  constructor(
    range: Range,
    coprocessor: DistCoprocessor,
    topology: DistTopology,
    host: ServiceHost,
    callIdSeed: number,
  ) {
    this.lastRoundId = callIdSeed & 0x7fff_ffff;
    this.range = range;
    this.coprocessor = coprocessor;
    this.topology = topology;
    this.host = host;
  }

  /** Routes in the range. */
  get size(): number {
    return this.coprocessor.size;
  }

  owns(op: number): boolean {
    return (op >= OP.DIST_MATCH && op <= OP.DIST_REMOVE) || (op >= FLUSH_HELD && op <= PURGE_NODE);
  }

  ask(request: Request, body: ByteReader, out: FrameBatch): boolean {
    if (request.op !== OP.DIST_MATCH) return false;
    this.coprocessor.query(body, NO_READER, out.begin(request.peer, OP.REPLY, request.callId));
    out.end();
    return true;
  }

  canWait(): boolean {
    return false;
  }

  weight(): number {
    return 8;
  }

  apply(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void {
    if (request.op === FLUSH_HELD) {
      this.enterCommit(writer);
      return;
    }
    if (request.op === PURGE_SHARD || request.op === PURGE_NODE) {
      this.purge(request, body, writer);
      return;
    }
    const adding = request.op === OP.DIST_ADD;
    if (hasInboxRoute(body)) this.enterCommit(writer);
    this.command.reset().u8(adding ? DIST_COMMAND.ADD : DIST_COMMAND.REMOVE);
    this.command.raw(body.bytes, body.position, body.end);
    const tenant = body.text();
    const outcome = this.mutate(writer);
    const replyEnd =
      outcome.position +
      1 +
      4 +
      new DataView(outcome.bytes.buffer, outcome.bytes.byteOffset + 1).getUint32(0, true);
    outcome.position = replyEnd;
    this.noteChanges(tenant, outcome);
    if (request.callId === 0) return;
    if (!adding) {
      out.reply(request.peer, request.callId, outcome.bytes, 0, replyEnd);
      return;
    }
    this.round ??= new Round();
    this.round.add(request, outcome.bytes, replyEnd);
  }

  private purge(request: Request, body: ByteReader, writer: KvWriter): void {
    const command = request.op === PURGE_SHARD ? DIST_COMMAND.PURGE_SHARD : DIST_COMMAND.PURGE_NODE;
    this.command.reset().u8(command).raw(body.bytes, body.position, body.end);
    const outcome = this.mutate(writer);
    for (let tenants = outcome.u32(); tenants > 0; tenants--) this.noteChanges(outcome.text(), outcome);
  }

  /** Applies `command`; the outcome is valid until the next one. */
  private mutate(writer: KvWriter): ByteReader {
    const input = this.commandReader.over(this.command.bytes, 0, this.command.length);
    if (this.commits) this.range.decide(input, writer, this.outcome.reset());
    else this.coprocessor.mutate(input, this.held, this.outcome.reset());
    return this.outcomeReader.over(this.outcome.bytes, 0, this.outcome.length);
  }

  private noteChanges(tenant: string, outcome: ByteReader): void {
    const count = outcome.u32();
    if (count === 0) return;
    let filters = this.changes.get(tenant);
    if (filters === undefined) this.changes.set(tenant, (filters = []));
    for (let i = 0; i < count; i++) filters.push(outcome.text());
  }

  /** From here on this turn writes into its transaction; what was held back goes first. */
  private enterCommit(writer: KvWriter): void {
    if (this.commits) return;
    this.commits = true;
    this.heldReplayed = true;
    this.range.enter(writer);
    this.held.replay(writer);
  }

  finish(writer: KvWriter, _out: FrameBatch): void {
    if (this.held.bytes > HELD_BYTES_MAX) this.enterCommit(writer);
    const { round } = this;
    if (round !== null) {
      round.id = this.lastRoundId = (this.lastRoundId % 0x7fff_ffff) + 1;
      this.rounds.set(round.id, round);
    }
    this.invalidate(round);
  }

  private invalidate(round: Round | null): void {
    const alone = round?.onlyRequester ?? -1;
    for (const [tenant, filters] of this.changes) {
      for (const peer of this.topology.shardPeers) {
        const waits = round !== null && peer !== alone;
        this.frame
          .reset()
          .u8(OP.DIST_INVALIDATE)
          .u32(waits ? round.id : 0);
        this.frame.text(tenant).u32(filters.length);
        for (const filter of filters) this.frame.text(filter);
        const sent = this.host.send(peer, this.frame.bytes, 0, this.frame.length);
        if (sent && waits) round.waitFor(peer);
      }
    }
    this.changes.clear();
  }

  durable(_reader: KvReader, out: FrameBatch): void {
    if (this.heldReplayed) this.held.clear();
    this.heldReplayed = false;
    this.commits = false;
    const { round } = this;
    this.round = null;
    if (round === null) return;
    round.durable = true;
    this.settle(round, out);
  }

  failed(): void {
    this.heldReplayed = false;
    this.commits = false;
    if (this.round !== null) this.rounds.delete(this.round.id);
    this.round = null;
    this.changes.clear();
    this.held.replay({
      put: (key, value) => this.coprocessor.load(key, value),
      remove: key => this.coprocessor.unload(key),
    });
  }

  answered(peer: number, callId: number, _body: ByteReader, out: FrameBatch): boolean {
    const round = this.rounds.get(callId);
    if (round === undefined) return false;
    round.heardFrom(peer);
    this.settle(round, out);
    return true;
  }

  private settle(round: Round, out: FrameBatch): void {
    if (!round.done) return;
    this.rounds.delete(round.id);
    round.reply(out);
  }

  tick(): void {
    if (this.held.count > 0) this.host.enqueue(FLUSH_HELD, EMPTY);
  }

  peerLost(peer: number, _nowMs: number, out: FrameBatch): void {
    for (const round of [...this.rounds.values()]) {
      round.forget(peer);
      this.settle(round, out);
    }
    const shard = this.topology.shardPeers.indexOf(peer);
    if (shard >= 0)
      this.host.enqueue(PURGE_SHARD, this.frame.reset().text(this.topology.node).u16(shard).copy());
  }

  /** Drops the shard routes that this node left behind when it went down. To be asked for at start. */
  purgeNode(): void {
    this.host.enqueue(PURGE_NODE, this.frame.reset().text(this.topology.node).copy());
  }
}

/** Adds of one turn that wait for the same invalidations. */
class Round {
  id = 0;
  durable = false;
  private readonly waiting = new Map<number, number>();
  private readonly requests: Request[] = [];
  private readonly bodies: Buffer[] = [];

  add(request: Request, bytes: Uint8Array, end: number): void {
    this.requests.push(request);
    this.bodies.push(Buffer.from(bytes.subarray(0, end)));
  }

  /** The peer that asked for everything in this round; -1 if there are several. */
  get onlyRequester(): number {
    const first = this.requests[0]!.peer;
    return this.requests.every(({ peer }) => peer === first) ? first : -1;
  }

  get done(): boolean {
    return this.durable && this.waiting.size === 0;
  }

  waitFor(peer: number): void {
    this.waiting.set(peer, (this.waiting.get(peer) ?? 0) + 1);
  }

  heardFrom(peer: number): void {
    const left = (this.waiting.get(peer) ?? 1) - 1;
    if (left > 0) this.waiting.set(peer, left);
    else this.waiting.delete(peer);
  }

  forget(peer: number): void {
    this.waiting.delete(peer);
  }

  reply(out: FrameBatch): void {
    this.requests.forEach(({ peer, callId }, i) => {
      out.reply(peer, callId, this.bodies[i]!);
    });
  }
}

const FLUSH_HELD = OWN_OP;
const PURGE_SHARD = OWN_OP + 1;
const PURGE_NODE = OWN_OP + 2;
const HELD_BYTES_MAX = 1 << 20;
const EMPTY = new Uint8Array(0);
const NO_READER: KvReader = { get: () => undefined, scan: () => undefined };

/** Looks ahead in a DIST_ADD or DIST_REMOVE for a route that must be durable; the reader stays where it is. */
function hasInboxRoute(body: ByteReader): boolean {
  const at = body.position;
  skipText(body);
  let found = false;
  for (let left = body.u32(); left > 0 && !found; left--) {
    skipText(body);
    skipText(body);
    body.u8();
    found = body.u8() !== RECEIVER_SHARD;
    if (!found) {
      skipText(body);
      body.u16();
      body.position += 9;
    }
  }
  body.position = at;
  return found;
}

function skipText(body: ByteReader): void {
  const bytes = body.u32();
  body.position += bytes;
}

/** As `writeRoute` of contract/dist.ts writes it. */
const RECEIVER_SHARD = 1;
