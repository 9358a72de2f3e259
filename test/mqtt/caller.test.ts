import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { Caller, callback } from '../../src/mqtt/caller.js';

/** A caller, and what it sent. */
function open() {
  const sent: { peer: number; op: number; callId: number }[] = [];
  const caller = new Caller(
    {
      congested: false,
      send: (peer, bytes, start, end) => {
        const reader = new ByteReader(Buffer.from(bytes.subarray(start, end)));
        sent.push({ peer, op: reader.u8(), callId: reader.u32() });
      },
    },
    0xffff_fffe,
  );
  const answer = (peer: number, callId: number, status: number = STATUS.OK) => {
    const frame = new ByteWriter().u32(callId).u8(status).u32(42);
    caller.onReply(peer, frame.bytes, 0, frame.length);
  };
  const ask = (peer: number, log: string[], name: string) => {
    const call = callback(
      (status, body) => log.push(`${name} ${status} ${body.u32()}`),
      () => log.push(`${name} lost`),
    );
    caller.begin(OP.DIST_MATCH, call);
    caller.send(peer);
    return sent.at(-1)!.callId;
  };
  return { caller, sent, answer, ask };
}

describe('calls to other threads', () => {
  it('are answered once, by the one who was asked', () => {
    const { caller, answer, ask } = open();
    const log: string[] = [];
    const ids = [ask(1, log, 'a'), ask(2, log, 'b'), ask(1, log, 'c')];
    expect(new Set(ids).size).toBe(3);
    expect(ids).not.toContain(0);
    answer(2, ids[0]!); // a stale answer that happens to have the number
    answer(2, ids[1]!, STATUS.GONE);
    answer(1, ids[0]!);
    answer(1, ids[0]!);
    expect(log).toEqual(['b 1 42', 'a 0 42']);
    expect(caller.waitingCount).toBe(1);
  });

  it('to a thread that died are lost, in their order; those told may call its successor at once', () => {
    const { caller, answer, ask } = open();
    const log: string[] = [];
    ask(1, log, 'a');
    const again: number[] = [];
    caller.begin(
      OP.DIST_MATCH,
      callback(
        () => {},
        () => again.push(ask(1, log, 'again')),
      ),
    );
    caller.send(1);
    ask(1, log, 'c');
    const other = ask(2, log, 'other');
    caller.peerLost(1);
    expect(log).toEqual(['a lost', 'c lost']);
    answer(1, again[0]!);
    answer(2, other);
    expect(log.slice(2)).toEqual(['again 0 42', 'other 0 42']);
    expect(caller.waitingCount).toBe(0);
  });

  it('from a thread that died meanwhile are not answered to its successor', () => {
    const { caller, sent } = open();
    const life = caller.lifeOf(1);
    caller.reply(1, life, 7, STATUS.OK);
    caller.peerLost(1);
    caller.reply(1, life, 8, STATUS.OK);
    caller.reply(1, caller.lifeOf(1), 9, STATUS.OK);
    expect(sent.map(({ callId }) => callId)).toEqual([7, 9]);
  });
});
