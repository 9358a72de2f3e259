import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { ShoalError } from '../base/errors.js';
import { type AdminPort, askAdmin } from './admin-client.js';
import { type AskingOptions, agrees, asking, type ConfigReader, portOf, print } from './asking.js';
import { findingsText, membersText } from './cluster-table.js';
import type { MemberRow, MembersReport } from './cluster-view.js';
import type { Finding } from './finding.js';
import { report } from './report.js';

/** The commands `shoalmq cluster …`. They ask a running node through its administration port. */

const CLUSTER_HELP = `
The commands ask a running node of this machine. Name it as you started it, or by its data directory:

  $ shoalmq cluster members --config shoalmq.yaml
  $ shoalmq cluster members --set node.dataDir=/var/lib/shoalmq
  $ shoalmq cluster members --url http://127.0.0.1:9465 --token-file /var/lib/shoalmq/admin.token

Three nodes on one machine, and what they know of each other:

  $ shoalmq cluster doctor --set node.dataDir=data/a      # what looks wrong, and what to do about it
  $ shoalmq cluster members --watch --set node.dataDir=data/a
  $ shoalmq cluster evict c --set node.dataDir=data/a     # out until its process starts again
  $ shoalmq cluster leave --set node.dataDir=data/b       # b goes on alone`;

const WATCH_MS = 1_000;
const CLEAR_SCREEN = '\u001b[H\u001b[2J\u001b[3J';

export function addClusterCommands(program: Command, reader: ConfigReader): void {
  const cluster = program
    .command('cluster')
    .description('show and change the cluster that a running node is in')
    .addHelpText('after', CLUSTER_HELP);
  const ask = (command: Command) => asking(command, reader).addHelpText('after', CLUSTER_HELP);
  ask(cluster.command('members').description('the hosts that the asked node sees, lost ones included'))
    .option('-w, --watch', 'again each second, until Ctrl-C')
    .option('--json', 'as JSON, one line for each look')
    .action((options: MembersOptions) => members(portOf(options, reader), options));
  ask(cluster.command('doctor').description('explain what looks wrong; exits with 1 when something does'))
    .option('--json', 'as JSON')
    .action((options: AskingOptions & { json?: true }) =>
      doctor(portOf(options, reader), options.json === true),
    );
  ask(
    cluster
      .command('evict <host>')
      .description('put a host out of the cluster, by name or id, until its process starts again'),
  )
    .option('-y, --yes', 'do not ask whether that is meant')
    .action((host: string, options: AskingOptions & { yes?: true }) => {
      return evict(portOf(options, reader), host, options.yes === true);
    });
  ask(
    cluster.command('leave').description('let the asked node leave; it goes on serving its clients alone'),
  ).action((options: AskingOptions) => leave(portOf(options, reader)));
}

// -- members -----------------------------------------------------------------------------------------------

type MembersOptions = AskingOptions & { watch?: true; json?: true };

async function members(port: AdminPort, { watch, json }: MembersOptions): Promise<void> {
  const look = async () => {
    const found = await askMembers(port);
    return json ? JSON.stringify(found) : membersText(found);
  };
  if (!watch) return print(await look());
  for (;;) {
    try {
      const text = await look();
      print(process.stdout.isTTY && !json ? CLEAR_SCREEN + text : text);
    } catch (error) {
      // The node may be restarting.
      report(error);
    }
    await sleep(WATCH_MS);
  }
}

function askMembers(port: AdminPort): Promise<MembersReport> {
  return askAdmin<MembersReport>(port, 'GET', '/cluster/members');
}

// -- doctor ------------------------------------------------------------------------------------------------

async function doctor(port: AdminPort, isJson: boolean): Promise<void> {
  const answer = await askAdmin<{ self: { name: string }; findings: Finding[] }>(
    port,
    'GET',
    '/cluster/doctor',
  );
  const { self, findings } = answer;
  print(isJson ? JSON.stringify(answer) : findingsText(self.name, findings));
  if (findings.some(({ severity }) => severity === 'wrong')) process.exitCode = 1;
}

// -- evict, leave ------------------------------------------------------------------------------------------

async function evict(port: AdminPort, wanted: string, isSure: boolean): Promise<void> {
  const { members: all, self } = await askMembers(port);
  const host = theHost(all, wanted);
  const words = `${host.name} (${host.address}, id ${host.id})`;
  if (!isSure && process.stdin.isTTY) {
    const own = host.id === self.id ? ' It is the asked node itself.' : '';
    const question = `Evict ${words}?${own} It stays out until its process starts again. [y/N] `;
    if (!(await agrees(question))) {
      process.stderr.write('nothing was done\n');
      process.exitCode = 1;
      return;
    }
  }
  await askAdmin(port, 'POST', '/cluster/evict', { id: host.id });
  print(`evicted ${words}`);
}

function theHost(all: readonly MemberRow[], wanted: string): MemberRow {
  const named = all.filter(({ name }) => name === wanted);
  const [host, ...others] = named.length > 0 ? named : all.filter(({ id }) => String(id) === wanted);
  if (host === undefined) {
    const names = all.map(({ name }) => name).join(', ');
    const message = `no host of the cluster is called ${JSON.stringify(wanted)}; there are ${names}`;
    throw new ShoalError('SHOAL_ADMIN_REFUSED', message);
  }
  if (others.length > 0) {
    const list = named.map(({ id, address }) => `${id} (${address})`).join(', ');
    const message = `${named.length} hosts are called ${wanted}, name one by its id: ${list}`;
    throw new ShoalError('SHOAL_ADMIN_REFUSED', message);
  }
  return host;
}

async function leave(port: AdminPort): Promise<void> {
  const { left } = await askAdmin<{ left: { name: string } }>(port, 'POST', '/cluster/leave');
  print(`${left.name} has left the cluster and goes on alone; restart it to let it join again`);
}
