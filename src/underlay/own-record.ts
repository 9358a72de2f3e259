import { STARTED_MS_MAX } from './host-record.js';
import type { HostId, HostRecord } from './message.js';

type Identity = Pick<HostRecord, 'id' | 'name' | 'address' | 'version'>;

/** What this host says of itself. Nobody else writes it. */
export class OwnRecord {
  private current: HostRecord;

  constructor({ id, name, address, version }: Identity, startedMs: number) {
    this.current = { id, incarnation: 0, name, address, version, startedMs, agents: [] };
  }

  get record(): HostRecord {
    return this.current;
  }

  get id(): HostId {
    return this.current.id;
  }

  get incarnation(): number {
    return this.current.incarnation;
  }

  /** One incarnation more than the own one and than `claimed`: this is how a host contradicts what is said of it. */
  renew(claimed: number): HostRecord {
    const incarnation = Math.max(this.current.incarnation, claimed) + 1;
    this.current = { ...this.current, incarnation };
    return this.current;
  }

  setAgents(agents: readonly string[]): HostRecord {
    this.current = { ...this.current, agents: [...agents].sort() };
    return this.renew(0);
  }

  /** Another identity at this very address claims to be later, which only a clock that was set back can bring about. */
  outlive(startedMs: number): void {
    this.current = { ...this.current, startedMs: Math.min(STARTED_MS_MAX, startedMs + 1) };
  }
}
