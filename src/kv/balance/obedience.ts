import type { Descriptor } from '../replicated/descriptor.js';
import type { RaftStore } from '../replicated/raft-store.js';
import type { Replica } from '../replicated/replica.js';
import type { Command } from './balancer.js';
import {
  accountOf,
  type Landscape,
  leadersOf,
  MEMBER,
  type Member,
  type StoreAccount,
  storesOf,
} from './landscape.js';
import type { OrderAnswer, RangeOrder } from './order.js';

/** What a store's steward lends to carry out an order. */
export interface House {
  readonly store: RaftStore;
  /** Without the ranges that stores have for themselves. */
  readonly landscape: Landscape;
  isSole(range: number): boolean;
  membersOf(descriptor: Descriptor): readonly Member[];
  /** Where the coprocessor would divide a range; empty if nowhere. */
  splitKeyOf(range: number): Uint8Array;
  /** Carries out a command as it would a balancer's. False: the range is not any more what it was. */
  give(command: Command): boolean;
}

/** A range of this store as an order meets it. */
interface Subject {
  readonly replica: Replica;
  readonly descriptor: Descriptor;
  readonly members: readonly Member[];
}

/**
 * Carries out an operator's order, or says in words why not. Nothing that balancers would be refused is done for an
 * operator either: `recover` apart, the range's own log has the last word.
 */
export function obey(order: RangeOrder, house: House): OrderAnswer {
  const { store } = house;
  const name = rangeWords(order.range);
  const replica = store.replica(order.range);
  if (house.isSole(order.range))
    return refused(`range ${name} is its node's own: it has one replica, and stays where it is`);
  const descriptor = replica?.descriptor;
  const leader = leadersOf(house.landscape).of(order.range)?.account;
  if (replica === undefined || descriptor === undefined)
    return order.kind === 'recover'
      ? refused(`${own(house)} has no data of range ${name}: name a store that has`)
      : notHere(house, name, leader);
  const subject = { replica, descriptor, members: house.membersOf(descriptor) };
  if (order.kind === 'recover') return recover(order, subject, leader, house);
  if (!replica.isLeader) return notHere(house, name, leader);
  if (descriptor.changing || descriptor.merging !== undefined)
    return refused(`range ${name} is changing already: wait until that is done`);
  switch (order.kind) {
    case 'transfer':
      return transfer(order, subject, house);
    case 'split':
      return split(order, subject, house);
    case 'merge':
      return merge(subject, house);
    case 'move':
      return move(order, subject, house);
  }
}

function notHere({ store, landscape }: House, name: string, leader: StoreAccount | undefined): OrderAnswer {
  const here = storeWords(landscape, store.id);
  if (leader === undefined || leader.store === store.id)
    return refused(`range ${name} has no leader now; "kv ranges" shows which of its stores live`);
  const why = `${here} does not lead range ${name}, ${storeWords(landscape, leader.store)} does`;
  return { kind: 'refused', why, leader: leader.store };
}

function transfer(
  { range, to }: RangeOrder & { readonly kind: 'transfer' },
  { replica, members }: Subject,
  house: House,
): OrderAnswer {
  const { landscape, store } = house;
  const heir = storeWords(landscape, to);
  if (to === store.id) return refused(`${heir} leads range ${rangeWords(range)} already`);
  const member = members.find(other => other.store === to);
  if (member?.role !== MEMBER.VOTER)
    return refused(
      `${heir} holds no voter of range ${rangeWords(range)}; ${votersWords(landscape, members)} do`,
    );
  const why = cannotServe(landscape, to);
  if (why !== undefined) return refused(why);
  return given(house.give({ kind: 'transfer', range, term: replica.raft.term, to }), range);
}

function split(
  { range, key: wanted }: RangeOrder & { readonly kind: 'split' },
  { descriptor }: Subject,
  house: House,
): OrderAnswer {
  const { start, end } = descriptor.boundary;
  const key = wanted ?? house.splitKeyOf(range);
  const name = rangeWords(range);
  if (key.length === 0)
    return refused(`range ${name} holds too little to be divided; name a key to divide it at`);
  if (Buffer.compare(start, key) >= 0 || Buffer.compare(key, end) >= 0)
    return refused(`that key is not inside range ${name}; it would be the first one of the upper half`);
  return given(house.give({ kind: 'split', range, epoch: descriptor.epoch, key }), range);
}

/** Both have to be led here and held by the same stores; what is missing for that is said. */
function merge({ descriptor, members }: Subject, house: House): OrderAnswer {
  const { landscape, store } = house;
  const { id: range, epoch, boundary, genesis } = descriptor;
  const name = rangeWords(range);
  const beside = leadersOf(landscape)
    .beginningAt(boundary.end)
    .find(({ replica }) => replica.genesis === genesis);
  if (beside === undefined || boundary.end[0] !== boundary.start[0])
    return refused(`no range with a leader begins where range ${name} ends`);
  const { account, replica } = beside;
  const upper = rangeWords(replica.range);
  if (replica.changing) return refused(`its neighbour ${upper} is changing: wait until that is done`);
  const stores = (of: readonly Member[]) =>
    [MEMBER.VOTER, MEMBER.LEARNER].map(role => storesOf(of, role).join());
  if (stores(members).join(';') !== stores(replica.members).join(';')) {
    const [mine, its] = [members, replica.members].map(of => votersWords(landscape, of));
    return refused(
      `its neighbour ${upper} has other stores (${its}) than range ${name} (${mine}): "kv move" it there first`,
    );
  }
  if (account.store !== store.id)
    return refused(
      `its neighbour ${upper} is led by ${storeWords(landscape, account.store)}: "kv transfer ${upper} ${storeWords(landscape, store.id)}" first`,
    );
  const upperEpoch = store.replica(replica.range)?.descriptor?.epoch ?? 0;
  return given(house.give({ kind: 'merge', range, epoch, upper: replica.range, upperEpoch }), range);
}

function move(
  { range, from, to }: RangeOrder & { readonly kind: 'move' },
  { descriptor, members }: Subject,
  house: House,
): OrderAnswer {
  const { landscape } = house;
  const name = rangeWords(range);
  if (!members.some(({ store }) => store === from))
    return refused(
      `${storeWords(landscape, from)} holds no replica of range ${name}; ${votersWords(landscape, members)} do`,
    );
  if (members.some(({ store }) => store === to))
    return refused(`${storeWords(landscape, to)} holds a replica of range ${name} already`);
  const why = cannotServe(landscape, to);
  if (why !== undefined) return refused(why);
  if (accountOf(landscape, to)?.services.includes(descriptor.service) !== true)
    return refused(`${storeWords(landscape, to)} does not take ranges of this service`);
  const moved = members.map(member => (member.store === from ? { ...member, store: to } : member));
  const voters = storesOf(moved, MEMBER.VOTER);
  const living = voters.filter(store => accountOf(landscape, store)?.alive === true);
  if (living.length * 2 <= voters.length)
    return refused(`of its ${voters.length} voters only ${living.length} would live: that is no majority`);
  const { membersAt } = descriptor;
  const learners = storesOf(moved, MEMBER.LEARNER);
  return given(house.give({ kind: 'change', range, membersAt, voters, learners }), range);
}

/**
 * Refused, unless forced, while the range has a leader or could elect one: then nothing has to be lost. What the survivor
 * lacks of what was acknowledged, the others' replicas keep no longer: they are told that they are out.
 */
function recover(
  { range, forced }: RangeOrder & { readonly kind: 'recover' },
  { members }: Subject,
  leader: StoreAccount | undefined,
  { landscape, store }: House,
): OrderAnswer {
  const name = rangeWords(range);
  const voters = storesOf(members, MEMBER.VOTER);
  const living = voters.filter(id => accountOf(landscape, id)?.alive === true);
  if (!forced && leader !== undefined)
    return refused(
      `range ${name} has a leader that lives, ${storeWords(landscape, leader.store)}: nothing is to be recovered`,
    );
  if (!forced && living.length * 2 > voters.length)
    return refused(
      `of the ${voters.length} voters of range ${name}, ${living.length} live: that is a majority, which elects a leader by itself; wait, or see why it does not with "cluster doctor"`,
    );
  return store.recoverAsSoleVoterAndLoseWhatOnlyOthersHave(range)
    ? { kind: 'begun' }
    : refused(
        `${storeWords(landscape, store.id)} has heard a leader of range ${name} within the last seconds: try again`,
      );
}

// -- Words ---------------------------------------------------------------------------------------------------

/** As commands name it and take it. */
export function rangeWords(range: number): string {
  return range.toString(36);
}

/** The name that people give it, or its id where that is not known. */
export function storeWords(landscape: Landscape, store: number): string {
  return accountOf(landscape, store)?.name || store.toString(36);
}

function votersWords(landscape: Landscape, members: readonly Member[]): string {
  return members.map(({ store }) => storeWords(landscape, store)).join(', ');
}

function own({ landscape, store }: House): string {
  return storeWords(landscape, store.id);
}

function cannotServe(landscape: Landscape, store: number): string | undefined {
  const account = accountOf(landscape, store);
  if (account === undefined) return `no store is known as ${storeWords(landscape, store)}`;
  if (!account.alive) return `${storeWords(landscape, store)} is lost: its node is not in the cluster now`;
  return account.draining ? `${storeWords(landscape, store)} is about to leave` : undefined;
}

function given(isTaken: boolean, range: number): OrderAnswer {
  return isTaken
    ? { kind: 'begun' }
    : refused(`range ${rangeWords(range)} has changed just now: look at "kv ranges" and try again`);
}

function refused(why: string): OrderAnswer {
  return { kind: 'refused', why, leader: 0 };
}

/** A balancer's command, for people. */
export function commandWords(command: Command, landscape: Landscape): string {
  const store = (id: number) => storeWords(landscape, id);
  if (command.kind === 'bootstrap') return 'bootstrap';
  const range = rangeWords(command.range);
  switch (command.kind) {
    case 'change': {
      const learners =
        command.learners.length === 0 ? '' : `, learners ${command.learners.map(store).join(' ')}`;
      return `${range}: voters ${command.voters.map(store).join(' ')}${learners}`;
    }
    case 'transfer':
      return `${range}: leader ${store(command.to)}`;
    case 'merge':
      return `${range}: merge ${rangeWords(command.upper)}`;
    default:
      return `${range}: ${command.kind}`;
  }
}
