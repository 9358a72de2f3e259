/**
 * `node kv-node.js SETTINGS`: a host of a cluster with a store of registers, or only a caller of it. Obeys lines on its
 * standard input, and ends with it.
 */
import { createInterface } from 'node:readline';
import { HistoryWriter } from './kv-history.js';
import { KvLoad } from './kv-load.js';
import { KvMember } from './kv-member.js';
import { Registers, WHOLE } from './kv-registers.js';
import type { KvCommandName, KvCommands, KvSettings } from './kv-words.js';
import type { Line } from './told-process.js';

type Answers = {
  readonly [K in KvCommandName]: (
    input: KvCommands[K]['with'],
  ) => KvCommands[K]['gives'] | Promise<KvCommands[K]['gives']>;
};

const settings = JSON.parse(process.argv[2] ?? '') as KvSettings;
const history = new HistoryWriter(settings.history);
const member = new KvMember(settings, WHOLE, () => new Registers());
let load: KvLoad | undefined;

const answers: Answers = {
  load: options => {
    load = new KvLoad(member.access, history, options, Math.random);
    return null;
  },
  rest: async () => {
    await load?.rest();
    return null;
  },
  answered: ({ sinceMs }) => load!.answered(sinceMs),
  reread: () => load!.reread(),
  look: () => {
    const { store } = member.host!;
    const replicas = [...store.replicas].map(({ rangeId, isLeader, raft, appliedIndex, descriptor }) => ({
      ...{ range: rangeId, leads: isLeader, term: raft.term, applied: appliedIndex },
      voters: raft.configuration.voters.length,
      changing: descriptor?.changing ?? true,
    }));
    const hosts = member.overlay.hosts().map(({ record }) => record.name);
    return { store: store.id, full: store.failures, replicas, hosts: hosts.sort() };
  },
};

function write(line: Line): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

await member.start();
const lines = createInterface({ input: process.stdin });
lines.on('line', text => {
  const { number, name, input } = JSON.parse(text) as { number: number; name: KvCommandName; input: never };
  void Promise.resolve(answers[name](input)).then(value => write({ answer: number, value }));
});
lines.on('close', () => process.exit(1));
write({ ready: true });
