import type { Env } from '../../src/base/env.js';
import type { HybridClock } from '../../src/base/hlc.js';
import type { AgentOutput } from '../../src/overlay/agent.js';
import { Overlay, type OverlayReady } from '../../src/overlay/overlay.js';
import type { HostId } from '../../src/underlay/message.js';
import type { Ready, Underlay } from '../../src/underlay/underlay.js';
import { Mail } from './overlay-mail.js';
import { AGENTS, type AgentName, Rider } from './overlay-rider.js';
import { Services } from './overlay-services.js';
import type { SeededRandom } from './random.js';
import { fail } from './underlay-checkers.js';
import type { SimHost, Upper } from './underlay-host.js';
import type { Cluster, Seat } from './underlay-world.js';

/** An overlay whose lists are counted together with those of the underlay that it stands on. */
class SimOverlay extends Overlay {
  readonly surroundings: Env;
  readonly #below: Underlay;

  constructor(underlay: Underlay, env: Env, clock: HybridClock) {
    super({ underlay, env, clock });
    this.surroundings = env;
    this.#below = underlay;
  }

  override entries(): Readonly<Record<string, number>> {
    return { ...this.#below.entries(), ...super.entries() };
  }
}

/** One action of each rider in about so long, milliseconds; in large clusters longer. */
const PAUSE_MS = 1_000;
const STRICT_HOSTS_MAX = 20;

/** After strange cuts some entries may have been out of the map, and held, for long. */
const MURKY_MS = 30_000;

/** A rider on every host of a cluster, and what must hold for all of them together. */
export class Riders implements Upper {
  readonly mail = new Mail();
  readonly riders = new Map<HostId, Rider>();
  /** By host; none when idle. */
  readonly services = new Map<HostId, Services>();
  /** Nothing is done any more; what was done goes round. */
  isCalm = false;
  isIdle = false;
  /** Nobody leaves or joins an agent: each time, the host's incarnation rises. */
  isSteady = false;
  private murkyMs = Number.NEGATIVE_INFINITY;
  private cluster!: Cluster;
  private random!: SeededRandom;

  ride(cluster: Cluster): void {
    this.cluster = cluster;
    this.random = cluster.world.random.fork('riders');
  }

  // -- Upper -------------------------------------------------------------------------------------------------

  wrap(
    underlay: Underlay,
    env: Env,
    clock: HybridClock,
  ): Overlay & { entries(): Readonly<Record<string, number>> } {
    return new SimOverlay(underlay, env, clock);
  }

  started(host: SimHost): void {
    const seat = this.seatOf(host);
    const isStrict = this.cluster.hostCount <= STRICT_HOSTS_MAX;
    const overlay = host.machine as SimOverlay;
    const label = `${host.node.label}.${host.node.life}`;
    const rider = new Rider(overlay, label, this.riders, this.mail, this.random, {
      isStrict,
      isSteady: this.isSteady,
    });
    this.riders.set(host.options.id, rider);
    for (const name of AGENTS) rider.carry(name);
    if (!this.isIdle) this.serve(host, overlay, label);
    this.cluster.drive(seat);
    if (!this.isIdle) this.plan(host, rider);
  }

  private serve(host: SimHost, overlay: SimOverlay, label: string): void {
    const { world } = this.cluster;
    const seat = this.seatOf(host);
    const drive = () => world.after(0, () => seat.host === host && this.cluster.drive(seat));
    this.services.set(host.options.id, new Services(overlay, overlay.surroundings, label, drive));
  }

  turn(host: SimHost, ready: Ready): void {
    const { agents } = ready as OverlayReady;
    for (const output of agents) this.trace(host, output);
    this.riders.get(host.options.id)?.onTurn(agents, id => this.isReachable(host, id));
    this.services.get(host.options.id)?.onTurn(agents);
  }

  /** Whether registrations of the host `id` have had a way to `host` for a while. */
  private isReachable(host: SimHost, id: HostId): boolean {
    const { cluster } = this;
    const { nowMs } = cluster.world;
    if (cluster.isMurky) this.murkyMs = nowMs;
    const owner = cluster.hostOf(id);
    return (
      owner !== undefined &&
      this.seatOf(owner).part === this.seatOf(host).part &&
      nowMs - this.murkyMs >= MURKY_MS
    );
  }

  private trace({ node }: SimHost, output: AgentOutput): void {
    const { trace } = this.cluster.world;
    const about = (words: string) =>
      trace.note('event', node.label, `${output.agent}: ${output.kind}`, words);
    const nameOf = (id: HostId) => this.riders.get(id)?.label ?? String(id);
    switch (output.kind) {
      case 'host-joined':
      case 'host-left':
        return about(nameOf(output.host));
      case 'member-joined':
      case 'member-updated':
      case 'member-left':
        return about(`${output.member.name} of ${nameOf(output.member.host)}, ${output.member.hlc}`);
      case 'undelivered':
        return about(`${output.messages} to ${nameOf(output.host)}`);
    }
  }

  private seatOf(host: SimHost): Seat {
    return this.cluster.seats[host.node.index]!;
  }

  private plan(host: SimHost, rider: Rider): void {
    const { cluster } = this;
    const meanMs = PAUSE_MS * Math.max(1, cluster.hostCount / 10);
    cluster.world.after(this.random.between(0.1, 1.9) * meanMs, () => {
      const seat = this.seatOf(host);
      if (seat.host !== host || this.isCalm) return;
      if (!seat.node.isPaused && !seat.isOut) {
        rider.act();
        if (this.random.chance(0.1)) this.services.get(host.options.id)?.act(this.random);
        cluster.drive(seat);
      }
      this.plan(host, rider);
    });
  }

  leave(host: SimHost, name: AgentName): void {
    const rider = this.riders.get(host.options.id)!;
    rider.carried.delete(name);
    rider.overlay.unhost(name);
    this.cluster.drive(this.seatOf(host));
  }

  // -- What must hold ----------------------------------------------------------------------------------------

  /** Hosts that are expected to see each other, with the agent. */
  private groups(name?: AgentName): Rider[][] {
    const groups = new Map<string, Rider[]>();
    for (const seat of this.cluster.seats) {
      const rider = seat.host === undefined ? undefined : this.riders.get(seat.host.options.id);
      if (rider === undefined || !this.cluster.isExpected(seat)) continue;
      if (name !== undefined && !rider.carried.has(name)) continue;
      const group = `${seat.part} ${seat.environment}`;
      groups.set(group, [...(groups.get(group) ?? []), rider]);
    }
    return [...groups.values()];
  }

  /** Why not all of one group see the same; undefined when they do, and what is registered is seen. */
  disagreement(): string | undefined {
    for (const name of AGENTS) {
      for (const group of this.groups(name)) {
        const [first] = group;
        const picture = first!.picture(name);
        const hosts = group.map(({ id }) => id).sort((left, right) => left - right);
        if (!picture.startsWith(`hosts ${hosts.join(' ')}\n`))
          return `${first!.label} ${name}: it sees ${first!.overlay.host(name).hosts().length} hosts, ${hosts.length} carry it`;
        for (const rider of group) {
          const missing = rider.missing(name);
          if (missing !== undefined) return `${rider.label} ${name}: "${missing}" is not as registered`;
          if (rider.picture(name) !== picture) return `${name}: ${difference(first!, rider, name)}`;
        }
      }
    }
    return this.services.size === 0 ? undefined : this.disagreementOnServices();
  }

  private disagreementOnServices(): string | undefined {
    for (const group of this.groups()) {
      const [first, ...others] = group.map(({ id, label }) => ({ label, services: this.services.get(id)! }));
      const picture = first!.services.picture();
      for (const { label, services } of [first!, ...others]) {
        const fault = services.fault();
        if (fault !== undefined) return `${label}, services: ${fault}`;
        if (services.picture() !== picture)
          return `services: ${first!.label} knows\n${picture}\n${label}\n${services.picture()}`;
      }
    }
    return undefined;
  }

  mustAgree(withinMs: number, what: string): number {
    const tookMs = this.cluster.world.runUntil(() => this.disagreement() === undefined, withinMs, 500);
    if (tookMs === undefined)
      fail(`${what}: no agreement within ${withinMs / 1000} s: ${this.disagreement()}`);
    return tookMs;
  }

  /** What hosts have left behind that are not in the view any more is removed. */
  mustHaveForgotten(withinMs: number, what: string): void {
    const remembering = () =>
      this.cluster.seats.find(
        seat =>
          seat.host !== undefined &&
          this.cluster.isExpected(seat) &&
          seat.host.machine.entries().absentees !== 0,
      );
    if (this.cluster.world.runUntil(() => remembering() === undefined, withinMs, 1_000) !== undefined) return;
    fail(`${what}: ${remembering()!.node.label} has entries of hosts that are gone`);
  }

  /** Events and views are the same, nothing is left to be sent, all has arrived. */
  mustBeQuiet(what: string): void {
    for (const name of AGENTS) {
      for (const group of this.groups(name)) {
        for (const rider of group) {
          rider.compare(name);
          const { unacknowledged } = rider.overlay.entries();
          if (unacknowledged! > 0) fail(`${what}: ${rider.label} holds ${unacknowledged} messages`);
          for (const other of group)
            this.mail.mustBeThrough(name, rider.id, other.id, `${what}: ${rider.label} to ${other.label}`);
        }
      }
    }
  }
}

function difference(one: Rider, other: Rider, name: AgentName): string {
  const left = new Set(one.picture(name).split('\n'));
  const right = new Set(other.picture(name).split('\n'));
  const only = (lines: Set<string>, others: Set<string>) =>
    [...lines]
      .filter(line => !others.has(line))
      .slice(0, 5)
      .join(', ');
  return `only ${one.label} sees [${only(left, right)}], only ${other.label} [${only(right, left)}]`;
}
