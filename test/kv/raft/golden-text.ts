import type { Configuration } from '../../../src/kv/raft/configuration.js';
import { decodeConfiguration } from '../../../src/kv/raft/configuration-codec.js';
import { ROLE } from '../../../src/kv/raft/core.js';
import { MESSAGE, type Message, type Refuse } from '../../../src/kv/raft/message.js';
import { FEED, type Progress } from '../../../src/kv/raft/progress.js';
import type { Raft } from '../../../src/kv/raft/raft.js';
import { ENTRY, type Entry } from '../../../src/kv/raft/ready.js';

/** How golden scripts show things. An entry's place is index/term. */

export function describeConfiguration({ voters, outgoing, learners }: Configuration): string {
  const parts = [`voters ${voters.join(' ') || 'none'}`];
  if (outgoing.length > 0) parts.push(`outgoing ${outgoing.join(' ')}`);
  if (learners.length > 0) parts.push(`learners ${learners.join(' ')}`);
  return parts.join(', ');
}

export function describeEntry({ index, term, kind, data }: Entry): string {
  return `${index}/${term} ${describeData(kind, data)}`;
}

function describeData(kind: number, data: Uint8Array): string {
  if (kind === ENTRY.EMPTY) return 'empty';
  if (kind === ENTRY.CONFIGURATION) return `(${describeConfiguration(decodeConfiguration(data)!)})`;
  const text = Buffer.from(data).toString();
  return text.length > 20 ? `${text.slice(0, 3)}... ${text.length} bytes` : text;
}

/** Long runs of entries are shown by their ends. */
export function describeEntries(entries: readonly Entry[]): string {
  if (entries.length === 0) return 'nothing';
  if (entries.length <= 6) return entries.map(describeEntry).join(', ');
  return `${describeEntry(entries[0]!)} ... ${describeEntry(entries.at(-1)!)} (${entries.length})`;
}

export function describeMessage(message: Message): string {
  const { from, to, term } = message;
  return `${from}->${to} T${term} ${describeBody(message)}`;
}

function describeBody(message: Message): string {
  switch (message.kind) {
    case MESSAGE.PRE_VOTE:
      return `pre-vote? last ${message.lastIndex}/${message.lastTerm}`;
    case MESSAGE.VOTE:
      return `vote? last ${message.lastIndex}/${message.lastTerm}${message.force ? ' by the leader’s wish' : ''}`;
    case MESSAGE.PRE_VOTE_ANSWER:
      return `pre-vote ${message.granted ? 'yes' : 'no'}`;
    case MESSAGE.VOTE_ANSWER:
      return `vote ${message.granted ? 'yes' : 'no'}`;
    case MESSAGE.APPEND: {
      const { previousIndex, previousTerm, entries, commit } = message;
      return `append after ${previousIndex}/${previousTerm}: ${describeEntries(entries)}; commit ${commit}`;
    }
    case MESSAGE.APPEND_ANSWER: {
      const { match, rejected, hintIndex, hintTerm } = message;
      return rejected > 0 ? `no ${rejected}; at most ${hintIndex}/${hintTerm}` : `has ${match}`;
    }
    case MESSAGE.HEARTBEAT: {
      const { round, commit, quiesce } = message;
      if (quiesce) return `be quiet; commit ${commit}`;
      return round > 0 ? `heartbeat ${round}; commit ${commit}` : `commit ${commit}`;
    }
    case MESSAGE.HEARTBEAT_ANSWER:
      return message.round > 0 ? `heard ${message.round}` : 'no';
    case MESSAGE.TIMEOUT_NOW:
      return 'campaign now';
    case MESSAGE.PROPOSE:
      return `propose ${message.proposals.map(({ session, sequence, data }) => `${session}.${sequence} ${describeData(ENTRY.COMMAND, data)}`).join(', ')}`;
    case MESSAGE.READ:
      return `read? by ${message.lease ? 'lease' : 'index'}`;
    case MESSAGE.READ_ANSWER:
      return `read at ${message.index}`;
    case MESSAGE.REFUSE:
      return `refused ${describeRefused(message)}: ${message.reason}, leader ${message.leader}`;
  }
}

/** The number of a read says nothing to a reader. */
function describeRefused({ what, session, sequence }: Refuse): string {
  return what === 'read' ? what : `${what} ${session}.${sequence}`;
}

/** What a replica is: its line when that changes. */
export function describeRole(raft: Raft): string {
  const { role, term, leader } = raft;
  if (role === ROLE.LEADER) return `leads T${term}`;
  if (role === ROLE.CANDIDATE) return `is a candidate of T${term}`;
  if (role === ROLE.PRE_CANDIDATE) return `would be a candidate of T${term + 1}`;
  return `follows ${leader === 0 ? 'nobody' : leader} in T${term}`;
}

const FEED_NAMES: Readonly<Record<number, string>> = {
  [FEED.PROBE]: 'probe',
  [FEED.REPLICATE]: 'replicate',
  [FEED.SNAPSHOT]: 'snapshot',
};

export function describeProgress({ id, feed, match, next, windowMessages }: Progress): string {
  const window = windowMessages > 0 ? `, ${windowMessages} under way` : '';
  return `${id}: ${FEED_NAMES[feed]}, match ${match}, next ${next}${window}`;
}
