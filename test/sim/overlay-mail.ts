import type { HostId } from '../../src/underlay/message.js';
import { fail } from './underlay-checkers.js';

/** What one host has sent reliably to one other under one agent, by number, and how much of it has arrived. */
interface Route {
  /** Numbers in the order of sending, from the last one that arrived on. */
  open: number[];
  /** How many of the first of `open` were told as undelivered: each may arrive or not. */
  doubtful: number;
  last: number;
}

/** Every reliable message of a world: once, in order, and none missing but what was told. */
export class Mail {
  sent = 0;
  arrived = 0;
  /** Told as undelivered. */
  lost = 0;
  private readonly routes = new Map<string, Route>();

  onSent(agent: string, from: HostId, to: HostId, number: number): void {
    const route = this.route(agent, from, to);
    route.open.push(number);
    this.sent += 1;
  }

  onArrived(agent: string, from: HostId, to: HostId, number: number, words: string): void {
    const route = this.route(agent, from, to);
    if (number <= route.last)
      fail(`${words}: message ${number} after ${route.last}: doubled or out of order`);
    const at = route.open.indexOf(number);
    if (at < 0) fail(`${words}: message ${number} was never sent so`);
    if (at > route.doubtful)
      fail(
        `${words}: message ${number} came before ${route.open[route.doubtful]}, of which nothing was told`,
      );
    route.open.splice(0, at + 1);
    route.doubtful = Math.max(0, route.doubtful - at - 1);
    route.last = number;
    this.arrived += 1;
  }

  /** The last `messages` that were sent may not have arrived. Those before them have. */
  onUndelivered(agent: string, from: HostId, to: HostId, messages: number, words: string): void {
    const route = this.route(agent, from, to);
    this.lost += messages;
    // What arrived and was not acknowledged is among the messages, but not open any more.
    const acknowledged = route.open.length - route.doubtful - messages;
    if (acknowledged > 0)
      fail(`${words}: ${acknowledged} messages count as acknowledged and never arrived at ${to}`);
    route.doubtful = route.open.length;
  }

  /** Both live, can talk, and have had time: nothing is open but what was told. */
  mustBeThrough(agent: string, from: HostId, to: HostId, words: string): void {
    const route = this.routes.get(`${agent} ${from} ${to}`);
    if (route !== undefined && route.open.length > route.doubtful)
      fail(`${words}: ${route.open.length - route.doubtful} reliable messages have not arrived`);
  }

  private route(agent: string, from: HostId, to: HostId): Route {
    const key = `${agent} ${from} ${to}`;
    let route = this.routes.get(key);
    if (route === undefined) this.routes.set(key, (route = { open: [], doubtful: 0, last: 0 }));
    return route;
  }
}
