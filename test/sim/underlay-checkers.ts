import type { HostId, HostRecord } from '../../src/underlay/message.js';
import type { HostEvent, HostView } from '../../src/underlay/underlay.js';

/** What must hold does not. The message names the host and the moment; the runner adds seed and trace. */
export class CheckFailure extends Error {
  override readonly name = 'CheckFailure';
}

export function fail(words: string): never {
  throw new CheckFailure(words);
}

interface Replayed {
  record: HostRecord;
  isSuspect: boolean;
}

/**
 * The view as the event stream alone tells it. Each event must be possible where it stands: exactly one for a change,
 * none without one.
 */
export class ViewReplay {
  readonly #who: string;
  readonly #self: HostId;
  readonly #hosts = new Map<HostId, Replayed>();
  /** Changes with every id that comes or goes: two views of equal digest and size are the same view. */
  digest: number;
  suspects = 0;
  isSelfEvicted = false;

  constructor(who: string, self: HostId) {
    this.#who = who;
    this.#self = self;
    this.digest = idHash(self);
  }

  /** The host itself included. */
  get size(): number {
    return this.#hosts.size + 1;
  }

  has(id: HostId): boolean {
    return id === this.#self || this.#hosts.has(id);
  }

  apply(event: HostEvent): void {
    if (event.kind === 'self-evicted') {
      this.#insist(!this.isSelfEvicted, 'self-evicted twice');
      this.isSelfEvicted = true;
      return;
    }
    const { host } = event;
    const words = `${event.kind} for ${host.name} (${host.id})`;
    this.#insist(host.id !== this.#self, `${words}: an event about the host itself`);
    const known = this.#hosts.get(host.id);
    if (event.kind === 'joined') {
      this.#insist(known === undefined, `${words}: it was in the view already`);
      this.#hosts.set(host.id, { record: host, isSuspect: false });
      this.digest ^= idHash(host.id);
      return;
    }
    if (known === undefined) fail(`${this.#who}: ${words}: it was not in the view`);
    const isOlder = host.incarnation < known.record.incarnation;
    this.#insist(!isOlder, `${words}: incarnation went back from ${known.record.incarnation}`);
    switch (event.kind) {
      case 'updated':
        this.#insist(!isSameRecord(known.record, host), `${words}: nothing has changed`);
        break;
      case 'suspected':
        this.#insist(!known.isSuspect, `${words}: it was suspected already`);
        known.isSuspect = true;
        this.suspects += 1;
        break;
      case 'trusted':
        this.#insist(known.isSuspect, `${words}: it was not suspected`);
        known.isSuspect = false;
        this.suspects -= 1;
        break;
      case 'gone':
        if (known.isSuspect) this.suspects -= 1;
        this.#hosts.delete(host.id);
        this.digest ^= idHash(host.id);
        break;
    }
    known.record = host;
  }

  /** The machine's own list says the same. */
  compare(views: readonly HostView[]): void {
    const seen = new Set<HostId>();
    for (const { record, state } of views) {
      this.#insist(!seen.has(record.id), `${record.name} is in the view twice`);
      seen.add(record.id);
      if (record.id === this.#self) continue;
      const known = this.#hosts.get(record.id);
      if (known === undefined) fail(`${this.#who}: ${record.name} is in the view, but no event has said so`);
      this.#insist(
        known.isSuspect === (state === 'suspect'),
        `${record.name} is ${state} in the view, but not by the events`,
      );
      this.#insist(
        isSameRecord(known.record, record),
        `the record of ${record.name} in the view is not that of its last event`,
      );
    }
    this.#insist(seen.has(this.#self), 'the host is missing in its own view');
    for (const { record } of this.#hosts.values()) {
      this.#insist(seen.has(record.id), `${record.name} has left the view without an event`);
    }
  }

  #insist(holds: boolean, words: string): void {
    if (!holds) fail(`${this.#who}: ${words}`);
  }
}

function isSameRecord(left: HostRecord, right: HostRecord): boolean {
  return (
    left.id === right.id &&
    left.incarnation === right.incarnation &&
    left.name === right.name &&
    left.address === right.address &&
    left.version === right.version &&
    left.startedMs === right.startedMs &&
    left.agents.length === right.agents.length &&
    left.agents.every((agent, at) => agent === right.agents[at])
  );
}

/** 32 bits out of 53, well mixed: digests are sums without carry of them. */
export function idHash(id: HostId): number {
  let mixed = Math.imul((id % 2 ** 32) ^ Math.imul(Math.floor(id / 2 ** 32), 0x85ebca6b), 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35);
  return mixed ^ (mixed >>> 13);
}

/** The value below which this share of the values lies; NaN when there are none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}
