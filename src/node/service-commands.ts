import { Argument, type Command } from 'commander';
import type { Directive } from '../rpc/traffic.js';
import { askAdmin } from './admin-client.js';
import { type AskingOptions, asking, type ConfigReader, portOf, print } from './asking.js';
import { clean } from './finding.js';
import { addWeight, servicesText, trafficText } from './services-table.js';
import type { ServicesReport } from './services-view.js';
import type { TrafficReport } from './traffic.js';

/** The commands `shoalmq services` and `shoalmq traffic …`. */

const SERVICES_HELP = `
  $ shoalmq services --set node.dataDir=data/a
  $ shoalmq services --json --config shoalmq.yaml`;

const TRAFFIC_HELP = `
A directive says which servers get the calls for tenants whose ids begin with a prefix: a weight from 0 to 10 for each
group (rpc.groups of a node), =WEIGHT for servers of no group. The longest prefix counts. Without a directive, calls go
to servers of no group. A change is in effect on all nodes within two seconds.

  $ shoalmq traffic set acme canary=1 =9     # a tenth of what tenants acme... ask goes to canary
  $ shoalmq traffic set '' eu=10             # for all that have no other directive
  $ shoalmq traffic get
  $ shoalmq traffic unset acme`;

type Options = AskingOptions & { json?: true; service?: string };

export function addServiceCommands(program: Command, reader: ConfigReader): void {
  const ask = (command: Command, help: string) => asking(command, reader).addHelpText('after', help);
  ask(program.command('services'), SERVICES_HELP)
    .description('the services that the nodes of a cluster offer each other, and how their servers are')
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      const found = await askAdmin<ServicesReport>(portOf(options, reader), 'GET', '/services');
      print(options.json ? JSON.stringify(found) : servicesText(found));
    });
  const traffic = program
    .command('traffic')
    .description('which servers get the calls of which tenants')
    .addHelpText('after', TRAFFIC_HELP);
  const one = (command: Command) =>
    ask(command, TRAFFIC_HELP).option(
      '--service <name>',
      'of this service; otherwise of all that the node knows',
    );
  one(traffic.command('set').description('make or replace a directive'))
    .argument('<prefix>', 'of tenant ids')
    .addArgument(new Argument('<group=weight...>', 'what it gives each group').argParser(addWeight))
    .action((prefix: string, weights: Directive['weights'], options: Options) =>
      change(reader, '/traffic/set', { prefix, weights }, options),
    );
  one(traffic.command('unset <prefix>').description('remove a directive')).action(
    (prefix: string, options: Options) => change(reader, '/traffic/unset', { prefix }, options),
  );
  one(traffic.command('get [prefix]').description('show the directives, or those whose prefixes begin so'))
    .option('--json', 'as JSON')
    .action(async (prefix: string | undefined, options: Options) => {
      const all = await askAdmin<TrafficReport>(portOf(options, reader), 'GET', '/traffic');
      const { service } = options;
      const services = all.services.filter(({ name }) => service === undefined || name === service);
      print(options.json ? trafficJson(services, prefix ?? '') : trafficText({ services }, prefix ?? ''));
    });
}

function trafficJson(services: TrafficReport['services'], prefix: string): string {
  const wanted = services.map(({ name, directives }) => {
    return { name, directives: directives.filter(directive => directive.prefix.startsWith(prefix)) };
  });
  return JSON.stringify({ services: wanted });
}

async function change(reader: ConfigReader, path: string, body: object, options: Options): Promise<void> {
  const { service } = options;
  const full = service === undefined ? body : { ...body, service };
  const { services } = await askAdmin<{ services: string[] }>(portOf(options, reader), 'POST', path, full);
  print(`done for ${clean(services.join(', '))}`);
}
