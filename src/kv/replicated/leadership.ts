import type { Replica } from './replica.js';

/** Hands leadership to the replica on `store`. False: there is none, or this one does not lead. */
export function transferTo({ descriptor, isLeader, raft }: Replica, store: number): boolean {
  const member = descriptor?.members.find(other => other.store === store);
  if (member === undefined || !isLeader) return false;
  raft.transfer(member.replica);
  return true;
}

/** As `Raft.recoverAsSoleVoterAndLoseWhatOnlyOthersHave`. True also if it is alone already. */
export function recoverAlone({ state, isLeader, raft }: Replica): boolean {
  if (state === undefined) return false;
  const { voters, outgoing } = raft.configuration;
  if (isLeader && voters.length === 1 && outgoing.length === 0) return true;
  return raft.recoverAsSoleVoterAndLoseWhatOnlyOthersHave();
}
