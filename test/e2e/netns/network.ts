/**
 * A network of its own for a suite: a namespace for each host, and one more with the bridge that joins them, so that
 * nothing of it touches the machine's own network. Cuts and loss are iptables rules inside the hosts' namespaces.
 * Names carry the process that made them: what a killed run left behind is removed by the next one.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

const MARK = 'shoalmq-netns';
const SUBNET_BITS = 24;
/** The hosts are in this part of the subnet, the bridge is outside: no rule ever hits those who only ask. */
const HOSTS = '10.83.0.0/25';
const BRIDGE_IP = '10.83.0.254';
const COMMAND_TIMEOUT_MS = 20_000;
/** Where another process holds the lock of iptables. */
const LOCK_SECONDS = '10';

export const ipOf = (host: number) => `10.83.0.${host}`;

async function run(file: string, ...args: string[]): Promise<string> {
  return (await execute(file, args, { timeout: COMMAND_TIMEOUT_MS })).stdout;
}

const iptablesIn = (namespace: string, ...rule: string[]) =>
  run('ip', 'netns', 'exec', namespace, 'iptables', '-w', LOCK_SECONDS, ...rule);

/** One host's place in the network. */
export interface Place {
  readonly namespace: string;
  readonly ip: string;
  /** The bridge's end of its cable. */
  readonly plug: string;
}

export class Network {
  /** A directory for what the suite writes, removed with the network. */
  readonly files: string;
  readonly bridge: string;
  private readonly id: string;
  private readonly places: Place[] = [];

  private constructor(id: string) {
    this.id = id;
    this.files = join(tmpdir(), id);
    this.bridge = `${id}-bridge`;
  }

  /** An empty one. Removes first what runs that were killed have left. */
  static async make(): Promise<Network> {
    await sweep();
    const network = new Network(`${MARK}-${process.pid}-${startOf(process.pid)}`);
    try {
      await network.build();
    } catch (error) {
      await network.close();
      throw error;
    }
    return network;
  }

  private async build(): Promise<void> {
    mkdirSync(this.files, { recursive: true });
    const { bridge } = this;
    await run('ip', 'netns', 'add', bridge);
    await run('ip', '-n', bridge, 'link', 'set', 'lo', 'up');
    await run('ip', '-n', bridge, 'link', 'add', 'br0', 'type', 'bridge');
    await run('ip', '-n', bridge, 'addr', 'add', `${BRIDGE_IP}/${SUBNET_BITS}`, 'dev', 'br0');
    await run('ip', '-n', bridge, 'link', 'set', 'br0', 'up');
  }

  /** Its cable is not plugged in yet. Two places may have one address, then only one may be plugged in at a time. */
  async add(name: string, host: number): Promise<Place> {
    const { bridge } = this;
    const place = { namespace: `${this.id}-${name}`, ip: ipOf(host), plug: name };
    const { namespace, ip, plug } = place;
    const hardware = `02:00:0a:53:00:${host.toString(16).padStart(2, '0')}`;
    await run('ip', 'netns', 'add', namespace);
    this.places.push(place);
    const cable = ['name', plug, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace];
    await run('ip', '-n', bridge, 'link', 'add', ...cable);
    await run('ip', '-n', bridge, 'link', 'set', plug, 'master', 'br0');
    await run('ip', '-n', namespace, 'link', 'set', 'lo', 'up');
    await run('ip', '-n', namespace, 'link', 'set', 'eth0', 'address', hardware);
    await run('ip', '-n', namespace, 'addr', 'add', `${ip}/${SUBNET_BITS}`, 'dev', 'eth0');
    await run('ip', '-n', namespace, 'link', 'set', 'eth0', 'up');
    return place;
  }

  async plugIn({ plug }: Place): Promise<void> {
    await run('ip', '-n', this.bridge, 'link', 'set', plug, 'up');
  }

  async unplug({ plug }: Place): Promise<void> {
    await run('ip', '-n', this.bridge, 'link', 'set', plug, 'down');
  }

  /** Nothing from `sources` arrives at `place` any more; the way back is open. */
  async deafen({ namespace }: Place, sources: readonly Place[]): Promise<void> {
    for (const { ip } of sources) await iptablesIn(namespace, '-A', 'INPUT', '-s', ip, '-j', 'DROP');
  }

  /** Nothing of that protocol passes between `place` and the others, in either direction. */
  async block(protocol: 'udp' | 'tcp', place: Place, others: readonly Place[]): Promise<void> {
    const drop = (at: Place, from: Place) =>
      iptablesIn(at.namespace, '-A', 'INPUT', '-s', from.ip, '-p', protocol, '-j', 'DROP');
    for (const other of others) await Promise.all([drop(place, other), drop(other, place)]);
  }

  /** Cuts both directions between the two groups. */
  async cut(left: readonly Place[], right: readonly Place[]): Promise<void> {
    await Promise.all([
      ...left.map(place => this.deafen(place, right)),
      ...right.map(place => this.deafen(place, left)),
    ]);
  }

  /** Of all that arrives from other hosts, this share is lost. */
  async lose({ namespace }: Place, share: number): Promise<void> {
    await iptablesIn(namespace, '-A', 'INPUT', '-i', 'eth0', '-s', HOSTS, ...randomly(share), '-j', 'DROP');
  }

  /** Packets that did not get in at `place` since the last `heal`. */
  async dropped({ namespace }: Place): Promise<number> {
    const rules = await iptablesIn(namespace, '-L', 'INPUT', '-v', '-n', '-x');
    return [...rules.matchAll(/^ *(\d+) +\d+ +DROP /gm)].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  /** No cut and no loss any more. */
  async heal(): Promise<void> {
    await Promise.all(this.places.map(({ namespace }) => iptablesIn(namespace, '-F', 'INPUT')));
  }

  /** Ends what still runs in it. */
  async close(): Promise<void> {
    await remove(name => name.startsWith(`${this.id}-`));
    if (process.env.E2E_KEEP === undefined) rmSync(this.files, { recursive: true, force: true });
  }
}

function randomly(share: number): string[] {
  return ['-m', 'statistic', '--mode', 'random', '--probability', String(share)];
}

// -- What the machine allows -------------------------------------------------------------------------------

/** Why the machine has no such network, in words; undefined when it has. */
export async function whatForbids(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'there are network namespaces on Linux only';
  if (process.getuid?.() !== 0) return 'only root may make network namespaces';
  for (const [file, packet] of [
    ['ip', 'iproute2'],
    ['iptables', 'iptables'],
  ] as const) {
    const found = await run(file, '-V').then(
      () => true,
      () => false,
    );
    if (!found) return `there is no ${file} (Debian: ${packet})`;
  }
  return tryIt();
}

/** Everything once that the suite does: a container may allow namespaces, and no bridge or no rules in them. */
async function tryIt(): Promise<string | undefined> {
  let network: Network | undefined;
  try {
    network = await Network.make();
    const place = await network.add('try', 1);
    await network.plugIn(place);
    await network.deafen(place, [place]);
    await network.lose(place, 0.5);
    await network.heal();
    return undefined;
  } catch (error) {
    const { cmd, stderr, message } = error as Error & { cmd?: string; stderr?: string };
    return `this failed: ${cmd ?? ''}: ${(stderr ?? message).trim().split('\n', 1)[0]}`;
  } finally {
    await network?.close();
  }
}

// -- What killed runs leave --------------------------------------------------------------------------------

/** Clock ticks since boot at which the process began; it tells apart two that have one id. Empty when there is none. */
function startOf(pid: number | string): string {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[19] ?? '';
  } catch {
    return '';
  }
}

/** True for names made by a process that has ended. */
function isOrphan(name: string): boolean {
  const [, pid, start] = new RegExp(`^${MARK}-(\\d+)-(\\d+)(?:-|$)`).exec(name) ?? [];
  return pid !== undefined && startOf(pid) !== start;
}

async function sweep(): Promise<void> {
  await remove(isOrphan);
  for (const name of readdirSync(tmpdir()))
    if (isOrphan(name)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
}

async function list(): Promise<string[]> {
  return (await run('ip', 'netns', 'list')).split('\n').map(line => line.split(' ', 1)[0]!);
}

async function remove(isMeant: (namespace: string) => boolean): Promise<void> {
  for (const name of (await list()).filter(isMeant)) {
    try {
      for (const pid of (await run('ip', 'netns', 'pids', name)).split('\n').filter(Boolean))
        end(Number(pid));
      await run('ip', 'netns', 'del', name);
    } catch (error) {
      // Another run may sweep at the same time.
      if ((await list()).includes(name)) throw error;
    }
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has ended by itself
  }
}
