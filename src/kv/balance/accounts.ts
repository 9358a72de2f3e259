import type { ReplicaId } from '../raft/configuration.js';
import { type Descriptor, ROLE } from '../replicated/descriptor.js';
import type { Replica } from '../replicated/replica.js';
import { MEMBER, type Member, type RangeLoad, type ReplicaAccount, type Silence } from './landscape.js';

export interface AccountSources {
  /** What is known of a range's load here; `epochSinceMs` is filled in. */
  loadOf(range: number): Omit<RangeLoad, 'epochSinceMs'>;
  isSole(range: number): boolean;
}

/** What an account was made of. */
interface Known {
  readonly descriptor: Descriptor;
  readonly epochSinceMs: number;
  account: ReplicaAccount;
  /** Followers of a range that is led here which lack entries: what they have confirmed, and since when it is the same. */
  lagging: Map<ReplicaId, { readonly match: number; readonly sinceMs: number }> | undefined;
  look: number;
}

/**
 * What a store says of its own replicas. An account is the same object while it says the same, and so is the list, so
 * that whoever keeps what it made of them need not look again: a thousand quiet replicas cost a look about as many
 * comparisons of each of their figures, and nothing behind it.
 */
export class OwnAccounts {
  private readonly sources: AccountSources;
  private readonly byRange = new Map<number, Known>();
  private list: readonly ReplicaAccount[] = [];
  private looks = 0;

  constructor(sources: AccountSources) {
    this.sources = sources;
  }

  /** In the order of the ranges; those without a state are left out. */
  of(replicas: Iterable<Replica>, nowMs: number): readonly ReplicaAccount[] {
    const look = ++this.looks;
    let count = 0;
    let isSame = true;
    for (const replica of replicas) {
      const { descriptor } = replica;
      if (descriptor === undefined) continue;
      count++;
      let known = this.byRange.get(replica.rangeId);
      const before = known?.account;
      if (known?.descriptor === descriptor) this.renew(known, replica, nowMs);
      else this.byRange.set(replica.rangeId, (known = this.begin(replica, descriptor, known, nowMs)));
      known.look = look;
      if (known.account !== before) isSame = false;
    }
    if (isSame && count === this.list.length) return this.list;
    for (const [range, known] of this.byRange) if (known.look !== look) this.byRange.delete(range);
    this.list = [...this.byRange.values()].map(({ account }) => account).sort(byRange);
    return this.list;
  }

  private begin(replica: Replica, descriptor: Descriptor, former: Known | undefined, nowMs: number): Known {
    const { id: range, epoch, boundary, genesis, pristine, membersAt, changing, merging } = descriptor;
    const isSameEpoch = former?.descriptor.epoch === epoch;
    const epochSinceMs = isSameEpoch ? former.epochSinceMs : nowMs;
    const leads = replica.isLeader;
    const known: Known = {
      ...{ descriptor, epochSinceMs, lagging: former?.lagging, look: 0 },
      account: {
        ...{ range, epoch, boundary, genesis, pristine, membersAt, leads },
        replica: replica.id,
        term: replica.raft.term,
        members: membersOf(descriptor),
        changing: changing || merging !== undefined,
        sole: this.sources.isSole(range),
        load: { ...this.sources.loadOf(range), epochSinceMs },
        silent: NOBODY_SILENT,
      },
    };
    const silent = silentOf(known, replica, nowMs);
    if (silent.length > 0) known.account = { ...known.account, silent };
    return known;
  }

  /** The descriptor is the same: what else may have changed. */
  private renew(known: Known, replica: Replica, nowMs: number): void {
    const { account } = known;
    const leads = replica.isLeader;
    const { term } = replica.raft;
    const load = this.sources.loadOf(account.range);
    const silent = silentOf(known, replica, nowMs);
    if (
      account.leads === leads &&
      account.term === term &&
      account.replica === replica.id &&
      sameLoad(account.load, load) &&
      sameSilence(account.silent, silent)
    )
      return;
    const { epochSinceMs } = known;
    known.account = { ...account, replica: replica.id, leads, term, silent, load: { ...load, epochSinceMs } };
  }
}

const NOBODY_SILENT: readonly Silence[] = [];

function byRange(one: ReplicaAccount, other: ReplicaAccount): number {
  return one.range - other.range;
}

export function membersOf({ members }: Descriptor): Member[] {
  return members
    .filter(({ role }) => role !== ROLE.LEAVING)
    .map(({ replica, store, role }) => ({
      replica,
      store,
      role: role === ROLE.VOTER ? MEMBER.VOTER : MEMBER.LEARNER,
    }));
}

/** Followers that confirm nothing although there is something to confirm, from the second look on that finds it so. */
function silentOf(known: Known, replica: Replica, nowMs: number): readonly Silence[] {
  let silent: Silence[] | undefined;
  let { lagging } = known;
  if (replica.isLeader)
    for (const [follower, { match }] of replica.raft.progress) {
      const isWhole = follower === replica.id || match >= replica.raft.lastIndex;
      const before = lagging?.get(follower);
      if (isWhole) lagging?.delete(follower);
      else if (before?.match === match) (silent ??= []).push({ replica: follower, sinceMs: before.sinceMs });
      else (lagging ??= new Map()).set(follower, { match, sinceMs: nowMs });
    }
  else lagging = undefined;
  known.lagging = lagging?.size === 0 ? undefined : lagging;
  return silent ?? NOBODY_SILENT;
}

function sameSilence(one: readonly Silence[], other: readonly Silence[]): boolean {
  if (one === other) return true;
  return (
    one.length === other.length &&
    one.every(({ replica, sinceMs }, at) => replica === other[at]!.replica && sinceMs === other[at]!.sinceMs)
  );
}

function sameLoad(one: RangeLoad, other: Omit<RangeLoad, 'epochSinceMs'>): boolean {
  return (
    one.bytes === other.bytes &&
    one.writesPerSecond === other.writesPerSecond &&
    one.queriesPerSecond === other.queriesPerSecond &&
    one.queryMicros === other.queryMicros &&
    one.fanOut === other.fanOut &&
    (one.splitKey === other.splitKey || Buffer.compare(one.splitKey, other.splitKey) === 0)
  );
}
