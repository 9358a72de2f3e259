import { assert } from '../../../src/base/assert.js';
import type { ReplicaId } from '../../../src/kv/raft/configuration.js';
import { sortedIds } from '../../../src/kv/raft/configuration.js';
import { MESSAGE, type Message } from '../../../src/kv/raft/message.js';
import { ENTRY } from '../../../src/kv/raft/ready.js';
import { RAFT_LIMITS, RAFT_TIMING } from '../../../src/kv/raft/settings.js';
import { GoldenNode, type State } from './golden-node.js';
import {
  describeConfiguration,
  describeEntries,
  describeMessage,
  describeProgress,
  describeRole,
} from './golden-text.js';

const ROUNDS_MAX = 200;

/** Scripts count in ticks of these. */
/** The scripts' own, as they tell what happens when. */
const TIMING = {
  ...RAFT_TIMING,
  heartbeatMs: 500,
  electionTimeoutMinMs: 1_500,
  electionTimeoutMaxMs: 3_000,
  quiesceAfterMs: 0,
};

type Command = (...words: string[]) => void;

/**
 * The replicas of one group, and the mail between them. Nothing moves by itself: `deliver` and `settle` let replicas do
 * what they want done and carry mail until nothing is left; the former shows the mail. Each replica has its own clock.
 *
 *     add-nodes COUNT [voters=1,2] [learners=4] [SETTING=NUMBER]...   voters by default 1 to COUNT
 *     add-node ID                          one that knows of no configuration yet
 *     log ID TERM,TERM,...                 what it finds in its log when it starts, by terms; it is started anew
 *     hard-state ID term=N [vote=N]        the same
 *     timeout ID MS                        what it draws as its election timeout from now on
 *     campaign|recover ID                  propose ID TEXT [SESSION.SEQUENCE]   propose-bytes ID COUNT BYTES
 *     change ID [voters=...] [learners=...]     transfer ID TO       read ID lease|index CONTEXT
 *     tick ID|all COUNT                    so many ticks, each 100 ms later
 *     run COUNT                            so many ticks of all, and settles after each
 *     deliver|settle [A->B|->B|A->]        mail of these links only; the rest keeps
 *     drop|copy A->B|->B|A->               throws away, or doubles, what is under way
 *     cut|mend A->B|->B|A->|all            from now on all is thrown away there
 *     keep|free A->B|->B|A->|all           from now on mail waits there
 *     stop ID   restart ID   hold ID   release ID     the last two: the disk takes its time
 *     save-state ID NAME   send-state FROM TO [NAME] [lost]   compact ID INDEX   unreachable|reachable ID OTHER
 *     status   show-log ID   progress ID   mail
 */
export class GoldenWorld {
  private readonly nodes = new Map<ReplicaId, GoldenNode>();
  private readonly states = new Map<string, State>();
  private mail: Message[] = [];
  private readonly cuts = new Set<string>();
  private readonly kept = new Set<string>();
  private lines: string[] = [];
  private sequence = 0;
  private settings = { timing: TIMING, limits: RAFT_LIMITS };
  private readonly commands: Readonly<Record<string, Command>> = {
    'add-nodes': (count, ...options) => this.addNodes(Number(count), options),
    'add-node': id => this.addNode(Number(id), [], []),
    log: (id, terms) => this.fillLog(this.node(id), terms!.split(',').map(Number)),
    'hard-state': (id, ...options) => {
      const { term, vote } = numbers(options);
      this.node(id).log.hardState = { term: term ?? 0, vote: vote ?? 0, commit: 0 };
      this.node(id).restart();
    },
    timeout: (id, ms) => {
      this.node(id).timeoutMs = Number(ms);
    },
    campaign: id => this.say(this.node(id).raft.campaign() ? undefined : 'no'),
    recover: id =>
      this.say(this.node(id).raft.recoverAsSoleVoterAndLoseWhatOnlyOthersHave() ? undefined : 'no'),
    propose: (id, text, key) => {
      const [session, sequence] = key?.split('.').map(Number) ?? [1, ++this.sequence];
      this.node(id).raft.propose(session!, sequence!, Buffer.from(text!));
    },
    'propose-bytes': (id, count, bytes) => {
      for (let i = 0; i < Number(count); i++)
        this.node(id).raft.propose(1, ++this.sequence, Buffer.alloc(Number(bytes), 'x'));
    },
    change: (id, ...options) => {
      const { voters, learners } = lists(options);
      this.node(id).raft.change({ voters: voters ?? [], learners: learners ?? [] }, 9, ++this.sequence);
    },
    transfer: (id, to) => this.node(id).raft.transfer(Number(to)),
    read: (id, mode, context) => this.node(id).raft.read(Number(context), mode as 'lease' | 'index'),
    tick: (who, count) => {
      for (let i = 0; i < Number(count); i++) for (const node of this.these(who!)) node.tick(100);
    },
    run: count => {
      for (let i = 0; i < Number(count); i++) {
        for (const node of this.nodes.values()) node.tick(100);
        this.move(undefined, false);
      }
    },
    deliver: link => this.move(link, true),
    settle: link => this.move(link, false),
    drop: link => {
      this.collect();
      this.mail = this.mail.filter(message => !isOn(message, link!));
    },
    copy: link => {
      this.collect();
      this.mail = this.mail.flatMap(message => (isOn(message, link!) ? [message, message] : [message]));
    },
    cut: link => void this.cuts.add(link!),
    mend: link => forget(this.cuts, link!),
    keep: link => void this.kept.add(link!),
    free: link => forget(this.kept, link!),
    stop: id => this.node(id).crash(),
    restart: id => this.node(id).restart(),
    hold: id => {
      this.node(id).isHeld = true;
    },
    release: id => this.node(id).release(),
    'save-state': (id, name) => void this.states.set(name!, this.node(id).state()),
    'send-state': (from, to, ...options) => this.sendState(this.node(from), this.node(to), options),
    compact: (id, index) => {
      const { log, raft } = this.node(id);
      log.compact(Number(index), raft.configurationAt(Number(index)));
      raft.compacted(Number(index));
    },
    unreachable: (id, other) => this.node(id).raft.unreachable(Number(other)),
    reachable: (id, other) => this.node(id).raft.reachable(Number(other)),
    status: () => {
      for (const node of this.nodes.values()) this.say(this.statusOf(node));
    },
    'show-log': id => {
      const { log } = this.node(id);
      const { index, term } = log.snapshot;
      const entries = log.lastIndex > index ? log.entries(index + 1, log.lastIndex, 1e9) : [];
      this.say(`${index > 0 ? `state of ${index}/${term}, ` : ''}${describeEntries(entries)}`);
    },
    progress: id => {
      for (const progress of this.node(id).raft.progress.values())
        if (progress.id !== Number(id)) this.say(describeProgress(progress));
    },
    mail: () => {
      this.collect();
      for (const message of this.mail) this.say(describeMessage(message));
    },
  };

  /** Obeys a command; gives what there is to see. */
  run(line: string): string[] {
    const [name, ...words] = line.trim().split(/\s+/);
    const command = this.commands[name!];
    assert(command !== undefined, `unknown command in a golden script: ${name}`);
    command(...words);
    for (const node of this.nodes.values()) if (!node.isDown) node.look();
    this.checkLeaders();
    const { lines } = this;
    this.lines = [];
    return lines;
  }

  private say(line: string | undefined): void {
    if (line !== undefined) this.lines.push(line);
  }

  private node(id: string | undefined): GoldenNode {
    const node = this.nodes.get(Number(id));
    assert(node !== undefined, `unknown replica in a golden script: ${id}`);
    return node;
  }

  private these(who: string): Iterable<GoldenNode> {
    return who === 'all' ? this.nodes.values() : who.split(',').map(id => this.node(id));
  }

  private addNodes(count: number, options: readonly string[]): void {
    const ids = Array.from({ length: count }, (_, i) => i + 1);
    const { learners = [], voters = ids.filter(id => !learners.includes(id)) } = lists(
      options.filter(option => /^(?:voters|learners)=/.test(option)),
    );
    const given = numbers(options.filter(option => !/^(?:voters|learners)=/.test(option)));
    const timing: Record<string, number | undefined> = { ...TIMING };
    const limits: Record<string, number> = { ...RAFT_LIMITS };
    for (const [name, value] of Object.entries(given)) {
      if (name in limits) limits[name] = value;
      else if (name in timing) timing[name] = value < 0 ? undefined : value;
      else assert(false, `unknown setting in a golden script: ${name}`);
    }
    this.settings = { timing: timing as never, limits: limits as never };
    for (const id of sortedIds([...voters, ...learners])) this.addNode(id, voters, learners);
  }

  private addNode(id: ReplicaId, voters: readonly ReplicaId[], learners: readonly ReplicaId[]): void {
    const hooks = {
      send: (message: Message) => this.post(message),
      note: (line: string) => this.say(line),
    };
    this.nodes.set(id, new GoldenNode(id, { voters, outgoing: [], learners }, this.settings, hooks));
  }

  private fillLog(node: GoldenNode, terms: readonly number[]): void {
    node.log.write(
      terms.map((term, i) => ({
        term,
        index: i + 1,
        kind: ENTRY.COMMAND,
        session: 0,
        sequence: 0,
        data: Buffer.from(`t${term}`),
      })),
    );
    node.log.hardState = { term: terms.at(-1)!, vote: 0, commit: 0 };
    node.restart();
  }

  private post(message: Message): void {
    for (const link of this.cuts) if (isOn(message, link)) return;
    this.mail.push(message);
  }

  /** Lets all replicas do what they want done. */
  private collect(): void {
    for (const node of this.nodes.values()) while (node.obey()) {}
  }

  private move(link: string | undefined, isShown: boolean): void {
    for (let round = 0; ; round++) {
      assert(round < ROUNDS_MAX, 'the mail of a golden script comes to an end');
      this.collect();
      const moving = this.mail.filter(message => this.moves(message, link));
      if (moving.length === 0) return;
      this.mail = this.mail.filter(message => !this.moves(message, link));
      for (const message of moving) {
        if (isShown) this.say(describeMessage(message));
        this.nodes.get(message.to)?.step(message);
      }
    }
  }

  private moves(message: Message, link: string | undefined): boolean {
    if (link !== undefined && !isOn(message, link)) return false;
    for (const kept of this.kept) if (isOn(message, kept)) return false;
    return true;
  }

  private sendState(from: GoldenNode, to: GoldenNode, options: readonly string[]): void {
    const name = options.find(option => option !== 'lost');
    const state = name === undefined ? from.state() : this.states.get(name)!;
    const { index, term, configuration } = state.meta;
    this.say(`${from.id}->${to.id} state of ${index}/${term} (${describeConfiguration(configuration)})`);
    const isLost = options.includes('lost');
    if (!isLost && !to.receive(state)) this.say(`${to.id} needs none`);
    // What was received must be on disk before the sender is told.
    if (!isLost) while (to.obey()) {}
    from.raft.snapshotSent(to.id, index, !isLost);
  }

  private statusOf({ id, raft, log, isDown }: GoldenNode): string {
    if (isDown) return `${id}: down`;
    const parts = [describeRole(raft), `commit ${raft.commitIndex}`, `last ${raft.lastIndex}`];
    if (log.applied !== raft.commitIndex) parts.push(`applied ${log.applied}`);
    if (raft.hasLease) parts.push('lease');
    if (raft.isQuiescent) parts.push('quiet');
    return `${id}: ${parts.join(', ')}`;
  }

  /** Whoever leads: one a term (paper, 5.2). */
  private readonly leaders = new Map<number, ReplicaId>();

  private checkLeaders(): void {
    for (const { id, raft, isDown } of this.nodes.values()) {
      if (isDown || !raft.isLeader) continue;
      const other = this.leaders.get(raft.term) ?? id;
      assert(other === id, `two leaders in term ${raft.term}`);
      this.leaders.set(raft.term, id);
    }
  }
}

function isOn({ from, to, kind }: Message, link: string): boolean {
  if (link === 'all') return true;
  const [ends, name] = link.split(':');
  const [sender, receiver] = ends!.split('->');
  if (name !== undefined && MESSAGE[name as keyof typeof MESSAGE] !== kind) return false;
  return (sender === '' || Number(sender) === from) && (receiver === '' || Number(receiver) === to);
}

function forget(links: Set<string>, link: string): void {
  if (link === 'all') links.clear();
  else assert(links.delete(link), `nothing is known of ${link}`);
}

function numbers(options: readonly string[]): Record<string, number> {
  return Object.fromEntries(options.map(option => [option.split('=')[0]!, Number(option.split('=')[1])]));
}

function lists(options: readonly string[]): Record<string, number[]> {
  return Object.fromEntries(
    options.map(option => [option.split('=')[0]!, option.split('=')[1]!.split(',').map(Number)]),
  );
}
