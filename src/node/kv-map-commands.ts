import type { Command } from 'commander';
import { MAP_VALUE_BYTES_MAX } from '../kv/map/map-codec.js';
import { askAdmin } from './admin-client.js';
import { type AskingOptions, asking, type ConfigReader, portOf, print } from './asking.js';
import { clean } from './finding.js';
import { LISTED_MAX, type MapFound, type MapListed, type MapOutcome, TIMEOUT_MS } from './kv-map-routes.js';
import { listedText } from './kv-table.js';
import { readAll, wholeNumber } from './kv-words.js';
import { complain } from './report.js';

/** The commands for the cluster's map: `shoalmq kv get`, `put`, `delete`, `list`. */

const MAP_HELP = `
The map keeps small values for operators and their scripts: keys of up to 512 bytes, values of up to 64 KiB. Whoever reads
after a change was done sees it, on every node.

  $ shoalmq kv put config/mode normal
  $ shoalmq kv put config/ca - <ca.pem                   # the value from standard input, byte for byte
  $ shoalmq kv get config/mode
  $ shoalmq kv list config/
  $ shoalmq kv put lock mine --expect 0                  # only if it is not there
  $ shoalmq kv put config/mode calm --expect 7           # only if it still has revision 7
  $ shoalmq kv delete config/mode

Exit codes: 0 done; 1 not done (get: it is not there), and it will not be; 2 unknown: it may have been done, or be done
yet, as when a node died with it. Look, or ask again: with --expect nothing is done twice.`;

/** Beside 0 and 1. */
const EXIT_UNKNOWN = 2;

type Options = AskingOptions & {
  json?: true;
  expect?: number;
  timeout: number;
  limit: number;
  after?: string;
};

export function addMapCommands(kv: Command, reader: ConfigReader): void {
  const one = (usage: string, description: string) =>
    asking(kv.command(usage).description(description), reader)
      .option('--timeout <ms>', 'give up after so many milliseconds', wholeNumber, TIMEOUT_MS)
      .addHelpText('after', MAP_HELP);
  const post = <T>(path: string, body: object, options: Options) =>
    askAdmin<T>(portOf(options, reader), 'POST', path, { ...body, timeoutMs: options.timeout });
  const expecting = (command: Command) =>
    command.option(
      '--expect <revision>',
      'only if it has this revision now; 0: if it is not there',
      wholeNumber,
    );

  expecting(one('put <key> <value>', 'keep a value in the cluster; - takes it from standard input')).action(
    async (key: string, value: string, options: Options) => {
      const bytes = value === '-' ? await readAll(process.stdin, MAP_VALUE_BYTES_MAX) : Buffer.from(value);
      const body = { key, value: bytes.toString('base64'), ...expectation(options) };
      const outcome = await post<MapOutcome>('/kv/map/put', body, options);
      tell(outcome, revision => `done, revision ${revision}`);
    },
  );
  expecting(one('delete <key>', 'remove a key')).action(async (key: string, options: Options) => {
    const outcome = await post<MapOutcome>('/kv/map/delete', { key, ...expectation(options) }, options);
    tell(outcome, revision => (revision === 0 ? 'it was not there' : `done, it had revision ${revision}`));
  });
  one('get <key>', 'print the value of a key')
    .option('--json', 'as JSON, with its revision; the value is in Base64')
    .action(async (key: string, options: Options) => {
      show(await post<MapFound>('/kv/map/get', { key }, options), key, options.json === true);
    });
  one('list [prefix]', 'keys, or those that begin so')
    .option('--after <key>', 'only keys behind this one')
    .option('--limit <number>', `at most so many, ${LISTED_MAX} at most`, wholeNumber, 1_000)
    .option('--json', 'as JSON')
    .action(async (prefix: string | undefined, options: Options) => {
      const after = options.after === undefined ? {} : { after: options.after };
      const body = { prefix: prefix ?? '', entriesMax: options.limit, ...after };
      const found = await post<MapListed>('/kv/map/list', body, options);
      if (options.json) print(JSON.stringify(found));
      else if (found.outcome === 'listed') print(listedText(found));
      if (found.outcome === 'not-done') notDone(found.why);
    });
}

function expectation({ expect }: Options): { readonly expected?: number } {
  return expect === undefined ? {} : { expected: expect };
}

function tell(outcome: MapOutcome, words: (revision: number) => string): void {
  if (outcome.outcome === 'done')
    return print(outcome.revision === null ? 'done; its answer was lost' : words(outcome.revision));
  if (outcome.outcome === 'not-done') return notDone(outcome.why);
  complain(`unknown: ${clean(outcome.why)}`);
  process.exitCode = EXIT_UNKNOWN;
}

function show(found: MapFound, key: string, isJson: boolean): void {
  if (isJson) print(JSON.stringify(found));
  if (found.outcome === 'not-done') return notDone(found.why);
  if (found.outcome === 'absent') {
    process.exitCode = 1;
    if (!isJson) complain(`there is no ${clean(key)}`);
    return;
  }
  if (isJson) return;
  const bytes = Buffer.from(found.value, 'base64');
  process.stdout.write(bytes);
  // A prompt behind it on the same line helps nobody; a file or a pipe gets the value as it is.
  if (process.stdout.isTTY && bytes.at(-1) !== LINE_FEED) process.stdout.write('\n');
}

const LINE_FEED = 0x0a;

function notDone(why: string): void {
  complain(`not done: ${clean(why)}`);
  process.exitCode = 1;
}
