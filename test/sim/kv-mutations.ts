/** One change of a built file: `from` stands in it exactly once. */
export interface Edit {
  /** From the root, without its ending. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** A Raft that breaks one rule. */
export interface Mutation {
  readonly name: string;
  readonly about: string;
  /** Where it is looked for first; `chaos` otherwise, or `range-chaos` of the suite ranges. */
  readonly scenario?: string;
  /** Played by whole stores; otherwise by groups of the suite kv. */
  readonly isOfStores?: true;
  readonly edits: readonly Edit[];
}

const RAFT = 'src/kv/raft';

/** The text is the same in the source and in what the compiler makes of it, so that a test can find it in either. */
function edit(file: string, from: string, to: string): Edit {
  return { file: `${RAFT}/${file}`, from, to };
}

function driver(file: string, from: string, to: string): Edit {
  return { file: `test/sim/${file}`, from, to };
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'votes-twice',
    about: 'votes for whoever asks, whomever it has voted for in the term',
    scenario: 'elections',
    edits: [
      edit(
        'election',
        'core.vote === to || (core.vote === NOBODY && core.leader === NOBODY);',
        'to !== NOBODY;',
      ),
    ],
  },
  {
    name: 'vote-forgotten',
    about: 'writes the term but not the vote',
    scenario: 'crashes',
    edits: [edit('raft', 'return { term, vote, commit', 'return { term, vote: NOBODY, commit')],
  },
  {
    name: 'vote-before-durable',
    about: 'its vote leaves before it is on the disk',
    scenario: 'crashes',
    edits: [
      edit(
        'core',
        '(mustBeDurable || !isKnown ?',
        '((mustBeDurable || !isKnown) && message.kind !== MESSAGE.VOTE_ANSWER ?',
      ),
    ],
  },
  {
    name: 'answer-before-durable',
    about: 'confirms entries before they are on the disk',
    scenario: 'crashes',
    edits: [
      edit(
        'core',
        '(mustBeDurable || !isKnown ?',
        '((mustBeDurable || !isKnown) && message.kind !== MESSAGE.APPEND_ANSWER ?',
      ),
    ],
  },
  {
    name: 'leader-counts-itself',
    about: 'the leader counts its own entries before they are on its disk',
    scenario: 'crashes',
    edits: [edit('core', 'id === this.id ? this.log.durableIndex', 'id === this.id ? this.log.lastIndex')],
  },
  {
    name: 'old-log-elected',
    about: 'votes for candidates whose log lacks entries',
    scenario: 'elections',
    edits: [edit('log', 'return lastTerm > this.lastTerm ||', 'return lastTerm >= 0 ||')],
  },
  {
    name: 'old-term-counted',
    about: 'commits entries of earlier terms by counting (paper, figure 8)',
    scenario: 'crashes',
    edits: [edit('replication', ' || index < core.termStartIndex)', ')')],
  },
  {
    name: 'pre-vote-suffices',
    about: 'leads once the pre-vote is won',
    scenario: 'elections',
    edits: [
      edit(
        'election',
        'startElection(core, false)',
        '(core.setTerm(core.term + 1, core.id), becomeLeader(core))',
      ),
    ],
  },
  {
    name: 'pre-votes-kept',
    about: 'counts pre-votes as votes',
    scenario: 'elections',
    edits: [edit('election', 'votes.clear();', '')],
  },
  {
    name: 'old-messages-taken',
    about: 'acts on messages of earlier terms',
    scenario: 'elections',
    edits: [edit('reception', 'return answerOld(core, message)', 'return true')],
  },
  {
    name: 'matching-entries-cut',
    about: 'an append that comes twice cuts off what followed it',
    scenario: 'elections',
    edits: [edit('log', 'this.term(entry.index) === entry.term', 'entry.index === 0')],
  },
  {
    name: 'conflicts-kept',
    about: 'keeps its own entries where the leader sends others',
    scenario: 'crashes',
    edits: [edit('log', 'this.term(entry.index) === entry.term', 'entry.index > 0')],
  },
  {
    name: 'previous-unchecked',
    about: 'takes entries without looking at the one before',
    scenario: 'crashes',
    edits: [edit('log', 'this.term(previousIndex) !== previousTerm', 'previousIndex > this.lastIndex')],
  },
  {
    name: 'heartbeat-commit-unbounded',
    about: 'heartbeats tell a commit index beyond what the follower is known to have',
    scenario: 'partitions',
    edits: [edit('core', 'Math.min(follower.match, this.log.commitIndex)', 'this.log.commitIndex')],
  },
  {
    name: 'quiet-commit-unbounded',
    about: 'a leader that falls silent tells those it has given up how far the others are',
    scenario: 'partitions',
    edits: [edit('quiescence', 'if (match === lastIndex)', '')],
  },
  {
    name: 'lease-unchecked',
    about: 'answers lease reads without a lease',
    scenario: 'partitions',
    edits: [edit('reads', 'lease && core.nowMs < leaseUntilMs(core)', 'lease')],
  },
  {
    name: 'read-unconfirmed',
    about: 'answers reads before a quorum has confirmed the round',
    scenario: 'partitions',
    edits: [edit('reads', 'const confirmed = core.quorumRound();', 'const confirmed = core.round;')],
  },
  {
    name: 'read-before-first-commit',
    about: 'a new leader reads before it has committed an entry of its term',
    scenario: 'elections',
    edits: [edit('reads', 'if (!core.hasCommittedInTerm)', 'if (!core.isLeader)')],
  },
  {
    name: 'lease-kept-in-transfer',
    about: 'keeps its lease when it has another one campaign',
    scenario: 'transfer',
    edits: [edit('transfer', 'core.isLeaseGivenUp = true;', '')],
  },
  {
    name: 'lease-from-answer',
    about: 'the lease begins when the answer comes, not when the round was sent',
    scenario: 'partitions',
    edits: [edit('replication', 'core.roundSentMs(round)', 'core.nowMs')],
  },
  {
    name: 'restarted-votes-at-once',
    about: 'a restarted follower votes although it may have vouched for a leader',
    scenario: 'transfer',
    edits: [edit('core', 'this.nowMs + timing.electionTimeoutMinMs', 'Number.NEGATIVE_INFINITY')],
  },
  {
    name: 'disloyal',
    about: 'votes for others while it hears its leader',
    scenario: 'partitions',
    edits: [edit('election', 'core.nowMs < core.loyalUntilMs', 'core.nowMs < 0')],
  },
  {
    name: 'joint-union',
    about: 'in a joint configuration a majority of the union commits',
    scenario: 'membership',
    edits: [
      edit(
        'quorum',
        'const incoming = majorityReached(configuration.voters, reached);',
        'const incoming = majorityReached([...new Set([...configuration.voters, ...configuration.outgoing])], reached);',
      ),
      edit('quorum', 'if (configuration.outgoing.length === 0)', 'if (configuration.outgoing.length >= 0)'),
    ],
  },
  {
    name: 'joint-incoming-only',
    about: 'in a joint configuration elections need the new majority only',
    scenario: 'membership',
    edits: [
      edit(
        'quorum',
        'const outgoing = tallyMajority(configuration.outgoing, votes);',
        "const outgoing = 'won';",
      ),
    ],
  },
  {
    name: 'configuration-kept',
    about: 'a configuration stays in force when its entry is cut off',
    scenario: 'membership',
    edits: [
      edit('log', 'this.configurations.truncate(index);', ''),
      edit(
        'configuration-history',
        "assert(index > this.currentIndex, 'configurations come in the order of the log');",
        '',
      ),
    ],
  },
  {
    name: 'joint-left-early',
    about: 'leaves a joint configuration before it is committed',
    scenario: 'membership',
    edits: [
      edit(
        'membership',
        'if (currentIndex > commitIndex || !core.hasCommittedInTerm)',
        'if (!core.hasCommittedInTerm)',
      ),
    ],
  },
  {
    name: 'state-goes-back',
    about: 'takes a received state that is older than its own',
    scenario: 'snapshots',
    edits: [
      edit('raft', 'core.isLeader || meta.index <= log.commitIndex', 'core.isLeader'),
      edit('raft', 'log.term(meta.index) === meta.term', 'meta.index < 0'),
      edit('log', "assert(index > this.commitIndex, 'a snapshot goes forward');", ''),
    ],
  },
  {
    name: 'applied-twice',
    about: 'hands out after a restart what was applied before',
    scenario: 'crashes',
    edits: [
      edit(
        'log',
        'this.appliedIndex = this.applyingIndex = applied;',
        'this.appliedIndex = this.applyingIndex = snapshot.index;',
      ),
    ],
  },
  {
    name: 'sessions-not-sent',
    about: 'a sent state lacks the table of what was applied',
    scenario: 'snapshots',
    edits: [driver('kv-storage', 'sessions: new Sessions(this.sessions),', 'sessions: new Sessions(),')],
  },
  {
    name: 'repetitions-applied',
    about: 'applies a proposal that was made again',
    scenario: 'elections',
    edits: [driver('kv-sessions', 'if (this.has(id, sequence))', 'if (id < 0)')],
  },
];
