import { describe, expect, it } from 'vitest';
import type { Reached } from '../../src/node/cluster-reach.js';
import { callFindings, elsewhere, isDeaf, type Peer, type Peers } from '../../src/node/doctor-calls.js';
import type { NodeReport } from '../../src/node/node-service.js';
import { peersOf } from '../../src/node/peers.js';
import type { RpcFailure } from '../../src/rpc/failure.js';
import type { ServerRow } from '../../src/rpc/service-view.js';
import { LOAD, member, NOW_MS, report } from './cluster-rows.js';

const B = member('b');
const PORT = '10.0.0.98:4801';
const FAILURE: RpcFailure = { kind: 'unavailable', detail: 'no connection to server 98' };

function peer(change: Partial<Peer> = {}): Peer {
  return { address: PORT, isDraining: false, isBroken: false, answer: undefined, ...change };
}

function answering(host: number, ...findings: string[]): Peer {
  const told: NodeReport = {
    ...LOAD,
    host,
    name: 'x',
    version: '1',
    health: 0,
    findings,
    findingsTotal: findings.length,
  };
  return peer({ answer: { kind: 'ok', value: told } });
}

function findings(of: Peer, change: Parameters<typeof member>[1] = {}, tcp?: Reached) {
  const reached = new Map(tcp === undefined ? [] : [[PORT, tcp]]);
  const host = member('b', change);
  return callFindings({ report: report([host]), reached, peers: new Map([[host.id, of]]) });
}

describe('a host that calls do not reach', () => {
  it('is told of with its port, and with what TCP says of that', () => {
    const [found, ...others] = findings(peer({ answer: FAILURE }), {}, 'refused');
    expect(others).toEqual([]);
    expect(found).toEqual({
      severity: 'wrong',
      what: `Gossip reaches b (${B.address}), but its RPC port ${PORT} does not answer (unavailable: no connection to server 98). Its machine answers, but nobody listens on that port.`,
      remedy: expect.stringContaining('rpc.port'),
    });
    expect(findings(peer({ answer: FAILURE }), {}, 'open')[0]!.remedy).toContain('rpc.tls');
    expect(findings(peer({ answer: FAILURE }), {}, 'silent')[0]!.remedy).toContain('Let TCP through');
  });

  it('is told of by what is known when nobody was asked', () => {
    expect(findings(peer({ isBroken: true }))).toMatchObject([
      {
        severity: 'wrong',
        what: `Gossip reaches b (${B.address}), but its RPC port ${PORT} does not answer.`,
      },
    ]);
    expect(findings(peer())).toEqual([]);
  });

  it('is left to others when gossip does not reach it either, when it is going, and when it answers', () => {
    expect(findings(peer({ answer: FAILURE }), { state: 'suspect' })).toEqual([]);
    expect(findings(peer({ answer: FAILURE, isDraining: true }))).toEqual([]);
    // It answers again, whatever became of an earlier connection.
    expect(findings({ ...answering(B.id), isBroken: true })).toEqual([]);
  });

  it('is noted when it announces nothing, unless it has just come', () => {
    const silent = peer({ address: undefined, answer: { kind: 'server-not-found', detail: '' } });
    expect(findings(silent)).toMatchObject([
      { severity: 'note', what: expect.stringContaining('no services') },
    ]);
    expect(findings(silent, { sinceMs: NOW_MS - 4_000 })).toEqual([]);
    expect(isDeaf(silent)).toBe(false);
  });
});

describe('what others find', () => {
  const c = member('c');
  const lostWords = 'd (10.0.0.100:4800) is lost for 12 s.';
  const asked = (peers: Peers) => ({ report: report([B, c]), reached: new Map(), peers });

  it('is told once, with the names of those who see it', () => {
    const peers = new Map([
      [B.id, answering(B.id, lostWords, 'Other.')],
      [c.id, answering(c.id, lostWords.replace('12 s', '2 min'))],
    ]);
    expect(elsewhere(asked(peers), [])).toEqual([
      {
        severity: 'wrong',
        what: `Seen from b, c: ${lostWords}`,
        remedy: '"shoalmq cluster doctor" on b says what to do.',
      },
      { severity: 'wrong', what: 'Seen from b: Other.', remedy: expect.any(String) },
    ]);
  });

  it('is not repeated when it was found here too, with more words', () => {
    const own = [
      { what: 'd (10.0.0.100:4800) is lost for 3 h. Something answers by TCP.', remedy: '' },
      {
        what: `Gossip reaches c (x), but its RPC port y does not answer (deadline: late). More.`,
        remedy: '',
      },
    ].map(words => ({ severity: 'wrong' as const, ...words }));
    const told = [lostWords, 'Gossip reaches c (x), but its RPC port y does not answer.'];
    expect(elsewhere(asked(new Map([[B.id, answering(B.id, ...told)]])), own)).toEqual([]);
  });

  it('steers no terminal and has a bound', () => {
    const many = Array.from({ length: 100 }, (_, at) => `Thing number ${at}.`);
    expect(elsewhere(asked(new Map([[B.id, answering(B.id, ...many)]])), [])).toHaveLength(32);
    const [bad] = elsewhere(asked(new Map([[B.id, answering(B.id, 'a\u001b[31m')]])), []);
    expect(bad!.what).toBe('Seen from b: a?[31m');
  });
});

describe('peersOf', () => {
  it('puts together who is there, what they announce, and what they say', () => {
    const announcement = {
      id: '98',
      address: PORT,
      groups: [],
      attributes: {},
      version: '1',
      draining: true,
    };
    const row: ServerRow = {
      announcement,
      host: 98,
      isLocal: false,
      brokenForMs: 5,
      underWay: 0,
      begun: 0,
      failed: 0,
    };
    const peers = peersOf([97, 98], [row, { ...row, host: 99 }], new Map([[97, FAILURE]]));
    expect([...peers]).toEqual([
      [97, { address: undefined, isDraining: false, isBroken: false, answer: FAILURE }],
      [98, { address: PORT, isDraining: true, isBroken: true, answer: undefined }],
    ]);
  });
});
