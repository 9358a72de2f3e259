import { performance } from 'node:perf_hooks';
import { Command, Option } from 'commander';
import { stringify } from 'yaml';
import { ShoalError } from './base/errors.js';
import { addClusterCommands } from './node/cluster-commands.js';
import { assertSecureCluster, assertSecureRpc, readClusterKeys, readTls } from './node/cluster-config.js';
import { type Config, loadConfig, withoutSecrets } from './node/config.js';
import { configTable } from './node/config-keys.js';
import { addKvCommands } from './node/kv-commands.js';
import { createLog } from './node/log.js';
import { promptHidden, readLine } from './node/prompt.js';
import { report } from './node/report.js';
import { assertSecure } from './node/security.js';
import { addServiceCommands } from './node/service-commands.js';
import { stopOnSignal } from './node/signals.js';
import { packageVersion } from './node/version.js';
import { openAuth } from './plugin/io/auth.js';
import { deletePassword, setPassword } from './plugin/io/password-edit.js';

/**
 * The `shoalmq` command. It runs when it is imported. What a command was asked for goes to standard output, the
 * log and everything else to standard error. Exit codes: 0 done, 1 refused or failed (one line says why and
 * what to do), 130 and 143 stopped at once by a second SIGINT or SIGTERM, 137 not stopped in time.
 */

const CONFIG_HELP = `
Keys come from a YAML file, then from the environment, then from --set; the later one wins:

  $ shoalmq start                                    # this machine only: tcp 1883, ws 8080
  $ shoalmq start --config shoalmq.yaml
  $ shoalmq start --set listeners.tcp.port=1884 --set node.dataDir=/var/lib/shoalmq
  $ SHOALMQ_LISTENERS__TCP__PORT=1884 shoalmq start

To serve other machines, give clients passwords (or say auth.anonymous: true outright):

  $ shoalmq passwd passwords alice
  $ shoalmq start --set auth.passwordFile=passwords

To make a cluster, name one or more of its hosts to every node, and give all of them one secret:

  $ openssl rand -base64 32 > cluster.key
  $ shoalmq start --set cluster.host=0.0.0.0 --set cluster.keyFile=cluster.key --set cluster.seeds=10.0.0.1:4800

"shoalmq config-keys" lists every key, "shoalmq check-config" shows what is in effect.`;

interface ConfigOptions {
  config?: string;
  set: string[];
}

function withConfig(command: Command): Command {
  return command
    .addOption(new Option('-c, --config <file>', 'YAML configuration file').env('SHOALMQ_CONFIG'))
    .option(
      '-s, --set <key=value>',
      'set one key, again and again',
      (entry: string, all: string[]) => [...all, entry],
      [],
    );
}

function configOf({ config, set }: ConfigOptions): Config {
  return loadConfig({ file: config, set, env: process.env });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

// -- start -------------------------------------------------------------------------------------------------

async function start(options: ConfigOptions): Promise<void> {
  const config = configOf(options);
  assertSecure(config);
  assertSecureCluster(config);
  assertSecureRpc(config);
  const log = createLog(config.log, 'main');
  const { startNode } = await import('./node/node.js');
  const starting = startNode(config, log);
  stopOnSignal(() => starting.then(node => node.stop()), config.shutdown.timeoutMs, log);
  const { listeners, clusterAddress } = await starting;
  print(`ShoalMQ ${packageVersion()}, node ${config.node.name}, data in ${config.node.dataDir}`);
  for (const { kind, host, port, hint } of listeners) {
    const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    print(`${kind.padEnd(4)} ${address.padEnd(21)} ${hint}`);
  }
  if (clusterAddress !== undefined) {
    const { env } = config.cluster;
    const command = `shoalmq cluster members --set node.dataDir=${config.node.dataDir}`;
    print(`host ${clusterAddress.padEnd(21)} of the cluster ${env}; ${command}`);
  }
}

// -- check-config, config-keys -----------------------------------------------------------------------------

async function checkConfig(options: ConfigOptions): Promise<void> {
  const config = configOf(options);
  process.stdout.write(stringify(withoutSecrets(config)));
  assertSecure(config);
  assertSecureCluster(config);
  assertSecureRpc(config);
  readClusterKeys(config);
  readTls(config, 'cluster');
  readTls(config, 'rpc');
  const { checkListenerFiles } = await import('./node/listeners.js');
  await checkListenerFiles(config);
  const clock = { wallMs: () => Date.now(), monotonicMs: () => performance.now() };
  const log = createLog(config.log, 'main');
  const auth = await openAuth(config, { clock, log, random: { u32: () => 0 } });
  await auth.close();
}

function configKeys({ markdown }: { markdown?: true }): void {
  const rows = configTable();
  if (markdown) {
    const cell = (text: string) => text.replaceAll('|', '\\|');
    print('| key | default | takes | meaning |\n| --- | --- | --- | --- |');
    for (const { key, default: initial, type, meaning } of rows) {
      print(`| \`${key}\` | ${initial === '' ? '' : `\`${initial}\``} | ${cell(type)} | ${cell(meaning)} |`);
    }
    return;
  }
  const width = Math.max(...rows.map(({ key }) => key.length));
  for (const { key, default: initial, type, meaning } of rows) {
    print(`${key.padEnd(width)}  ${initial === '' ? '(none)' : initial}`);
    print(`${' '.repeat(width)}  ${meaning}; takes ${type}`);
  }
}

// -- passwd ------------------------------------------------------------------------------------------------

interface PasswdOptions {
  stdin?: true;
  scram?: true;
  delete?: true;
}

async function passwd(file: string, user: string, options: PasswdOptions): Promise<void> {
  if (options.delete) {
    if (!(await deletePassword(file, user))) {
      throw new ShoalError('SHOAL_AUTH_FILE', `${file} has no user ${JSON.stringify(user)}`);
    }
    return;
  }
  const password = options.stdin ? await readLine(process.stdin) : await askTwice(user);
  await setPassword(file, user, password, options.scram ? 'scram' : 'argon2');
}

async function askTwice(user: string): Promise<string> {
  if (!process.stdin.isTTY) {
    throw new ShoalError(
      'SHOAL_AUTH_FILE',
      'standard input is not a terminal; use --stdin to pipe a password in',
    );
  }
  const first = await promptHidden(`Password for ${user}: `, process.stdin, process.stderr);
  if (first === undefined) process.exit(130);
  const second = await promptHidden('Once more: ', process.stdin, process.stderr);
  if (second === undefined) process.exit(130);
  if (first !== second) throw new ShoalError('SHOAL_AUTH_FILE', 'the two passwords are not the same');
  return first;
}

// -- the command -------------------------------------------------------------------------------------------

function commandLine(): Command {
  const program = new Command('shoalmq')
    .description('A decentralised, multi-tenant MQTT 3.1, 3.1.1 and 5 broker.')
    .version(packageVersion(), '-V, --version')
    // Some commands show something and have others below them that change it, with the same options.
    .enablePositionalOptions()
    .showHelpAfterError('("shoalmq --help" shows how it is used)')
    .addHelpText('after', CONFIG_HELP);
  withConfig(program.command('start').description('run a broker until SIGINT or SIGTERM'))
    .addHelpText('after', CONFIG_HELP)
    .action(start);
  withConfig(program.command('check-config').description('check the configuration and print it as YAML'))
    .addHelpText(
      'after',
      '\nPrints every key in effect, also the defaults; exits with 1 and a line when "start" would refuse it.',
    )
    .action(checkConfig);
  program
    .command('config-keys')
    .description('list every configuration key with its default and meaning')
    .option('--markdown', 'as the table of the README')
    .action(configKeys);
  addClusterCommands(program, { withConfig, configOf });
  addServiceCommands(program, { withConfig, configOf });
  addKvCommands(program, { withConfig, configOf });
  program
    .command('passwd <file> <user>')
    .description('set or delete a password; the file is made when it is missing')
    .option('--stdin', 'read the password from standard input instead of asking twice')
    .option('--scram', 'for enhanced authentication by SCRAM-SHA-256 instead of user name and password')
    .option('--delete', 'delete the user')
    .addHelpText(
      'after',
      `
  $ shoalmq passwd passwords alice
  $ printf %s "$SECRET" | shoalmq passwd --stdin passwords acme/bob   # user bob of tenant acme
  $ shoalmq passwd --delete passwords alice

A running broker takes changes up by itself within seconds.`,
    )
    .action(passwd);
  program
    .command('version')
    .description('print the version')
    .action(() => print(packageVersion()));
  return program;
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader of a pipe has seen enough ("shoalmq config-keys | head").
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

try {
  await commandLine().parseAsync();
} catch (error) {
  report(error);
  process.exit(1);
}
