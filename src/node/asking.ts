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
