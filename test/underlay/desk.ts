import { environmentHash } from '../../src/underlay/environment.js';
import type { Address, HostId, HostRecord, Message, Path } from '../../src/underlay/message.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { type HostEvent, Underlay } from '../../src/underlay/underlay.js';
import { type LogLine, seededRandom } from './loop.js';
import { newsWords } from './words.js';

const WALL_MS = 1_700_000_000_000;

/** The record of a host named by one letter: a has id 1, b 2, and so on. */
export function record(name: string, changes: Partial<HostRecord> = {}): HostRecord {
  const id = name.charCodeAt(0) - 96;
  return {
    id,
    incarnation: 0,
    name,
    address: `${name}:4800`,
    version: '1.0.0',
    startedMs: WALL_MS,
    agents: [],
    ...changes,
  };
}

function nameOf(id: HostId): string {
  return id >= 1 && id <= 26 ? String.fromCharCode(96 + id) : `#${id}`;
}

/** A message as a golden script has it. */
function words(message: Message): string {
  switch (message.kind) {
    case 'ping':
      return `ping ${nameOf(message.target)}${message.suspected < 0 ? '' : ` suspected@${message.suspected}`}`;
    case 'ping-request':
      return `ping-request ${nameOf(message.target)}`;
    case 'ack':
    case 'nack':
    case 'mistaken':
      return `${message.kind} ${nameOf(message.target)}`;
    case 'join': {
      const whom = message.expected === 0 ? 'anybody' : nameOf(message.expected);
      return `join ${message.record.name}@${message.record.incarnation} to ${whom}${message.reply ? ', reply' : ''}`;
    }
    default:
      return newsWords(message, nameOf) ?? message.kind;
  }
}

function eventWords(event: HostEvent): string {
  if (event.kind === 'self-evicted') return `self-evicted by ${nameOf(event.by)}`;
  const reason = event.kind === 'gone' ? ` ${event.reason}` : '';
  return `${event.kind} ${event.host.name}@${event.host.incarnation}${reason}`;
}

/**
 * One machine, host a, and a test that plays all the others: it hands packets in, lets time pass, and reads what the
 * machine says. The traffic of the host map is left out of the script.
 */
export class Desk {
  nowMs = 0;
  readonly warnings: LogLine[] = [];
  readonly machine: Underlay;
  /** Sequence number of the last ping or ping-request of the machine. */
  sequence = 0;
  /** What it said since this was last taken: `b -> ping b` for a datagram, `b => …` for the stream. */
  private said: string[] = [];
  private events: string[] = [];
  /** Where messages about the host map went. */
  readonly compared = new Set<Address>();

  constructor(seed = 1, environment = 'test') {
    const log = {
      debug: () => {},
      info: () => {},
      error: () => {},
      warn: (fields: object, message: string) => this.warnings.push({ fields, message }),
    };
    this.machine = new Underlay(
      { id: 1, name: 'a', address: 'a:4800', version: '1.0.0', environment, timing: DEFAULT_TIMING },
      {
        clock: { wallMs: () => WALL_MS + this.nowMs, monotonicMs: () => this.nowMs },
        random: seededRandom(seed),
        log,
      },
    );
    this.collect();
  }

  /** A packet of the host named by one letter. */
  hear(from: string, ...messages: readonly Message[]): this {
    return this.packet(record(from), messages);
  }

  packet(
    sender: HostRecord,
    messages: readonly Message[],
    path: Path = 'datagram',
    environment = 'test',
    from = sender.address,
  ): this {
    this.machine.receive(
      {
        environment: environmentHash(environment),
        from: sender.id,
        incarnation: sender.incarnation,
        hlc: 0,
        wallMs: WALL_MS + this.nowMs,
        messages,
      },
      from,
      path,
    );
    this.collect();
    return this;
  }

  /** Brings hosts into the view, by what the last of them says, and forgets what was said about it. */
  know(...names: readonly string[]): this {
    for (const name of names) this.hear(names.at(-1)!, { kind: 'alive', record: record(name) });
    this.run(0);
    this.take();
    this.takeEvents();
    return this;
  }

  /** Lets time pass, ticking whenever the machine wants it. */
  run(ms: number): this {
    const endMs = this.nowMs + ms;
    for (;;) {
      const dueMs = this.machine.nextDeadlineMs();
      if (dueMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, dueMs);
      this.machine.tick();
      this.collect();
    }
    this.nowMs = endMs;
    return this;
  }

  /** Runs until the machine has said something that begins so, for a minute at most; drops what was said before. */
  runUntil(said: string): this {
    const endMs = this.nowMs + 60_000;
    while (this.nowMs < endMs) {
      const at = this.said.findIndex(line => line.includes(said));
      if (at >= 0) {
        this.said = this.said.slice(at);
        return this;
      }
      const dueMs = this.machine.nextDeadlineMs();
      this.nowMs = Math.max(this.nowMs, Math.min(dueMs, endMs));
      this.machine.tick();
      this.collect();
    }
    throw new Error(`never said: ${said}; but ${this.said.join(' | ')}`);
  }

  take(): string[] {
    return this.said.splice(0);
  }

  takeEvents(): string[] {
    return this.events.splice(0);
  }

  /** Names of the others in the view; suspects in brackets. */
  view(): string {
    return this.machine
      .hosts()
      .filter(({ record: { id } }) => id !== 1)
      .map(({ record: { name, incarnation }, state }) =>
        state === 'suspect' ? `(${name}@${incarnation})` : `${name}@${incarnation}`,
      )
      .sort()
      .join(' ');
  }

  /** After an order to the machine from above. */
  collect(): void {
    const { sends, events } = this.machine.ready();
    this.events.push(...events.map(eventWords));
    for (const { to, path, messages } of sends) {
      for (const message of messages) {
        if (message.kind === 'ping' || message.kind === 'ping-request') this.sequence = message.sequence;
        if (message.kind === 'crdt') {
          this.compared.add(to);
          continue;
        }
        this.said.push(`${to.replace(':4800', '')} ${path === 'stream' ? '=>' : '->'} ${words(message)}`);
      }
    }
  }
}
