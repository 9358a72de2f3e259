import type { RpcResult } from '../rpc/failure.js';
import type { Address, HostId } from '../underlay/message.js';
import type { Reached } from './cluster-reach.js';
import type { MemberRow, MembersReport } from './cluster-view.js';
import { clean, type Finding, NAMES_MAX, nameOf, note, tcpWords, wrong } from './finding.js';
import type { NodeReport } from './node-service.js';

/** What the doctor says of calls between nodes, and what other nodes say of themselves. */

/** Another host as one that calls are made to. */
export interface Peer {
  /** Where it says that its services answer; undefined when it announces none. */
  readonly address: Address | undefined;
  /** It says that it is going. */
  readonly isDraining: boolean;
  /** The last connection broke, or could not be made. */
  readonly isBroken: boolean;
  /** What came of asking it just now; undefined when it was not asked. */
  readonly answer: RpcResult<NodeReport> | undefined;
}

export type Peers = ReadonlyMap<HostId, Peer>;

interface Patient {
  readonly report: MembersReport;
  readonly reached: ReadonlyMap<Address, Reached>;
  readonly peers: Peers;
}

/** Before a host without services is told of: its news comes a moment later than itself. */
const GRACE_MS = 5_000;

/** Findings of other nodes in one answer. */
const ELSEWHERE_MAX = 32;

/** Whether calls go there; the ports of those are worth a look. */
export function isDeaf({ address, isDraining, isBroken, answer }: Peer): boolean {
  if (address === undefined || isDraining) return false;
  return answer === undefined ? isBroken : answer.kind !== 'ok';
}

/** Of hosts that gossip says are alive. */
export function callFindings({ report, reached, peers }: Patient): Finding[] {
  return report.members
    .filter(({ isSelf, state }) => !isSelf && state === 'alive')
    .flatMap(member => {
      const peer = peers.get(member.id);
      if (peer === undefined) return [];
      if (peer.address !== undefined) return isDeaf(peer) ? [deaf(member, peer, reached)] : [];
      return report.atMs - member.sinceMs > GRACE_MS ? [silent(member)] : [];
    });
}

function silent(member: MemberRow): Finding {
  return note(
    `${nameOf(member)} announces no services, so nothing can be asked of it.`,
    'It runs an older version, or is shutting down. Otherwise look at its log.',
  );
}

function deaf(member: MemberRow, peer: Peer, reached: ReadonlyMap<Address, Reached>): Finding {
  const tcp = reached.get(peer.address!);
  const { answer } = peer;
  const why =
    answer === undefined || answer.kind === 'ok' ? '' : ` (${answer.kind}: ${clean(answer.detail)})`;
  const what = `Gossip reaches ${nameOf(member)}, but its RPC port ${clean(peer.address!)} does not answer${why}. ${tcpWords(tcp)}`;
  return wrong(what.trim(), deafRemedy(tcp));
}

function deafRemedy(tcp: Reached | undefined): string {
  if (tcp === 'refused')
    return 'Compare its rpc.host and rpc.port with the address: with cluster.advertise, RPC has to be reachable at the same host.';
  if (tcp === 'open')
    return 'Something listens there that does not answer calls: compare rpc.tls on both hosts, and look at its log and load.';
  return 'Let TCP through to that port from all hosts of the cluster, and check its rpc.host, rpc.port and cluster.advertise.';
}

/** What other nodes find wrong, each thing once, without what was found here. */
export function elsewhere({ report, peers }: Patient, own: readonly Finding[]): Finding[] {
  const known = new Set(own.map(({ what }) => keyOf(what)));
  const found = new Map<string, { readonly what: string; readonly names: string[] }>();
  for (const member of report.members) {
    const answer = peers.get(member.id)?.answer;
    if (member.isSelf || answer?.kind !== 'ok') continue;
    for (const what of answer.value.findings) {
      const key = keyOf(what);
      if (known.has(key)) continue;
      const row = found.get(key) ?? { what, names: [] };
      row.names.push(clean(member.name));
      found.set(key, row);
    }
  }
  return [...found.values()].slice(0, ELSEWHERE_MAX).map(({ what, names }) => {
    const more = names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} more` : '';
    const who = names.slice(0, NAMES_MAX).join(', ') + more;
    return wrong(
      `Seen from ${who}: ${clean(what)}`,
      `"shoalmq cluster doctor" on ${names[0]} says what to do.`,
    );
  });
}

/** Times, counts, and what more was found out, differ from look to look and from host to host. */
function keyOf(what: string): string {
  return what.split(/\.(?: |$)| \([a-z-]+: /, 1)[0]!.replace(/\d+ (s|min|h|in all)\b/g, '');
}
