import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { AdminPort } from './admin-client.js';
import { findAdmin } from './admin-client.js';
import type { Config } from './config.js';

/** What all commands have in common that ask a running node. */

export interface AskingOptions {
  config?: string;
  set: string[];
  url?: string;
  tokenFile?: string;
}

/** How `cli.ts` reads the configuration. */
export interface ConfigReader {
  readonly withConfig: (command: Command) => Command;
  readonly configOf: (options: AskingOptions) => Config;
}

/** Gives the command the options that name a node. */
export function asking(command: Command, { withConfig }: ConfigReader): Command {
  return withConfig(command)
    .option('--url <url>', 'administration port of the node; otherwise found in its data directory')
    .option('--token-file <file>', 'its token; otherwise admin.token in the data directory');
}

/** The node that they name. */
export function portOf(options: AskingOptions, { configOf }: ConfigReader): AdminPort {
  return findAdmin(configOf(options), options);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** False also when the input ends; Ctrl-C ends the command. */
export async function agrees(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  terminal.on('SIGINT', () => process.exit(130));
  const ended = once(terminal, 'close').then(() => '');
  try {
    return /^y(es)?$/i.test((await Promise.race([terminal.question(question), ended])).trim());
  } finally {
    terminal.close();
  }
}
