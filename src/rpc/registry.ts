import { assert } from '../base/assert.js';
import type { ServedService } from './served.js';
import { type AnyMethod, methodPath } from './service.js';

/** One method, and the servers of this process that have it. */
export interface Route {
  readonly name: string;
  readonly method: AnyMethod;
  /** By id; shared by all methods of the service. */
  readonly servers: ReadonlyMap<string, ServedService>;
}

/** The servers of this process, found by path and id without making a string. */
export class Registry {
  private readonly services = new Map<string, Map<string, ServedService>>();
  private readonly routes = new Map<string, Route>();
  private count = 0;

  get size(): number {
    return this.count;
  }

  /** Throws AssertionError for an id that is there already. */
  add(served: ServedService): void {
    const { service, announcement } = served;
    const servers = this.services.get(service.name) ?? new Map<string, ServedService>();
    assert(!servers.has(announcement.id), `${service.name} ${announcement.id} is served already`);
    servers.set(announcement.id, served);
    this.count++;
    if (this.services.has(service.name)) return;
    this.services.set(service.name, servers);
    for (const [name, method] of Object.entries(service.methods))
      this.routes.set(methodPath(service.name, name), { name, method, servers });
  }

  delete({ service, announcement }: ServedService): void {
    const servers = this.services.get(service.name);
    if (servers?.delete(announcement.id) !== true) return;
    this.count--;
    if (servers.size > 0) return;
    this.services.delete(service.name);
    for (const name of Object.keys(service.methods)) this.routes.delete(methodPath(service.name, name));
  }

  route(path: string): Route | undefined {
    return this.routes.get(path);
  }

  has(service: string, id: string): boolean {
    return this.services.get(service)?.has(id) === true;
  }

  all(): ServedService[] {
    return [...this.services.values()].flatMap(servers => [...servers.values()]);
  }
}
