/** A node of a cluster as a process of its own on the loopback, asked through its administration port. */
import { expect } from 'vitest';
import { type AdminPort, askAdmin, findAdmin } from '../../src/node/admin-client.js';
import type { MembersReport } from '../../src/node/cluster-view.js';
import { loadConfig } from '../../src/node/config.js';
import type { Finding } from '../../src/node/finding.js';
import { COMMAND, RunningCommand } from '../cli/command.js';
import { Broker, freePort, runCli, type Settings } from './broker.js';
import { sleep } from './client/client.js';

const LOOK_MS = 50;

type Environment = Readonly<Record<string, string>>;

export class ClusterHost {
  readonly name: string;
  readonly address: string;
  readonly clusterPort: number;
  readonly broker: Broker;

  private constructor(name: string, port: number, seeds: string, set: Settings, env: Environment) {
    this.name = name;
    this.clusterPort = port;
    this.address = `127.0.0.1:${port}`;
    this.broker = new Broker({
      set: {
        'node.name': name,
        'cluster.port': port,
        'cluster.seeds': seeds,
        'admin.port': 0,
        'rpc.port': 0,
        'threads.mqtt': 1,
        ...set,
      },
      env,
    });
  }

  /** Not started. The first one is its own seed; all name it by its name, not its address. */
  static async make(
    name: string,
    seed: ClusterHost | undefined,
    set: Settings,
    env: Environment = {},
  ): Promise<ClusterHost> {
    const port = await freePort();
    const seedPort = seed === undefined ? port : seed.clusterPort;
    return new ClusterHost(name, port, `localhost:${seedPort}`, set, env);
  }

  private get dataDir(): string {
    return String(this.broker.settings()['node.dataDir']);
  }

  get port(): AdminPort {
    return findAdmin(loadConfig({ set: [`node.dataDir=${this.dataDir}`], env: {} }), {});
  }

  members(): Promise<MembersReport> {
    return askAdmin(this.port, 'GET', '/cluster/members');
  }

  async findings(): Promise<Finding[]> {
    return (await askAdmin<{ findings: Finding[] }>(this.port, 'GET', '/cluster/doctor')).findings;
  }

  /** `shoalmq cluster …` as an operator types it. */
  command(...args: string[]) {
    return this.run('cluster', ...args);
  }

  kv(...args: string[]) {
    return this.run('kv', ...args);
  }

  services(...args: string[]) {
    return this.run('services', ...args);
  }

  traffic(...args: string[]) {
    return this.run('traffic', ...args);
  }

  /** `shoalmq cluster members --watch`, to be ended by `stop`. */
  watch(): RunningCommand {
    const set = `node.dataDir=${this.dataDir}`;
    return new RunningCommand(
      process.execPath,
      [COMMAND, 'cluster', 'members', '--watch', '--set', set],
      '.',
    );
  }

  private run(...args: string[]) {
    return runCli([...args, '--set', `node.dataDir=${this.dataDir}`]);
  }
}

/** Looks until it holds; the last failure counts when it does not within `withinMs`. */
export async function eventually(withinMs: number, look: () => Promise<void>): Promise<void> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await sleep(LOOK_MS);
    }
  }
}

/** Each of `hosts` sees all of them alive, nobody else, and is sure that they see the same. */
export async function expectWhole(hosts: readonly ClusterHost[], withinMs: number): Promise<void> {
  const names = hosts.map(({ name }) => name).sort();
  await eventually(withinMs, async () => {
    const reports = await Promise.all(hosts.map(host => host.members()));
    for (const { members, self, lost } of reports) {
      expect(
        members.map(({ name }) => name),
        `the view of ${self.name}`,
      ).toEqual(names);
      expect(members.map(({ state }) => state)).toEqual(names.map(() => 'alive'));
      expect(lost).toEqual([]);
    }
    expect(new Set(reports.map(({ fingerprint }) => fingerprint)).size).toBe(1);
  });
}

/** Its process is killed: each of `hosts` names just `names` by `look`, before `withinMs` have passed. */
export async function expectKilled(
  victim: ClusterHost,
  withinMs: number,
  hosts: readonly ClusterHost[],
  look: (host: ClusterHost) => Promise<readonly string[]>,
  names: readonly string[],
): Promise<void> {
  await victim.broker.kill9();
  const diedMs = performance.now();
  await eventually(2 * withinMs, async () => {
    for (const host of hosts) expect(await look(host), `seen by ${host.name}`).toEqual(names);
  });
  expect(performance.now() - diedMs).toBeLessThan(withinMs);
}
