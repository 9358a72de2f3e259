import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { SessionDict } from '../../src/session-dict/session-dict.js';

interface Kick {
  peer: number;
  callId: number;
  clientId: string;
  connection: number;
}

/** The directory with hands for eyes: what it sent is kept until a test answers. */
class Desk {
  readonly granted: { peer: number; callId: number }[] = [];
  readonly kicks: Kick[] = [];
  readonly dict = new SessionDict((peer, bytes, start, end) => {
    const reader = new ByteReader(Buffer.from(bytes.subarray(start, end)));
    const op = reader.u8();
    const callId = reader.u32();
    if (op === OP.REPLY) {
      expect(reader.u8()).toBe(STATUS.OK);
      this.granted.push({ peer, callId });
    } else {
      expect(op).toBe(OP.DICT_KICK);
      reader.text();
      this.kicks.push({ peer, callId, clientId: reader.text(), connection: reader.u32() });
    }
  });
  private calls = 0;

  claim(peer: number, clientId: string, connection: number, tenant = 't'): number {
    const callId = ++this.calls;
    this.frame(
      peer,
      new ByteWriter().u8(OP.DICT_CLAIM).u32(callId).text(tenant).text(clientId).u32(connection),
    );
    return callId;
  }

  release(peer: number, clientId: string, connection: number): void {
    this.frame(peer, new ByteWriter().u8(OP.DICT_RELEASE).u32(0).text('t').text(clientId).u32(connection));
  }

  letGo({ peer, callId }: Kick): void {
    this.frame(peer, new ByteWriter().u8(OP.REPLY).u32(callId).u8(STATUS.OK));
  }

  private frame(peer: number, writer: ByteWriter): void {
    this.dict.onFrame(peer, writer.bytes, 0, writer.length);
  }

  takeGrants(): number[] {
    return this.granted.splice(0).map(({ callId }) => callId);
  }
}

describe('session directory', () => {
  it('grants what is free at once, and forgets what is released', () => {
    const desk = new Desk();
    const call = desk.claim(1, 'a', 10);
    expect(desk.takeGrants()).toEqual([call]);
    expect(desk.dict.size).toBe(1);
    desk.release(2, 'a', 10);
    desk.release(1, 'a', 11);
    expect(desk.dict.size).toBe(1);
    desk.release(1, 'a', 10);
    expect(desk.dict.size).toBe(0);
  });

  it('keeps tenants apart', () => {
    const desk = new Desk();
    desk.claim(1, 'a', 1, 't');
    desk.claim(1, 'a', 2, 'u');
    expect(desk.granted).toHaveLength(2);
    expect(desk.kicks).toEqual([]);
  });

  it('asks the owner to let go, and grants when it has', () => {
    const desk = new Desk();
    desk.claim(1, 'a', 10);
    desk.takeGrants();
    const second = desk.claim(2, 'a', 20);
    expect(desk.takeGrants()).toEqual([]);
    expect(desk.kicks).toMatchObject([{ peer: 1, clientId: 'a', connection: 10 }]);
    desk.release(1, 'a', 10); // it had ended anyway; the answer still comes
    expect(desk.takeGrants()).toEqual([]);
    desk.letGo(desk.kicks.shift()!);
    expect(desk.takeGrants()).toEqual([second]);
  });

  it('grants in the order of the claims, each kicked by the next', () => {
    const desk = new Desk();
    desk.claim(1, 'a', 10);
    desk.takeGrants();
    const calls = [desk.claim(2, 'a', 20), desk.claim(3, 'a', 30), desk.claim(1, 'a', 11)];
    for (const call of calls) {
      expect(desk.kicks).toHaveLength(1);
      desk.letGo(desk.kicks.shift()!);
      expect(desk.takeGrants()).toEqual([call]);
    }
    expect(desk.kicks).toEqual([]);
    desk.release(1, 'a', 11);
    expect(desk.dict.size).toBe(0);
  });

  it('grants what waited for a shard that died, and drops what it claimed', () => {
    const desk = new Desk();
    desk.claim(1, 'a', 10);
    desk.takeGrants();
    const second = desk.claim(2, 'a', 20);
    desk.claim(1, 'a', 11);
    const [stale] = desk.kicks.splice(0);
    desk.dict.peerLost(1);
    expect(desk.takeGrants()).toEqual([second]);
    desk.letGo(stale!); // an answer from before: of nobody's interest
    expect(desk.takeGrants()).toEqual([]);
    expect(desk.dict.size).toBe(1);
    desk.dict.peerLost(2);
    expect(desk.dict.size).toBe(0);
  });

  it('is empty again when the owner let go for one that died meanwhile', () => {
    const desk = new Desk();
    desk.claim(1, 'a', 10);
    desk.claim(2, 'a', 20);
    desk.dict.peerLost(2);
    desk.letGo(desk.kicks.shift()!);
    expect(desk.dict.size).toBe(0);
  });

  it('has one owner at most, and grants every claim of a living shard in the end (property)', () => {
    const step = fc.record({
      act: fc.constantFrom('claim', 'claim', 'letGo', 'release', 'die'),
      peer: fc.integer({ min: 1, max: 3 }),
      client: fc.constantFrom('a', 'b'),
      pick: fc.nat(10),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), steps => {
        const desk = new Desk();
        let connection = 0;
        /** Claims by call: owner once granted, until it has said that it let go. */
        const claims = new Map<number, { peer: number; client: string; connection: number; owns: boolean }>();
        const look = () => {
          for (const callId of desk.takeGrants()) {
            const claim = claims.get(callId)!;
            claim.owns = true;
            const owners = [...claims.values()].filter(({ client, owns }) => owns && client === claim.client);
            expect(owners).toHaveLength(1);
          }
        };
        const ended = ({ peer, connection }: { peer: number; connection: number }) => {
          for (const [callId, claim] of claims)
            if (claim.peer === peer && claim.connection === connection) claims.delete(callId);
        };
        const letGo = (kick: Kick) => {
          ended(kick); // the shard's word: that connection is gone
          desk.letGo(kick);
        };
        for (const { act, peer, client, pick } of steps) {
          if (act === 'claim') {
            const id = ++connection;
            const entry = { peer, client, connection: id, owns: false };
            claims.set(desk.claim(peer, client, id), entry);
          } else if (act === 'letGo' && desk.kicks.length > 0) {
            letGo(desk.kicks.splice(pick % desk.kicks.length, 1)[0]!);
          } else if (act === 'release') {
            const owners = [...claims.values()].filter(({ owns }) => owns);
            const owner = owners[pick % Math.max(1, owners.length)];
            if (owner !== undefined) {
              ended(owner);
              desk.release(owner.peer, owner.client, owner.connection);
            }
          } else if (act === 'die') {
            for (const [callId, claim] of claims) if (claim.peer === peer) claims.delete(callId);
            for (let i = desk.kicks.length - 1; i >= 0; i--)
              if (desk.kicks[i]!.peer === peer) desk.kicks.splice(i, 1);
            desk.dict.peerLost(peer);
          }
          look();
        }
        while (desk.kicks.length > 0) {
          letGo(desk.kicks.shift()!);
          look();
        }
        const left = [...claims.values()];
        expect(left.every(({ owns }) => owns)).toBe(true);
        expect(desk.dict.size).toBe(left.length);
      }),
      { numRuns: 500 },
    );
  });
});
