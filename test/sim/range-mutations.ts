import type { Mutation } from './kv-mutations.js';

function variant(
  name: string,
  about: string,
  scenario: string,
  ...edits: readonly (readonly [file: string, from: string, to: string])[]
): Mutation {
  return {
    ...{ name, about, scenario, isOfStores: true },
    edits: edits.map(([file, from, to]) => ({ file: `src/kv/${file}`, from, to })),
  };
}

/** Stores that break one rule; see kv-mutations.ts. */
export const STORE_MUTATIONS: readonly Mutation[] = [
  variant(
    'answered-before-durable',
    'a command in a store’s own range is answered before it is on the disk',
    'range-crashes',
    [
      'store',
      'writer => this.applyShare(writer),',
      'writer => (this.applyShare(writer), this.out.sendAll(this.wire.send)),',
    ],
  ),
  variant(
    'failed-decision-kept',
    'a transaction that found no room leaves its traces in the memory of a store’s own range',
    'range-full',
    ['replicated/replica', 'log.takeDecisionBack();', 'return log.takeDecisionBack();'],
  ),
  variant('decision-uncounted', 'what a transaction decides is no entry of its own', 'range-full', [
    'replicated/log',
    'const index = ++this.last;',
    'const index = this.last;',
  ]),
  variant('lowest-forgotten', 'forgets one number too many: the lowest that has no answer', 'range-crashes', [
    'replicated/sessions',
    'raiseFloor(session, lowest - 1);',
    'raiseFloor(session, lowest);',
  ]),
  variant(
    'answered-is-new',
    'of the numbers that have an answer it keeps nothing, not even that they had one',
    'range-parts',
    ['replicated/sessions', 'session.floor = floor;', ''],
  ),
  variant('sessions-not-divided', 'the upper half of a split does not know what was applied', 'range-parts', [
    'replicated/replica-table',
    'replica.state.sessions.merge(parent.sessions, writer);',
    '',
  ]),
  variant(
    'sessions-not-merged',
    'what has absorbed its neighbour does not know what was applied there',
    'range-parts',
    ['replicated/transitions', 'state.sessions.merge(source.sessions, turn.writer);', ''],
  ),
  variant(
    'command-epoch-unchecked',
    'a command is applied at whatever epoch the range has by then',
    'housekeeping',
    [
      'replicated/state',
      'head.epoch !== this.descriptor.epoch && command !== COMMAND.RECOVER',
      'head.epoch < 0',
    ],
  ),
  variant('split-without-epoch', 'the lower half of a split keeps its epoch', 'range-parts', [
    'replicated/transitions',
    'state.change({ epoch: epoch + 1, boundary: {',
    'state.change({ epoch, boundary: {',
  ]),
  variant(
    'query-epoch-unchecked',
    'a question is answered at whatever epoch the range has by then',
    'range-crashes',
    ['replicated/raft-store', '|| state.descriptor.epoch !== epoch)', '|| epoch < 0)'],
  ),
  variant(
    'merge-without-all',
    'a merge is committed before all replicas have what comes before it',
    'range-crashes',
    ['replicated/driver', 'follower !== id && match < index', 'follower === 0 && match < index'],
  ),
  variant(
    'merge-not-fenced',
    'a source that gives up its merge does not wait until nobody can commit it',
    'range-parts',
    [
      'replicated/driver',
      ': held.epoch > targetEpoch || held.membersAt > targetMembersAt;',
      ': held.epoch >= targetEpoch;',
    ],
  ),
  variant(
    'recovered-in-two-breaths',
    'who goes on alone says so to its log first, and only later to its members',
    'range-recovery',
    ['replicated/driver', 'this.propose(replica, recoverCommand(epoch));', ''],
  ),
  variant(
    'recovered-under-old-ids',
    'newcomers of a recovered range get ids that the lost may have given already',
    'range-recovery',
    ['replicated/transitions', 'nextReplica: descriptor.nextReplica + RECOVERY_STEP,', ''],
  ),
  variant(
    'recovered-at-old-epoch',
    'a recovered range goes on at an epoch that the lost may have reached',
    'range-recovery',
    ['replicated/transitions', 'epoch: descriptor.epoch + RECOVERY_STEP,', ''],
    [
      'replicated/driver',
      'if (descriptor.epoch - this',
      'if (descriptor.members.length === 1 || descriptor.epoch - this',
    ],
  ),
  variant(
    'lost-not-told',
    'whoever comes back after it was given up is not told that it is out',
    'range-recovery',
    ['replicated/mailroom', 'if (this.isGone(replica, message.from))', 'if (message.from < 0)'],
    ['replicated/mailroom', ': this.isGone(replica, id))', ': id < 0)'],
  ),
];
