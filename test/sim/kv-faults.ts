import { members, type ReplicaId } from '../../src/kv/raft/configuration.js';
import { GOOD_DISK } from './kv-disk.js';
import type { KvReplica } from './kv-replica.js';
import type { KvStore } from './kv-store.js';
import type { KvWorld } from './kv-world.js';
import { LAN } from './network.js';

/** One thing that happens; it plans its own end, `forMs` from now at the latest. */
export type Fault = (world: KvWorld, forMs: number) => void;

function indexes(stores: readonly KvStore[]): ReadonlySet<number> {
  return new Set(stores.map(({ node }) => node.index));
}

function names(stores: readonly KvStore[]): string {
  return stores.map(({ label }) => label).join(' ');
}

function up(world: KvWorld): KvStore[] {
  return world.stores.filter(({ node }) => node.isResponsive);
}

/** The store of some group's leader. */
function leading(world: KvWorld): { readonly leader: KvReplica; readonly store: KvStore } | undefined {
  const leader = world.leaders(world.random.below(world.settings.groups))[0];
  return leader === undefined ? undefined : { leader, store: world.storeOf(leader.id)! };
}

/** A leader's store as often as any. */
function victim(world: KvWorld): KvStore | undefined {
  if (world.random.chance(0.5)) return leading(world)?.store;
  const stores = up(world);
  return stores.length === 0 ? undefined : world.random.pick(stores);
}

function crashFor(world: KvWorld, store: KvStore, downMs: number): void {
  if (world.isCalm) return;
  store.crash();
  world.time.after(downMs, () => {
    if (!store.isUp) store.start();
  });
}

/** Mostly back at once, before anybody has missed it. */
export function crash(world: KvWorld, forMs: number): void {
  const store = victim(world);
  if (store === undefined) return;
  crashFor(world, store, world.random.chance(0.6) ? world.random.between(1, 500) : forMs);
}

/** The power of several at once, or of all. */
export function blackout(world: KvWorld, forMs: number): void {
  const { random, stores } = world;
  const count = random.chance(0.3) ? stores.length : 2 + random.below(stores.length - 1);
  for (const store of random.sample(stores, count))
    if (store.isUp) crashFor(world, store, random.between(1, random.chance(0.6) ? 1_000 : forMs));
}

/** One after the other, each back before the next one goes. */
export function rollingCrashes(world: KvWorld): void {
  const { random, stores } = world;
  random.sample(stores, stores.length).forEach((store, at) => {
    world.time.after(at * random.between(200, 1_500), () => {
      if (store.isUp) crashFor(world, store, random.between(1, 300));
    });
  });
}

export function pause(world: KvWorld, forMs: number): void {
  const store = victim(world);
  if (store === undefined || store.node.isPaused) return;
  store.node.pause();
  world.time.trace.note('event', store.label, 'is stopped');
  world.time.after(Math.min(forMs, world.random.between(50, 8_000)), () => resume(world, store));
}

export function resume(world: KvWorld, store: KvStore): void {
  if (!store.node.isPaused) return;
  world.time.trace.note('event', store.label, 'goes on');
  store.node.resume();
}

/** Nothing from these to those; for both directions two of them. */
function cut(world: KvWorld, from: readonly KvStore[], to: readonly KvStore[], forMs: number): void {
  if (world.isCalm) return;
  const words = `${names(from)} cannot send to ${names(to)}`;
  world.time.after(
    forMs,
    world.network.addRule({ from: indexes(from), to: indexes(to), isCut: true }, words),
  );
}

function cutBoth(world: KvWorld, some: readonly KvStore[], others: readonly KvStore[], forMs: number): void {
  cut(world, some, others, forMs);
  cut(world, others, some, forMs);
}

function without(world: KvWorld, some: readonly KvStore[]): KvStore[] {
  return world.stores.filter(store => !some.includes(store));
}

export function isolate(world: KvWorld, forMs: number): void {
  const store = victim(world);
  if (store === undefined) return;
  const others = without(world, [store]);
  const shape = world.random.below(4);
  if (shape !== 0) cut(world, [store], others, forMs);
  if (shape !== 1) cut(world, others, [store], forMs);
}

export function halves(world: KvWorld, forMs: number): void {
  const some = world.random.sample(world.stores, 1 + world.random.below(world.stores.length - 1));
  cutBoth(world, some, without(world, some), forMs);
}

/** Two parts, and one store that hears both. */
export function bridge(world: KvWorld, forMs: number): void {
  const shuffled = world.random.sample(world.stores, world.stores.length);
  const middle = Math.ceil((shuffled.length - 1) / 2);
  cutBoth(world, shuffled.slice(1, 1 + middle), shuffled.slice(1 + middle), forMs);
}

export function cutLink(world: KvWorld, forMs: number): void {
  const [one, other] = world.random.sample(world.stores, 2) as [KvStore, KvStore];
  cut(world, [one], [other], forMs);
}

export function flap(world: KvWorld, forMs: number): void {
  const { random } = world;
  const some = random.sample(world.stores, 1 + random.below(world.stores.length - 1));
  const flapping = {
    upMs: random.between(20, 4_000),
    downMs: random.between(20, 4_000),
    offsetMs: random.between(0, 8_000),
  };
  const others = without(world, some);
  const words = `${names(some)} flap`;
  const rules = [{ from: indexes(some), to: indexes(others), flapping }];
  if (random.chance(0.5)) rules.push({ from: indexes(others), to: indexes(some), flapping });
  for (const rule of rules) world.time.after(forMs, world.network.addRule(rule, words));
}

export function weather(world: KvWorld, forMs: number): void {
  const { random } = world;
  const settings = {
    ...LAN,
    delayMs: random.between(0, 1) ** 3 * 400,
    jitterMs: random.between(0, 1) ** 2 * 600,
    loss: random.between(0, 1) ** 2 * 0.4,
    doubled: random.between(0, 0.3),
    straggling: random.between(0, 0.2),
  };
  const from = random.chance(0.5) ? 'all' : indexes(random.sample(world.stores, 1 + random.below(2)));
  const words = `weather: delay ${settings.delayMs.toFixed(0)} + ${settings.jitterMs.toFixed(0)} ms, loss ${settings.loss.toFixed(2)}`;
  world.time.after(forMs, world.network.addRule({ from, to: 'all', settings }, words));
}

export function slowDisk(world: KvWorld, forMs: number): void {
  const { random } = world;
  const store = victim(world);
  if (store === undefined) return;
  store.disk.settings = {
    flushMsMin: random.between(0, 1) ** 2 * 200,
    flushMsMax: 200 + random.between(0, 1) ** 3 * 3_000,
    hanging: random.between(0, 0.1),
    hangMsMax: 5_000,
  };
  world.time.trace.note(
    'event',
    store.label,
    `its disk takes up to ${store.disk.settings.flushMsMax.toFixed(0)} ms`,
  );
  world.time.after(forMs, () => {
    store.disk.settings = GOOD_DISK;
  });
}

export function loseClients(world: KvWorld, forMs: number): void {
  world.clientLoss = world.random.between(0, 0.5);
  world.time.after(forMs, () => {
    world.clientLoss = 0;
  });
}

/** Some messages come seconds late: connections that hang, and go on. */
export function lateMail(world: KvWorld, forMs: number): void {
  world.lateness = world.random.between(0.01, 0.2);
  world.time.trace.note(
    'event',
    'network',
    `${(world.lateness * 100).toFixed(0)} % of the messages come late`,
  );
  world.time.after(forMs, () => {
    world.lateness = 0;
  });
}

/** What is large is lost, what is small passes: leaders are elected and cannot replicate much. */
export function blackHole(world: KvWorld, forMs: number): void {
  const lastsMs = Math.max(forMs, 8_000);
  world.appendLoss = world.random.between(0.5, 0.98);
  world.time.trace.note(
    'event',
    'network',
    `${(world.appendLoss * 100).toFixed(0)} % of the appends are lost`,
  );
  world.time.after(lastsMs, () => {
    world.appendLoss = 0;
  });
  regicide(world, lastsMs);
}

/** Nobody asks anything, so that groups go quiet; then all at once. */
export function silence(world: KvWorld, forMs: number): void {
  world.isWorking = false;
  world.time.after(Math.min(forMs, 15_000), () => {
    world.isWorking = true;
  });
}

export function storm(world: KvWorld, forMs: number): void {
  const { thinkMs } = world;
  world.thinkMs = world.random.between(0, 30);
  world.time.after(Math.min(forMs, 5_000), () => {
    world.thinkMs = Math.max(thinkMs, 200);
  });
}

export function transfer(world: KvWorld): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const { voters } = leader.raft.configuration;
  const to = world.random.pick(voters);
  store.note(leader.group, leader.id, `is to hand over to ${to}`);
  store.command(leader, () => leader.raft.transfer(to));
}

/** Any configuration that differs from the present one in one to three members. */
export function changeMembers(world: KvWorld): void {
  const group = world.random.below(world.settings.groups);
  const leader = world.leaders(group)[0];
  if (leader !== undefined) changeAt(world, leader);
}

function changeAt(world: KvWorld, leader: KvReplica): void {
  const { random } = world;
  const { configuration } = leader.raft;
  let voters = [...configuration.voters];
  let learners = [...configuration.learners];
  for (let step = 1 + random.below(3); step > 0; step -= 1) {
    // Towards three voters: one alone cannot differ with anybody.
    const draw = voters.length < 3 && random.chance(0.5) ? 0 : random.fraction();
    if (draw < 0.3) voters.push(...newSeats(world, leader));
    else if (draw < 0.45) learners.push(...newSeats(world, leader));
    else if (draw < 0.6) voters.push(...learners.splice(0, 1));
    else if (voters.length > 1) {
      const [taken] = voters.splice(random.below(voters.length), 1);
      if (draw < 0.7) learners.push(taken!);
      else if (draw < 0.85) voters.push(...newSeats(world, leader));
    }
  }
  voters = sorted(voters);
  learners = sorted(learners.filter(id => !voters.includes(id)));
  world.change(leader, voters, learners);
}

/** A change that its leader has in its log and can tell to few, or to nobody. */
export function strandChange(world: KvWorld, forMs: number): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const friends = world.random.sample(without(world, [store]), world.random.below(2));
  const some = [store, ...friends];
  cutBoth(world, some, without(world, some), Math.max(4_000, Math.min(forMs, 15_000)));
  world.time.after(world.random.between(0, 400), () => {
    if (store.replicas.get(leader.id) === leader && leader.isLeader) changeAt(world, leader);
  });
}

/** A leader that is cut off from the other voters, and just then is to go on with newcomers in their place. */
export function emigrate(world: KvWorld, forMs: number): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const { voters, outgoing } = leader.raft.configuration;
  const places = world.stores.filter(one => world.replicasOn(one, leader.group).length === 0);
  if (voters.length < 3 || outgoing.length > 0 || places.length < 2) return;
  const left = without(world, [store, ...places]);
  cutBoth(world, left, without(world, left), Math.max(8_000, Math.min(forMs, 20_000)));
  world.time.after(world.random.between(0, 400), () => {
    if (store.replicas.get(leader.id) !== leader || !leader.isLeader) return;
    const others = voters.filter(id => id !== leader.id);
    const seats = world.random
      .sample(places, 2)
      .map(one => world.seat(leader.group, one, leader.raft.lastIndex + 1));
    // One who stays is not enough for a majority of the former ones.
    world.change(
      leader,
      sorted([leader.id, ...others.slice(0, Math.max(0, voters.length - 4)), ...seats]),
      [],
    );
  });
}

/** A leader that hears what the others said seconds ago, and is not heard. */
export function hearThePast(world: KvWorld): void {
  const found = leading(world);
  if (found === undefined) return;
  const { store } = found;
  const settings = { ...LAN, delayMs: world.random.between(600, 2_600), jitterMs: 100 };
  const others = without(world, [store]);
  const rule = { from: indexes(others), to: indexes([store]), settings };
  const words = `${store.label} hears the others ${settings.delayMs.toFixed(0)} ms late`;
  world.time.after(8_000, world.network.addRule(rule, words));
  storm(world, 8_000);
  world.time.after(world.random.between(500, 2_000), () => cut(world, [store], others, 5_000));
}

function sorted(ids: readonly ReplicaId[]): ReplicaId[] {
  return [...new Set(ids)].sort((left, right) => left - right);
}

/** On a store that has no replica of the group; none when all have. */
function newSeats(world: KvWorld, leader: KvReplica): ReplicaId[] {
  const { group } = leader;
  const free = world.stores.filter(store => world.replicasOn(store, group).length === 0);
  return free.length === 0 ? [] : [world.seat(group, world.random.pick(free), leader.raft.lastIndex + 1)];
}

/** A leader that hands over and is cut off at that moment, while others ask it on. */
export function handOverAndVanish(world: KvWorld, forMs: number): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const others = leader.raft.configuration.voters.filter(id => id !== leader.id);
  if (others.length === 0) return;
  const to = world.random.pick(others);
  storm(world, forMs);
  store.note(leader.group, leader.id, `is to hand over to ${to} and is cut off`);
  store.command(leader, () => leader.raft.transfer(to));
  const lateMs = world.random.between(0.5, 20);
  world.time.after(lateMs, () => cutBoth(world, [store], without(world, [store]), Math.min(forMs, 4_000)));
}

/** Nobody asks anything, so that no log is behind, until there is a newer leader; then everybody asks all of them. */
function askOnceUsurped(world: KvWorld, leader: KvReplica, withinMs: number): void {
  const endMs = world.time.nowMs + withinMs;
  const { term } = leader.raft;
  world.isWorking = false;
  world.thinkMs = 10;
  const look = () => {
    const newest = world.leaders(leader.group)[0];
    if (world.isCalm) return;
    if (world.time.nowMs < endMs && (newest === undefined || newest.raft.term <= term)) {
      world.time.after(5, look);
      return;
    }
    world.isWorking = true;
    storm(world, 2_000);
  };
  look();
}

/**
 * A leader that only one voter vouches for; that one forgets it by a crash, and is cut from it, while the others look
 * for a new one.
 */
export function forgetLeader(world: KvWorld): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const { random } = world;
  const rest = leader.raft.configuration.voters.filter(id => id !== leader.id).map(id => world.storeOf(id)!);
  if (rest.length < 2) return;
  const vouching = random.sample(rest, Math.floor((rest.length + 1) / 2));
  const lost = without(world, [store, ...vouching]);
  cutBoth(world, [store], lost, 8_000);
  askOnceUsurped(world, leader, 7_000);
  world.time.after(random.between(1_500, 4_000), () => {
    cutBoth(world, [store], vouching, 4_000);
    for (const one of vouching) if (one.isUp) crashFor(world, one, random.between(1, 60));
  });
}

/** A voter that is cut off from its leader alone campaigns among the others, who hear both. */
export function usurp(world: KvWorld): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const others = leader.raft.configuration.voters.filter(id => id !== leader.id);
  if (others.length < 2) return;
  cutBoth(world, [store], [world.storeOf(world.random.pick(others))!], 6_000);
  askOnceUsurped(world, leader, 5_000);
}

/** One that misses much, under load, so that it needs a state and not the log. */
export function leaveBehind(world: KvWorld, forMs: number): void {
  const store = victim(world);
  if (store === undefined) return;
  storm(world, forMs);
  if (world.random.chance(0.5)) crashFor(world, store, Math.min(forMs, 6_000));
  else cutBoth(world, [store], without(world, [store]), Math.min(forMs, 6_000));
}

/** Crashes leader after leader, each shortly after it has begun. */
export function regicide(world: KvWorld, forMs: number): void {
  const group = world.random.below(world.settings.groups);
  const endMs = world.time.nowMs + Math.min(forMs, 20_000);
  const step = () => {
    if (world.time.nowMs > endMs) return;
    const leader = world.leaders(group)[0];
    if (leader !== undefined) crashFor(world, world.storeOf(leader.id)!, world.random.between(1, 3_000));
    world.time.after(world.random.between(100, 3_000), step);
  };
  step();
}

/**
 * A leader whose disk hangs, so that others have its entries before itself; it crashes and forgets them, and who has
 * them is cut off, so that those decide who do not.
 */
export function forgetOwn(world: KvWorld): void {
  const found = leading(world);
  if (found === undefined) return;
  const { leader, store } = found;
  const rest = leader.raft.configuration.voters.filter(id => id !== leader.id).map(id => world.storeOf(id)!);
  if (rest.length < 2) return;
  const fed = world.random.sample(rest, Math.floor((rest.length + 1) / 2));
  const behind = rest.filter(one => !fed.includes(one));
  store.disk.settings = { flushMsMin: 2_000, flushMsMax: 4_000, hanging: 0, hangMsMax: 0 };
  cut(world, [store], behind, 1_500);
  storm(world, 1_500);
  world.time.after(world.random.between(100, 1_200), () => {
    cutBoth(world, fed, without(world, fed), 8_000);
    store.disk.settings = GOOD_DISK;
    if (store.isUp) crashFor(world, store, world.random.between(1, 100));
  });
}

/** Leaders that speak to a minority of their own, again and again: entries that some have and nobody commits. */
export function strandEntries(world: KvWorld, forMs: number): void {
  const group = world.random.below(world.settings.groups);
  const endMs = world.time.nowMs + Math.min(forMs, 30_000);
  storm(world, forMs);
  const step = () => {
    if (world.time.nowMs > endMs) return;
    const leader = world.leaders(group)[0];
    const stores = members(world.configurations[group]!.configuration).map(id => world.storeOf(id)!);
    if (leader !== undefined && stores.length > 2) {
      const store = world.storeOf(leader.id)!;
      const friends = world.random.sample(stores, world.random.below(Math.ceil(stores.length / 2)));
      const some = [...new Set([store, ...friends])];
      const lastsMs = world.random.between(1_000, 5_000);
      cutBoth(world, some, without(world, some), lastsMs);
      if (world.random.chance(0.4))
        world.time.after(world.random.between(0, lastsMs), () => {
          if (store.isUp) crashFor(world, store, world.random.between(1, 2_000));
        });
    }
    world.time.after(world.random.between(1_500, 5_000), step);
  };
  step();
}

/** A leader is cut off with entries of its own, and hears the others again, unheard, before they fall silent without it. */
export function strandThenSilence(world: KvWorld): void {
  const leader = world.leaders(world.random.below(world.settings.groups))[0];
  const store = leader === undefined ? undefined : world.storeOf(leader.id);
  if (store === undefined) return;
  const others = without(world, [store]);
  cut(world, [store], others, world.random.between(6_000, 12_000));
  cut(world, others, [store], world.random.between(1_500, 4_000));
  world.time.after(world.random.between(100, 1_000), () => silence(world, 15_000));
}

/** Shorter than what a log that keeps a single entry lets a follower fall behind between two operations. */
const CALM_STATE_MS = 100;

/** Nothing is wrong any more. */
export function heal(world: KvWorld): void {
  world.isCalm = true;
  world.network.heal();
  world.clientLoss = world.lateness = world.appendLoss = 0;
  world.stateMsMax = Math.min(world.stateMsMax, CALM_STATE_MS);
  world.isWorking = true;
  world.thinkMs = 400;
  for (const store of world.stores) {
    store.disk.settings = GOOD_DISK;
    resume(world, store);
    if (!store.isUp) store.start();
  }
}
