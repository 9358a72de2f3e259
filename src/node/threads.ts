import { once } from 'node:events';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { Log } from '../base/env.js';
import { ShoalError } from '../base/errors.js';
import { CounterBlock } from '../base/metrics.js';
import type { MqttControl, MqttReport } from './mqtt-worker.js';
import type { StoreControl, StoreReport } from './store-worker.js';
import type { TaskEnd } from './task.js';

export type Role = 'mqtt' | 'match' | 'apply';
type Control = MqttControl | StoreControl;
export type Report = MqttReport | StoreReport;

/** One worker thread of the node, through all its lives. */
export class Thread {
  readonly role: Role;
  readonly index: number;
  /** Mesh index. */
  readonly peer: number;
  readonly name: string;
  readonly block = new CounterBlock();
  private readonly pool: Piscina;
  private readonly log: Log;
  private port: MessagePort | undefined;
  private running: Promise<TaskEnd> | undefined;
  /** Takes the reports that nobody waits for. */
  onReport: (report: Report) => void = () => undefined;

  constructor(role: Role, index: number, peer: number, pool: Piscina, log: Log) {
    this.role = role;
    this.index = index;
    this.peer = peer;
    this.name = `${role}-${index}`;
    this.pool = pool;
    this.log = log;
  }

  /** Starts (again); `input` is the worker's, without its port. Resolves when it says `ready`. */
  async start(input: object): Promise<void> {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.block.values.fill(0);
    port1.on('message', (report: Report) => {
      if (report.kind === 'log') this.log[report.level](report.fields, report.message);
      else this.onReport(report);
    });
    const whole = { ...input, metrics: this.block.memory, port: port2 };
    this.running = this.pool.run(whole, { transferList: [port2] });
    const failed = this.running.then(end => {
      throw errorOf(end, this.name);
    });
    failed.catch(() => undefined);
    await Promise.race([this.next('ready'), failed]);
  }

  /** How this life ends; rejects when the thread broke. */
  get ended(): Promise<TaskEnd> {
    return this.running ?? Promise.resolve({ kind: 'stopped' });
  }

  send(control: Control): void {
    this.port?.postMessage(control);
  }

  /** The next report of this kind, or of one of these kinds. */
  async next<K extends Report['kind']>(...kinds: K[]): Promise<Extract<Report, { kind: K }>> {
    const { port } = this;
    if (port === undefined) throw new Error(`thread ${this.name} is not running`);
    for (;;) {
      const [report] = (await once(port, 'message')) as [Report];
      if ((kinds as string[]).includes(report.kind)) return report as Extract<Report, { kind: K }>;
    }
  }

  async stop(): Promise<void> {
    this.send({ kind: 'stop' });
    await this.ended.catch(() => undefined);
    this.port?.close();
    this.port = undefined;
  }

  /** The thread died: what belongs to this life goes. */
  bury(): void {
    this.port?.close();
    this.port = undefined;
  }
}

function errorOf(end: TaskEnd, name: string): Error {
  return end.kind === 'failed'
    ? new ShoalError(end.code, end.message)
    : new Error(`thread ${name} ended before it was ready`);
}

/**
 * Young generations, three semi-spaces each, in MiB. They grow to this under load and are not given back, so they are
 * memory that every idle connection of a small broker pays for.
 */
const YOUNG_GENERATION_MB: Record<Role, number> = { mqtt: 24, match: 6, apply: 12 };

/** The pool of one role: exactly `count` threads, each running one task for as long as the node lives. */
export function openPool(role: Role, count: number): Piscina {
  return new Piscina({
    filename: new URL(`../../workers/${role}.js`, import.meta.url).href,
    minThreads: count,
    maxThreads: count,
    concurrentTasksPerWorker: 1,
    atomics: 'disabled',
    recordTiming: false,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB[role] },
  });
}
