import type { ByteReader } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import { Message, readMessage } from '../contract/message.js';
import { callback } from './caller.js';
import { PUBREL } from './codec/packet.js';
import { Publication } from './publication.js';
import type { Session } from './session.js';
import { AWAITING, Window } from './window.js';

/** Messages asked for ahead of the window, so that it never runs dry. */
const CREDIT_AHEAD = 64;

/** A message of the inbox that waits for room in the window. */
class Waiting {
  readonly seq: number;
  readonly qos: number;
  readonly retain: number;
  readonly ids: readonly number[] | null;
  readonly publication: Publication;

  constructor(
    seq: number,
    qos: number,
    retain: number,
    ids: readonly number[] | null,
    publication: Publication,
  ) {
    this.seq = seq;
    this.qos = qos;
    this.retain = retain;
    this.ids = ids;
    this.publication = publication;
  }
}

/**
 * The QoS 1 and 2 messages of a persistent session, on their way from its inbox to the client. The packet id of a
 * message follows from its sequence number (contract/inbox), so a message sent again after a reconnect or a crash
 * has the id that it had [MQTT-4.4.0-1]. The inbox keeps each message until it is finished.
 */
export class Outlet {
  readonly instance: number;
  readonly window = new Window();
  /** Highest sequence number ever sent; what comes again up to here is a redelivery. */
  sentSeq: number;
  private readonly redeliverTo: number;
  readonly session: Session;
  private waiting: Waiting[] = [];
  private head = 0;
  private credit = 0;
  /** Messages of shared groups that the inbox was given for this session and has not answered for. */
  promised = 0;
  private readonly creditMax: number;
  private readonly limit: number;
  /** Finished messages that the inbox has not been told of yet; told at the end of the turn. */
  private finished: number[] = [];
  private readonly message = new Message();

  constructor(session: Session, instance: number, sentSeq: number, limit: number) {
    this.session = session;
    this.instance = instance;
    this.sentSeq = sentSeq;
    this.redeliverTo = sentSeq;
    this.limit = limit;
    this.creditMax = limit + CREDIT_AHEAD;
  }

  /** The connection that the inbox pushes to. */
  get owner(): number {
    return this.session.connection.id;
  }

  get hasRoom(): boolean {
    return this.window.count < this.limit && this.head === this.waiting.length;
  }

  /** Room also beside those messages of shared groups that are on their way into the inbox. */
  get hasRoomToPromise(): boolean {
    return this.window.count + this.promised < this.limit;
  }

  /** Resends the PUBRELs that are owed [MQTT-4.4.0-1] and asks for the queue from its beginning. */
  start(owed: readonly number[]): void {
    for (const seq of owed) {
      this.window.take(idOf(seq), AWAITING.PUBCOMP);
      this.session.sendAck(PUBREL, idOf(seq), 0);
    }
    // A PULL from 0 would go on where the last push ended; the oldest sequence number there can be is 1.
    this.pull(1);
  }

  private pull(fromSeq: number): void {
    const { router } = this.session.shard;
    const grant = this.creditMax - this.credit;
    this.credit = this.creditMax;
    router.caller.begin(OP.INBOX_PULL, null).u53(this.instance).u53(fromSeq).u32(grant);
    router.caller.send(router.links.inbox);
  }

  /** INBOX_MESSAGES, from behind the owner's connection. */
  onMessages(body: ByteReader): void {
    const count = body.u32();
    for (let i = 0; i < count; i++) {
      const seq = body.u53();
      const qos = body.u8();
      const retain = body.u8() & 1;
      const idCount = body.u8();
      let ids: number[] | null = null;
      for (let k = 0; k < idCount; k++) (ids ??= []).push(body.u32());
      const publication = Publication.of(readMessage(body, this.message));
      this.credit--;
      this.waiting.push(new Waiting(seq, qos, retain, ids, publication));
    }
    this.pump();
  }

  /** Sends what the window has room for. */
  pump(): void {
    const { waiting, session } = this;
    while (this.head < waiting.length && this.window.count < this.limit && session.canWrite()) {
      const next = waiting[this.head]!;
      const id = idOf(next.seq);
      const state = next.qos === 1 ? AWAITING.PUBACK : AWAITING.PUBREC;
      if (!this.window.take(id, state)) break; // 65,535 ahead of the oldest: wait for that one
      this.head++;
      const dup = next.seq <= this.redeliverTo ? 1 : 0;
      if (next.seq > this.sentSeq) this.sentSeq = next.seq;
      if (!session.write(next.publication, next.qos, id, dup, next.retain, next.ids)) {
        this.window.release(id);
        this.finish(next.seq);
      }
    }
    if (this.head === waiting.length) waiting.length = this.head = 0;
    else if (this.head > 512) {
      waiting.splice(0, this.head);
      this.head = 0;
    }
    const backlog = waiting.length - this.head;
    if (this.credit <= this.creditMax >> 1 && backlog < CREDIT_AHEAD) this.pull(0);
  }

  /** The sequence number of an id in flight: the newest that has it among those sent. */
  private seqOf(id: number): number {
    return this.sentSeq - ((idOf(this.sentSeq) - id + 65_535) % 65_535);
  }

  onPuback(id: number): void {
    if (this.window.stateOf(id) !== AWAITING.PUBACK) return;
    this.window.release(id);
    this.finish(this.seqOf(id));
    this.pump();
  }

  /** PUBREC: PUBREL may go only when it is durable that the client has the message. False: the id is not known. */
  onPubrec(id: number, reasonCode: number): boolean {
    const state = this.window.stateOf(id);
    if (state === AWAITING.PUBCOMP) {
      this.session.sendAck(PUBREL, id, 0);
      return true;
    }
    if (state === AWAITING.STORED_PUBREC) return true;
    if (state !== AWAITING.PUBREC) return false;
    const seq = this.seqOf(id);
    if (reasonCode >= 0x80) {
      this.window.release(id);
      this.finish(seq);
      this.pump();
      return true;
    }
    this.window.advance(id, AWAITING.STORED_PUBREC);
    const { router } = this.session.shard;
    const call = callback(
      status => this.onPubrecStored(id, status),
      () => this.session.onStoreLost(),
    );
    router.caller.begin(OP.INBOX_RECEIVED, call).u53(this.instance).u32(1).u53(seq);
    router.caller.send(router.links.inbox);
    return true;
  }

  private onPubrecStored(id: number, status: number): void {
    if (this.session.ended) return;
    if (status !== STATUS.OK) {
      this.session.onStoreLost();
      return;
    }
    this.window.advance(id, AWAITING.PUBCOMP);
    this.session.sendAck(PUBREL, id, 0);
  }

  onPubcomp(id: number): void {
    if (this.window.stateOf(id) !== AWAITING.PUBCOMP) return;
    this.window.release(id);
    this.finish(this.seqOf(id));
    this.pump();
  }

  private finish(seq: number): void {
    if (this.finished.length === 0) this.session.shard.reportFinished(this);
    this.finished.push(seq);
  }

  /** Tells the inbox what is finished; at the turn's end, and before a detach. */
  flushFinished(): void {
    const { finished } = this;
    if (finished.length === 0) return;
    const { router } = this.session.shard;
    const writer = router.caller.begin(OP.INBOX_ACKED, null).u53(this.instance).u32(finished.length);
    for (const seq of finished) writer.u53(seq);
    router.caller.send(router.links.inbox);
    finished.length = 0;
  }
}

function idOf(seq: number): number {
  return ((seq - 1) % 65_535) + 1;
}
