/** A process of the replicated storage, as a test drives it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { KvCommandName, KvCommands, KvLine, KvSettings } from './kv-words.js';

const CLI = resolve(process.env.SHOALMQ_CLI ?? 'dist/cli.js');
const PROGRAM = join(dirname(CLI), 'test/e2e/kv-node.js');
const START_TIMEOUT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 40_000;
const LOG_LINES_MAX = 200;

export class KvProcess {
  readonly name: string;
  readonly settings: KvSettings;
  starts = 0;
  /** Ended by itself, with this code, since it was started last. */
  ended: number | undefined;
  isStopped = false;
  /** What stands before `node`, such as `ip netns exec NAMESPACE`. */
  private readonly within: readonly string[];
  private child: ChildProcess | undefined;
  private exited: Promise<number | null> = Promise.resolve(null);
  private readonly waiting = new Map<number, (value: unknown) => void>();
  private number = 0;
  private log: string[] = [];

  constructor(settings: KvSettings, within: readonly string[] = []) {
    this.name = settings.name;
    this.settings = settings;
    this.within = within;
  }

  get isRunning(): boolean {
    return this.child !== undefined && this.ended === undefined;
  }

  async start(): Promise<void> {
    const [file, ...args] = [...this.within, process.execPath, PROGRAM, JSON.stringify(this.settings)];
    const child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child = child;
    this.ended = undefined;
    this.starts++;
    this.exited = new Promise(done => child.once('exit', code => done(code)));
    void this.exited.then(code => {
      if (this.child === child) this.ended = code ?? -1;
    });
    // A command on its way to one that dies.
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stderr }).on('line', line => this.keep(line));
    const ready = new Promise<boolean>(done => {
      createInterface({ input: child.stdout }).on('line', text => {
        const line = JSON.parse(text) as KvLine;
        if ('ready' in line) done(true);
        else this.take(line.answer, line.value);
      });
    });
    const guard = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
    const isReady = await Promise.race([ready, this.exited.then(() => false)]);
    clearTimeout(guard);
    if (!isReady) throw new Error(`${this.name} did not start:\n${this.words()}`);
  }

  /** One that dies meanwhile does not answer. */
  tell<K extends KvCommandName>(name: K, input: KvCommands[K]['with']): Promise<KvCommands[K]['gives']> {
    const number = ++this.number;
    return new Promise((done, fail) => {
      const guard = setTimeout(() => {
        this.waiting.delete(number);
        fail(new Error(`${this.name} does not answer ${name}:\n${this.words()}`));
      }, ANSWER_TIMEOUT_MS);
      this.waiting.set(number, value => {
        clearTimeout(guard);
        done(value as KvCommands[K]['gives']);
      });
      this.child!.stdin!.write(`${JSON.stringify({ number, name, input })}\n`);
    });
  }

  stop(): void {
    this.isStopped = true;
    this.child?.kill('SIGSTOP');
  }

  goOn(): void {
    this.isStopped = false;
    this.child?.kill('SIGCONT');
  }

  async kill9(): Promise<void> {
    this.child?.kill('SIGKILL');
    await this.exited;
    this.child = undefined;
    this.isStopped = false;
  }

  words(): string {
    return this.log.map(line => `  | ${line}`).join('\n');
  }

  private take(number: number, value: unknown): void {
    this.waiting.get(number)?.(value);
    this.waiting.delete(number);
  }

  private keep(line: string): void {
    this.log.push(line);
    if (this.log.length > LOG_LINES_MAX) this.log.shift();
  }
}
