import type { Session } from './session.js';

/** Sessions in memory, by client id and by instance. What is not here is read from the range again. */
export class SessionCache {
  private readonly byName = new Map<string, Session>();
  private readonly byInstance = new Map<number, Session>();
  /** Sessions whose records are to be written. */
  readonly dirty: Session[] = [];

  /** U+0000 is in no tenant and no client id. */
  find(tenant: string, clientId: string): Session | undefined {
    return this.byName.get(`${tenant}\0${clientId}`);
  }

  findInstance(instance: number): Session | undefined {
    return this.byInstance.get(instance);
  }

  add(session: Session): void {
    this.byName.set(`${session.tenant}\0${session.clientId}`, session);
    this.byInstance.set(session.instance, session);
  }

  /** Forgets a session that has ended. */
  drop(session: Session): void {
    const name = `${session.tenant}\0${session.clientId}`;
    if (this.byName.get(name) === session) this.byName.delete(name);
    this.byInstance.delete(session.instance);
  }

  isDropped(session: Session): boolean {
    return this.byInstance.get(session.instance) !== session;
  }

  /** Keeps memory bounded: forgets detached sessions when there are too many. None may be dirty. */
  trim(): void {
    if (this.byName.size <= this.limit) return;
    for (const session of this.byName.values()) if (!session.attached) this.drop(session);
    // What is left is attached and stays; wait until as many again have come.
    this.limit = Math.max(DETACHED_MAX, this.byName.size + DETACHED_MAX);
  }

  private limit = DETACHED_MAX;

  clear(): void {
    this.byName.clear();
    this.byInstance.clear();
    this.dirty.length = 0;
    this.limit = DETACHED_MAX;
  }
}

const DETACHED_MAX = 50_000;
