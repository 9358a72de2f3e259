import { Argument, type Command } from 'commander';
import { ShoalError } from '../base/errors.js';
import { type AdminPort, askAdmin } from './admin-client.js';
import { type AskingOptions, agrees, asking, type ConfigReader, portOf, print } from './asking.js';
import { clean } from './finding.js';
import { addMapCommands } from './kv-map-commands.js';
import type { BalancersReport, OrderReport, RulesReport } from './kv-routes.js';
import { balancersText, rangesText, rulesText, storesText } from './kv-table.js';
import type { RangesReport, StoresReport } from './kv-view.js';
import { addRule } from './kv-words.js';

/** The commands `shoalmq kv …`: what the replicated storage is like, and what an operator tells it to do. */

const KV_HELP = `
The storage of a cluster is divided into ranges of keys. Each has a replica on some stores (a thread of a node that keeps
data, such as apply-0@a), which elect a leader; what a majority of its voters has written to disk is kept. Balancers
make, move, divide and join ranges by themselves, as the rules say.

  $ shoalmq kv ranges --set node.dataDir=data/a          # what ranges there are, who leads them, how they are
  $ shoalmq kv stores --set node.dataDir=data/a
  $ shoalmq kv put greeting hello --set node.dataDir=data/a
  $ shoalmq kv get greeting --set node.dataDir=data/b    # the same value, from any node

Ranges and stores are named as the tables name them. Commands go to whoever can do them, whichever node you ask.
"shoalmq cluster doctor" explains what looks wrong.`;

const STEER_HELP = `
  $ shoalmq kv transfer 1x7q apply-0@b                   # b is to lead the range
  $ shoalmq kv move 1x7q apply-0@a apply-0@d             # d is to hold a replica instead of a
  $ shoalmq kv split 1x7q                                # where its service would divide it
  $ shoalmq kv split 1x7q orders/                        # the upper half begins at the key orders/
  $ shoalmq kv merge 1x7q                                # with the range that begins where it ends

A command waits some seconds until it is done, and says so if it is only begun. Balancers that even things out stand back
for a minute then; what they would do otherwise they do after it. "shoalmq kv balancers stop NAME" stops one for good.`;

const RECOVER_HELP = `
LOSES DATA. For a range of which a majority of voters is gone for good, so that it can never elect a leader again: the named
store goes on alone, with what it has. Whatever only the others had is lost, though it was acknowledged. If one of them
is still running somewhere, it must not come back with its old data: stop it, and remove its data directory first.

  $ shoalmq kv ranges                                    # the range has no quorum, and who of its stores lives
  $ shoalmq kv recover 1x7q apply-0@a

Start lost nodes again instead if they still have their disks: nothing is lost then, and nothing has to be done.`;

const FORGET_HELP = `
A store that is lost is kept in mind, since its data may come back. Once it is gone for good, this removes it; ranges
that still count it as a member replace it then without waiting, where another store can take its place. Should it come
back nevertheless, it tells of itself again.

  $ shoalmq kv forget apply-0@c`;

const RULES_HELP = `
  $ shoalmq kv rules
  $ shoalmq kv rules set voters=5 settleMs=300000        # in effect on all nodes within seconds
  $ shoalmq kv rules unset voters

A new value is for all nodes of the cluster, and stays until it is unset.`;

const BALANCERS_HELP = `
  $ shoalmq kv balancers
  $ shoalmq kv balancers stop merge                      # on all nodes, until it is started again
  $ shoalmq kv balancers start merge`;

type Options = AskingOptions & { json?: true; yes?: true; force?: true };

export function addKvCommands(program: Command, reader: ConfigReader): void {
  const kv = program
    .command('kv')
    .enablePositionalOptions()
    .description('show and steer the replicated storage, and keep small values in it')
    .addHelpText('after', KV_HELP);
  const ask = (command: Command, help = KV_HELP) => asking(command, reader).addHelpText('after', help);
  const show = <T extends object>(
    command: Command,
    path: string,
    text: (report: T) => string,
    help?: string,
  ) =>
    ask(command, help)
      .option('--json', 'as JSON')
      .action(async (options: Options) => {
        const found = await askAdmin<T>(portOf(options, reader), 'GET', path);
        print(options.json ? JSON.stringify(found) : text(found));
      });
  show<RangesReport>(
    kv.command('ranges').description('ranges, who leads and holds them, and how they are'),
    '/kv/ranges',
    rangesText,
  );
  show<StoresReport>(
    kv.command('stores').description('stores, lost ones included'),
    '/kv/stores',
    storesText,
  );
  addSteering(kv, reader);
  addDangerous(kv, reader);
  const balancers = kv
    .command('balancers')
    .enablePositionalOptions()
    .description('what keeps ranges where they should be');
  show<BalancersReport>(balancers, '/kv/balancers', balancersText, BALANCERS_HELP);
  for (const [word, running] of Object.entries({ stop: false, start: true }))
    ask(balancers.command(`${word} <name>`), BALANCERS_HELP)
      .description(`${word} one on all nodes`)
      .action(async (name: string, options: Options) => {
        await askAdmin(portOf(options, reader), 'POST', '/kv/balancers', { name, running });
        print(`${name} is ${running ? 'started' : 'stopped'} on all nodes`);
      });
  const rules = kv.command('rules').enablePositionalOptions().description('what the balancers go by');
  show<RulesReport>(rules, '/kv/rules', rulesText, RULES_HELP);
  addRules(ask(rules.command('set'), RULES_HELP), ask(rules.command('unset'), RULES_HELP), reader);
  addMapCommands(kv, reader);
}

function addRules(set: Command, unset: Command, reader: ConfigReader): void {
  const change = async (body: object, options: Options) => {
    const changed = await askAdmin<RulesReport>(portOf(options, reader), 'POST', '/kv/rules', body);
    print(rulesText(changed));
  };
  set
    .description('change some of them on all nodes')
    .addArgument(new Argument('<rule=number...>', 'as "kv rules" names them').argParser(addRule))
    .action((rules: Record<string, number>, options: Options) => change({ set: rules }, options));
  unset
    .description('give some of them their first value again')
    .argument('<rules...>')
    .action((rules: string[], options: Options) => change({ unset: rules }, options));
}

// -- Orders --------------------------------------------------------------------------------------------------

function addSteering(kv: Command, reader: ConfigReader): void {
  const steer = (usage: string, description: string) =>
    asking(kv.command(usage).description(description), reader).addHelpText('after', STEER_HELP);
  const give = async (path: string, body: object, options: Options, done: string) => {
    const { state } = await askAdmin<OrderReport>(portOf(options, reader), 'POST', path, body);
    print(state === 'done' ? done : `begun, and not seen done yet: "shoalmq kv ranges" shows how it goes on`);
  };
  steer('transfer <range> <store>', 'have another voter lead a range').action(
    (range: string, to: string, options: Options) =>
      give('/kv/transfer', { range, to }, options, `${to} leads range ${range}`),
  );
  steer('split <range> [key]', 'divide a range').action(
    (range: string, key: string | undefined, options: Options) =>
      give('/kv/split', key === undefined ? { range } : { range, key }, options, `range ${range} is divided`),
  );
  steer('merge <range>', 'join a range with its upper neighbour').action((range: string, options: Options) =>
    give('/kv/merge', { range }, options, `range ${range} has taken in its neighbour`),
  );
  steer('move <range> <from> <to>', 'have another store hold a replica of a range').action(
    (range: string, from: string, to: string, options: Options) =>
      give('/kv/move', { range, from, to }, options, `${to} holds range ${range} instead of ${from}`),
  );
}

function addDangerous(kv: Command, reader: ConfigReader): void {
  asking(kv.command('recover <range> <store>'), reader)
    .description('LOSES DATA: let one store go on with a range that has lost its majority for good')
    .addHelpText('after', RECOVER_HELP)
    .option('-y, --yes', 'do not ask whether that is meant')
    .option('--force', 'even if the range has a leader, or could elect one')
    .action((range: string, store: string, options: Options) =>
      recover(portOf(options, reader), range, store, options),
    );
  asking(kv.command('forget <store>'), reader)
    .description('keep a lost store in mind no longer')
    .addHelpText('after', FORGET_HELP)
    .option('-y, --yes', 'do not ask whether that is meant')
    .action((store: string, options: Options) =>
      forget(portOf(options, reader), store, options.yes === true),
    );
}

async function recover(port: AdminPort, range: string, store: string, options: Options): Promise<void> {
  const { ranges } = await askAdmin<RangesReport>(port, 'GET', '/kv/ranges');
  const found = ranges.find(({ id, sole }) => id === range && !sole);
  const others = (found?.members ?? []).filter(({ name, id }) => name !== store && id !== store);
  const names = clean(others.map(({ name }) => name).join(', ')) || 'all others';
  const question = [
    `THIS LOSES DATA. ${clean(store)} goes on alone with range ${clean(range)}, with what it has. What only ${names} had is lost,`,
    'though it was acknowledged. Do it only if they are gone for good.',
    `Let ${clean(store)} go on alone? [y/N] `,
  ].join('\n');
  if (!(await isMeant(options.yes === true, question))) return;
  const body = { range, store, forced: options.force === true };
  const { state } = await askAdmin<OrderReport>(port, 'POST', '/kv/recover', body);
  print(
    state === 'done'
      ? `${store} leads range ${range} alone; new replicas are made where the rules want them`
      : `begun, and not seen done yet: "shoalmq kv ranges" shows how it goes on`,
  );
}

async function forget(port: AdminPort, store: string, isSure: boolean): Promise<void> {
  const { ranges } = await askAdmin<RangesReport>(port, 'GET', '/kv/ranges');
  const held = ranges.filter(
    ({ sole, members }) => !sole && members.some(({ name, id }) => name === store || id === store),
  ).length;
  const replaced =
    held === 0 ? '' : ` It is still a member of ${held} ranges, which replace it where they can.`;
  const question = `Forget ${clean(store)}? Its data is counted on no more.${replaced} [y/N] `;
  if (!(await isMeant(isSure, question))) return;
  await askAdmin(port, 'POST', '/kv/forget', { store });
  print(`${store} is forgotten`);
}

/** Whoever cannot be asked has to say it with the command. */
async function isMeant(isSure: boolean, question: string): Promise<boolean> {
  if (isSure) return true;
  if (!process.stdin.isTTY)
    throw new ShoalError(
      'SHOAL_ADMIN_REFUSED',
      'nobody is there to be asked whether that is meant; say --yes',
    );
  if (await agrees(question)) return true;
  process.stderr.write('nothing was done\n');
  process.exitCode = 1;
  return false;
}
