import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';

/**
 * Room `session-dict`: who owns a client id now.
 *
 * At most one live connection per (tenant, client id). A connection claims its client id before its session opens;
 * if another has it, that one is told to let go (DICT_KICK) and the claim is granted when it has, which includes
 * that its inbox was detached. So a persistent session is never attached twice, and what the old connection had
 * finished is known before the new one is sent anything.
 *
 * | message | effect |
 * | --- | --- |
 * | DICT_CLAIM | nobody owns it: granted. Owned: the owner is kicked, the claim waits; a claim that waited already is superseded and is kicked in its turn |
 * | DICT_RELEASE | the entry goes if the connection still owns it |
 * | reply to DICT_KICK | the waiting claim is granted |
 * | a shard died | its entries go; claims that waited for it are granted |
 *
 * Invariants: an entry's owner is the last claim that was granted; claims for one client id are granted in the order
 * in which they came; the kicks in flight are at most one per client id.
 *
 * Limits: one entry per live connection (limits.connectionsMax); a claim waits in its client id's entry only.
 *
 * Difference from BifroMQ: there the register is a service of its own, sharded by consistent hashing over streams,
 * and a kick is sent when the newcomer has its session already. Ours is on the main thread of the node, and the
 * newcomer waits, so two sessions never overlap. The cluster keeps the interface (contract/session-dict) and puts
 * the owner of a client id on one node.
 */

/** A connection: mesh peer of its shard, and its number there. */
interface Owner {
  readonly peer: number;
  readonly connection: number;
}

interface Claim extends Owner {
  readonly callId: number;
}

interface Entry extends Owner {
  peer: number;
  connection: number;
  /** Claims that wait until the owner has let go, in order. */
  waiting: Claim[] | null;
}

export class SessionDict {
  private readonly entries = new Map<string, Entry>();
  private readonly kicks = new Map<number, string>();
  private readonly send: (peer: number, bytes: Uint8Array, start: number, end: number) => void;
  private readonly writer = new ByteWriter(256);
  private readonly reader = new ByteReader();
  private lastCall = 0;

  constructor(send: (peer: number, bytes: Uint8Array, start: number, end: number) => void) {
    this.send = send;
  }

  /** Client ids that are owned now. */
  get size(): number {
    return this.entries.size;
  }

  /** A frame from a shard: DICT_CLAIM, DICT_RELEASE, or a REPLY to a kick. */
  onFrame(peer: number, bytes: Uint8Array, start: number, end: number): void {
    const reader = this.reader.over(bytes, start + 1, end);
    const callId = reader.u32();
    const op = bytes[start];
    if (op === OP.REPLY) {
      this.onLetGo(callId);
      return;
    }
    const tenant = reader.text();
    const clientId = reader.text();
    const key = `${tenant}\0${clientId}`;
    const connection = reader.u32();
    if (op === OP.DICT_CLAIM) this.claim(key, { peer, connection, callId });
    else this.release(key, peer, connection);
  }

  private claim(key: string, claim: Claim): void {
    const entry = this.entries.get(key);
    if (entry === undefined) {
      this.entries.set(key, { peer: claim.peer, connection: claim.connection, waiting: null });
      this.grant(claim);
    } else if (entry.waiting === null) {
      entry.waiting = [claim];
      this.kick(key, entry);
    } else entry.waiting.push(claim);
  }

  private release(key: string, peer: number, connection: number): void {
    const entry = this.entries.get(key);
    if (entry === undefined) return;
    // With claims waiting a kick is under way, and its answer hands the entry on.
    if (entry.waiting === null && entry.peer === peer && entry.connection === connection)
      this.entries.delete(key);
  }

  private kick(key: string, owner: Owner): void {
    this.lastCall = (this.lastCall % 0xffff_ffff) + 1;
    this.kicks.set(this.lastCall, key);
    const [tenant, clientId] = key.split('\0', 2) as [string, string];
    const { writer } = this;
    writer.reset().u8(OP.DICT_KICK).u32(this.lastCall).text(tenant).text(clientId).u32(owner.connection);
    this.send(owner.peer, writer.bytes, 0, writer.length);
  }

  /** The owner has let go: the first that waits is granted, and kicked at once if others wait behind it. */
  private onLetGo(callId: number): void {
    const key = this.kicks.get(callId);
    if (key === undefined) return;
    this.kicks.delete(callId);
    this.handOn(key);
  }

  private handOn(key: string): void {
    const entry = this.entries.get(key);
    if (entry === undefined) return;
    const next = entry.waiting?.shift();
    if (next === undefined) {
      this.entries.delete(key); // those that waited died; the owner has let go
      return;
    }
    entry.peer = next.peer;
    entry.connection = next.connection;
    this.grant(next);
    if (entry.waiting!.length > 0) this.kick(key, next);
    else entry.waiting = null;
  }

  private grant(claim: Claim): void {
    const { writer } = this;
    writer.reset().u8(OP.REPLY).u32(claim.callId).u8(STATUS.OK);
    this.send(claim.peer, writer.bytes, 0, writer.length);
  }

  /** The thread of a shard died, and its connections with it. */
  peerLost(peer: number): void {
    for (const [key, entry] of this.entries) {
      if (entry.waiting !== null) entry.waiting = entry.waiting.filter(claim => claim.peer !== peer);
      if (entry.peer !== peer) continue;
      for (const [callId, kicked] of this.kicks) if (kicked === key) this.kicks.delete(callId);
      if (entry.waiting === null || entry.waiting.length === 0) this.entries.delete(key);
      else this.handOn(key);
    }
  }
}
