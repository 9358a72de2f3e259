import { type ByteReader, ByteWriter } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import { writeSubscription } from '../contract/inbox.js';
import type { KvReader } from '../kv/engine.js';
import type { FrameBatch } from '../kv/frame-batch.js';
import type { Request, ServiceHost } from '../kv/service.js';
import type { Announced, Announcements } from './announcements.js';
import { INBOX_COMMAND } from './inbox.js';
import { OWN_COMMAND } from './own-ops.js';
import type { Sessions } from './sessions.js';

/** Which thread is asked first: a mesh index, or one of these. */
export const ASK = {
  ANY: -1,
  /** Any, but not before the next tick: what the thread that died had sent to dist is read by then. */
  LATER: -2,
} as const;

const WAITING = 0;
const ASKED = 1;
const DONE = 2;

/** A session whose routes may differ from its subscriptions while nobody who is connected will mend that. */
interface Doubt {
  readonly tenant: string;
  readonly clientId: string;
  readonly instance: number;
  readonly name: string;
  peer: number;
  state: number;
  /** Who wants to attach meanwhile. */
  parked: Parked[];
}

interface Parked {
  readonly name: string;
  readonly request: Request;
  readonly body: Uint8Array;
}

/**
 * INBOX_ROUTES: has the routes of sessions brought in line that ended, or that were left with changes whose routes
 * are not known to be in effect. The records that say so (`e` and `c` entries) go only when dist has confirmed, so
 * whatever dies, it is asked again. Nobody attaches to such a session meanwhile: a route that an older request still
 * on its way adds or removes would not be theirs. For the same reason the thread that the session lived on is asked
 * first: what it sent to dist for the session is ahead of what it is asked now.
 *
 * Memory: an object for each session that waits; their records are in the range.
 */
export class Settlements {
  private readonly sessions: Sessions;
  private readonly announcements: Announcements;
  private readonly host: ServiceHost;
  private readonly doubts = new Map<string, Doubt>();
  /** To be asked now, and from the next tick on, in order. */
  private readonly waiting = new Set<Doubt>();
  private readonly later = new Set<Doubt>();
  /** Of this turn; in force when it is durable. */
  private noted: Doubt[] = [];
  private parked: Parked[] = [];
  private settled: string[] = [];
  private readonly command = new ByteWriter(256);

  constructor(sessions: Sessions, announcements: Announcements, host: ServiceHost) {
    this.sessions = sessions;
    this.announcements = announcements;
    this.host = host;
  }

  /** Whether no session waits. */
  get none(): boolean {
    return this.doubts.size === 0;
  }

  // -- in the turn -------------------------------------------------------------------------------------------

  /** A session's routes are in doubt; `peer` is the thread to ask, or one of {@link ASK}. */
  note(tenant: string, clientId: string, instance: number, peer: number): void {
    const name = nameOf(tenant, clientId);
    this.noted.push({ tenant, clientId, instance, name, peer, state: WAITING, parked: [] });
  }

  /** As many as the outcome of a command names. */
  noteAll(outcome: ByteReader, peer: number): void {
    for (let left = outcome.u32(); left > 0; left--)
      this.note(outcome.text(), outcome.text(), outcome.u53(), peer);
  }

  /** Keeps an ATTACH until the routes are no longer in doubt. */
  park(tenant: string, clientId: string, request: Request, body: Uint8Array): void {
    this.parked.push({ name: nameOf(tenant, clientId), request, body });
  }

  /** ROUTES_DONE was applied. */
  done(tenant: string, clientId: string): void {
    this.settled.push(nameOf(tenant, clientId));
  }

  durable(reader: KvReader, out: FrameBatch): void {
    for (const name of this.settled) this.forget(name);
    for (const doubt of this.noted) {
      if (this.doubts.has(doubt.name)) continue;
      this.doubts.set(doubt.name, doubt);
      (doubt.peer === ASK.LATER ? this.later : this.waiting).add(doubt);
    }
    for (const parked of this.parked) {
      const doubt = this.doubts.get(parked.name);
      if (doubt === undefined) this.host.requeue(parked.request, parked.body);
      else doubt.parked.push(parked);
    }
    this.clearTurn();
    this.announce(reader, out);
  }

  private clearTurn(): void {
    if (this.noted.length > 0) this.noted = [];
    if (this.parked.length > 0) this.parked = [];
    if (this.settled.length > 0) this.settled = [];
  }

  /** The turn failed: who asked in it has been told; what had been done is not recorded, so it is done again. */
  failed(): void {
    this.clearTurn();
    for (const doubt of this.doubts.values()) if (doubt.state === DONE) this.again(doubt);
  }

  // -- asking ------------------------------------------------------------------------------------------------

  tick(reader: KvReader, out: FrameBatch): void {
    for (const doubt of this.later) this.waiting.add(doubt);
    this.later.clear();
    this.announce(reader, out);
  }

  private announce(reader: KvReader, out: FrameBatch): void {
    for (const doubt of this.waiting) {
      if (this.announcements.room <= 0) return;
      this.waiting.delete(doubt);
      this.announceOne(doubt, reader, out);
    }
  }

  private announceOne(doubt: Doubt, reader: KvReader, out: FrameBatch): void {
    const { tenant, clientId, instance } = doubt;
    const routes = this.sessions.routesInDoubt(tenant, clientId, instance, reader);
    if (routes === undefined) {
      this.forget(doubt.name);
      return;
    }
    doubt.state = ASKED;
    const announced: Announced = {
      onAnswer: (status, frames) => this.answered(doubt, status, frames),
      onLost: () => this.again(doubt),
    };
    const frame = this.announcements.begin(OP.INBOX_ROUTES, doubt.peer, announced, out);
    frame.text(tenant).text(clientId).u53(instance).u32(routes.gone.length);
    for (const filter of routes.gone) frame.text(filter);
    frame.u32(routes.kept.length);
    for (const subscription of routes.kept) writeSubscription(frame, subscription);
    out.end();
  }

  private answered(doubt: Doubt, status: number, out: FrameBatch): void {
    if (status !== STATUS.OK) {
      this.again(doubt);
      for (const { request } of doubt.parked) out.reply(request.peer, request.callId, UNAVAILABLE);
      doubt.parked = [];
      return;
    }
    doubt.state = DONE;
    const { tenant, clientId, instance } = doubt;
    this.command.reset().u8(INBOX_COMMAND.ROUTES_DONE).text(tenant).text(clientId).u53(instance);
    this.host.enqueue(OWN_COMMAND, this.command.copy());
    this.unpark(doubt);
  }

  private again(doubt: Doubt): void {
    doubt.state = WAITING;
    doubt.peer = ASK.LATER;
    this.waiting.delete(doubt);
    this.later.add(doubt);
  }

  private forget(name: string): void {
    const doubt = this.doubts.get(name);
    if (doubt === undefined) return;
    this.doubts.delete(name);
    this.waiting.delete(doubt);
    this.later.delete(doubt);
    this.unpark(doubt);
  }

  private unpark(doubt: Doubt): void {
    for (const { request, body } of doubt.parked) this.host.requeue(request, body);
    doubt.parked = [];
  }

  /** Those it was asked are asked of another; those who waited on it wait no more. */
  peerLost(peer: number): void {
    this.parked = this.parked.filter(({ request }) => request.peer !== peer);
    for (const doubt of this.doubts.values()) {
      if (doubt.state === WAITING && doubt.peer === peer) this.again(doubt);
      doubt.parked = doubt.parked.filter(({ request }) => request.peer !== peer);
    }
  }
}

const UNAVAILABLE = Uint8Array.of(STATUS.UNAVAILABLE);

/** U+0000 is in no tenant and no client id. */
function nameOf(tenant: string, clientId: string): string {
  return `${tenant}\0${clientId}`;
}
