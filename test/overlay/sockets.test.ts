import { randomBytes, randomInt } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { HybridClock } from '../../src/base/hlc.js';
import type { Agent, AgentOutput } from '../../src/overlay/agent.js';
import { MESSAGE_BYTES_MAX } from '../../src/overlay/limits.js';
import { Overlay } from '../../src/overlay/overlay.js';
import { UnderlayDriver } from '../../src/underlay/io/driver.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { Underlay } from '../../src/underlay/underlay.js';
import { realEnv } from '../underlay/io/hosts.js';
import { freePort, until } from '../underlay/io/socket-world.js';
import { text } from './cluster.js';

const KEY = randomBytes(32).toString('base64');

/** Longest payload channel and agent, so that the largest message is the largest there can be. */
const AGENT = 'a'.repeat(64);
const MEMBER = '\uffff'.repeat(128);

class SocketHost {
  readonly driver: UnderlayDriver;
  readonly overlay: Overlay;
  readonly agent: Agent;
  readonly outputs: AgentOutput[] = [];

  constructor(port: number, seeds: readonly string[]) {
    const clock = new HybridClock();
    const address = `127.0.0.1:${port}`;
    const identity = { id: randomInt(1, 2 ** 47), name: `h${port}`, address, version: '1' };
    const underlay = new Underlay({ ...identity, environment: 'test', timing: DEFAULT_TIMING }, realEnv);
    this.overlay = new Overlay({
      underlay,
      env: realEnv,
      clock,
      listener: output => {
        this.outputs.push(output);
        if (output.kind !== 'message' || Buffer.from(output.bytes).toString() !== 'ping') return;
        this.agent.unicast(MEMBER, output.from.host, output.from.member, text('pong'), 'reliable');
      },
    });
    this.agent = this.overlay.host(AGENT);
    const sockets = { host: '127.0.0.1', port };
    const settings = { env: realEnv, environment: 'test', sockets, keys: [KEY], seeds, clock };
    this.driver = new UnderlayDriver(
      { machine: this.overlay, ...settings },
      { event: () => {}, payload: () => {}, crdt: () => {} },
    );
  }

  texts(): string[] {
    return this.outputs.flatMap(output =>
      output.kind === 'message' ? [Buffer.from(output.bytes).toString('latin1')] : [],
    );
  }
}

let hosts: SocketHost[] = [];

afterEach(async () => {
  await Promise.all(hosts.map(({ driver }) => driver.close()));
  hosts = [];
});

describe('the overlay on real sockets', () => {
  it('is driven by the driver of the underlay', async () => {
    const ports = await Promise.all([0, 1, 2].map(() => freePort('127.0.0.1')));
    hosts = ports.map((port, at) => new SocketHost(port, at === 0 ? [] : [`127.0.0.1:${ports[0]}`]));
    for (const { driver } of hosts) await driver.start();
    for (const { agent, driver } of hosts) driver.act(() => agent.register(MEMBER, text('here')));
    await until(() => hosts.every(({ agent }) => agent.members().length === 3));
    const [one, other, third] = hosts as [SocketHost, SocketHost, SocketHost];
    const send = (bytes: Uint8Array) =>
      one.driver.act(() => one.agent.unicast(MEMBER, other.overlay.self.id, MEMBER, bytes, 'reliable'));

    expect(send(text('ping'))).toBe('sent');
    await until(() => one.texts().length === 1);
    expect(one.texts()).toEqual(['pong']);

    const large = randomBytes(MESSAGE_BYTES_MAX);
    expect([send(text('before')), send(large), send(text('after'))]).toEqual(['sent', 'sent', 'sent']);
    await until(() => other.texts().length === 4);
    expect(other.texts()).toEqual(['ping', 'before', large.toString('latin1'), 'after']);
    expect(one.driver.counters.tooLarge).toBe(0);
    await until(() => one.overlay.entries().unacknowledged === 0);

    await third.driver.leave();
    await until(() => hosts.slice(0, 2).every(({ agent }) => agent.members().length === 2));
    expect(one.outputs.filter(({ kind }) => kind === 'member-left')).toHaveLength(1);
    expect(one.overlay.malformed + other.overlay.malformed).toBe(0);
  });
});
