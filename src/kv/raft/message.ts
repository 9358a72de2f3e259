import type { ReplicaId } from './configuration.js';
import type { Entry, RefusalReason } from './ready.js';

/** What kind of message it is. The numbers are spoken on the wire (codec.ts). */
export const MESSAGE = {
  PRE_VOTE: 1,
  PRE_VOTE_ANSWER: 2,
  VOTE: 3,
  VOTE_ANSWER: 4,
  APPEND: 5,
  APPEND_ANSWER: 6,
  HEARTBEAT: 7,
  HEARTBEAT_ANSWER: 8,
  TIMEOUT_NOW: 9,
  PROPOSE: 10,
  READ: 11,
  READ_ANSWER: 12,
  REFUSE: 13,
} as const;

/** `term` is the one the sender is in, but for pre-votes: there it is the one the candidate would begin. */
interface Envelope {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly term: number;
}

/** Would you vote for me? Changes nobody's term (thesis, 9.6). */
export interface PreVote extends Envelope {
  readonly kind: typeof MESSAGE.PRE_VOTE;
  readonly lastIndex: number;
  readonly lastTerm: number;
}

/** Granted: `term` is the candidate's. Refused: it is that of who refuses. */
export interface PreVoteAnswer extends Envelope {
  readonly kind: typeof MESSAGE.PRE_VOTE_ANSWER;
  readonly granted: boolean;
}

export interface Vote extends Envelope {
  readonly kind: typeof MESSAGE.VOTE;
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** The leader asked for this election: nobody refuses it for the sake of the leader (thesis, 4.2.3). */
  readonly force: boolean;
}

export interface VoteAnswer extends Envelope {
  readonly kind: typeof MESSAGE.VOTE_ANSWER;
  readonly granted: boolean;
}

export interface Append extends Envelope {
  readonly kind: typeof MESSAGE.APPEND;
  readonly previousIndex: number;
  readonly previousTerm: number;
  readonly commit: number;
  /** Follow `previousIndex` without a gap. */
  readonly entries: readonly Entry[];
}

export interface AppendAnswer extends Envelope {
  readonly kind: typeof MESSAGE.APPEND_ANSWER;
  /** The log agrees with the leader's up to here, durably; 0 in a refusal. */
  readonly match: number;
  /** `previousIndex` of what did not fit; 0 if it fitted. */
  readonly rejected: number;
  /** In a refusal: the last entry that may agree, which is of a term not above the one that was asked for. */
  readonly hintIndex: number;
  readonly hintTerm: number;
}

export interface Heartbeat extends Envelope {
  readonly kind: typeof MESSAGE.HEARTBEAT;
  /** Counts the leader's rounds from 1; 0 wants no answer (news of the commit index only). */
  readonly round: number;
  /** Never beyond what the follower is known to have. */
  readonly commit: number;
  /** Nothing more will come: stop the election timer if you have and committed all up to `commit`. */
  readonly quiesce: boolean;
}

export interface HeartbeatAnswer extends Envelope {
  readonly kind: typeof MESSAGE.HEARTBEAT_ANSWER;
  readonly round: number;
}

/** From a leader to its chosen successor: campaign now (thesis, 3.10). */
export interface TimeoutNow extends Envelope {
  readonly kind: typeof MESSAGE.TIMEOUT_NOW;
}

export interface Proposal {
  readonly session: number;
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** Proposals that came to a follower. */
export interface Propose extends Envelope {
  readonly kind: typeof MESSAGE.PROPOSE;
  readonly proposals: readonly Proposal[];
}

/** A follower asks up to which entry it must have applied before it may read. */
export interface Read extends Envelope {
  readonly kind: typeof MESSAGE.READ;
  /** The asker's number for it, used once and never again. */
  readonly context: number;
  readonly lease: boolean;
}

export interface ReadAnswer extends Envelope {
  readonly kind: typeof MESSAGE.READ_ANSWER;
  readonly context: number;
  readonly index: number;
}

/** To a forwarded proposal or read. */
export interface Refuse extends Envelope {
  readonly kind: typeof MESSAGE.REFUSE;
  readonly what: 'proposal' | 'read';
  readonly session: number;
  /** Of a read, its number. */
  readonly sequence: number;
  readonly reason: RefusalReason;
  readonly leader: ReplicaId;
}

/** What the replicas of a group say to each other. Plain data; which group it is, the envelope around it says. */
export type Message =
  | PreVote
  | PreVoteAnswer
  | Vote
  | VoteAnswer
  | Append
  | AppendAnswer
  | Heartbeat
  | HeartbeatAnswer
  | TimeoutNow
  | Propose
  | Read
  | ReadAnswer
  | Refuse;
