import type { Configuration } from '../../src/kv/raft/configuration.js';
import { MESSAGE, type Message } from '../../src/kv/raft/message.js';
import type { Entry } from '../../src/kv/raft/ready.js';
import type { Parcel } from './kv-store.js';

/** What the trace keeps of a packet: network.ts notes it so. */
interface Sent {
  readonly to: string;
  readonly payload: unknown;
}

/** How parcels between stores read in a trace. */
export function kvFormat(about: unknown): string {
  if (typeof about !== 'object' || about === null) return String(about);
  const { to, payload } = about as Sent;
  return `${to}: ${parcelWords(payload as Parcel)}`;
}

function parcelWords(parcel: Parcel): string {
  switch (parcel.kind) {
    case 'raft':
      return `g${parcel.group} ${messageWords(parcel.message)}`;
    case 'alive':
      return 'alive';
    case 'state':
      return `state of ${parcel.state.meta.index} from ${parcel.from} to ${parcel.to}`;
    case 'state-taken':
      return `state of ${parcel.index} is taken by ${parcel.from}`;
    case 'request':
      return 'request';
  }
}

export function messageWords(message: Message): string {
  return `${message.from}→${message.to} t${message.term} ${contentWords(message)}`;
}

function contentWords(message: Message): string {
  switch (message.kind) {
    case MESSAGE.PRE_VOTE:
      return `pre-vote? log ends at ${message.lastIndex} of t${message.lastTerm}`;
    case MESSAGE.VOTE:
      return `vote? log ends at ${message.lastIndex} of t${message.lastTerm}${message.force ? ', forced' : ''}`;
    case MESSAGE.PRE_VOTE_ANSWER:
      return `pre-vote ${message.granted ? 'granted' : 'refused'}`;
    case MESSAGE.VOTE_ANSWER:
      return `vote ${message.granted ? 'granted' : 'refused'}`;
    case MESSAGE.APPEND:
      return `append after ${message.previousIndex} of t${message.previousTerm}, commit ${message.commit}:${entriesWords(message.entries)}`;
    case MESSAGE.APPEND_ANSWER:
      return message.rejected === 0
        ? `append answer: match ${message.match}`
        : `append answer: ${message.rejected} does not fit, perhaps ${message.hintIndex} of t${message.hintTerm}`;
    case MESSAGE.HEARTBEAT:
      return `heartbeat ${message.round}, commit ${message.commit}${message.quiesce ? ', be quiet' : ''}`;
    case MESSAGE.HEARTBEAT_ANSWER:
      return `heartbeat answer ${message.round}`;
    case MESSAGE.TIMEOUT_NOW:
      return 'campaign now';
    case MESSAGE.PROPOSE:
      return `propose ${message.proposals.map(({ session, sequence }) => `${session}/${sequence}`).join(' ')}`;
    case MESSAGE.READ:
      return `read? ${message.context}${message.lease ? ' by lease' : ''}`;
    case MESSAGE.READ_ANSWER:
      return `read ${message.context} at ${message.index}`;
    case MESSAGE.REFUSE:
      return `refuse ${message.what} ${message.session}/${message.sequence}: ${message.reason}, leader ${message.leader}`;
  }
}

function entriesWords(entries: readonly Entry[]): string {
  if (entries.length === 0) return ' nothing';
  const words = entries
    .slice(0, 4)
    .map(({ index, term, kind, session, sequence }) =>
      kind === 0
        ? ` ${index}/t${term} (${session}/${sequence})`
        : ` ${index}/t${term} ${kind === 1 ? 'configuration' : 'empty'}`,
    )
    .join('');
  return entries.length > 4 ? `${words} … ${entries.at(-1)!.index}` : words;
}

export function configurationWords({ voters, outgoing, learners }: Configuration): string {
  const parts = [`voters ${voters.join(' ')}`];
  if (outgoing.length > 0) parts.push(`outgoing ${outgoing.join(' ')}`);
  if (learners.length > 0) parts.push(`learners ${learners.join(' ')}`);
  return parts.join(', ');
}
