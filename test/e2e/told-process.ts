/** A process that a test drives: it reads commands as lines of JSON, and answers each by a line. */
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const CLI = resolve(process.env.SHOALMQ_CLI ?? 'dist/cli.js');
const START_TIMEOUT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 40_000;
const LOG_LINES_MAX = 200;

/** What each command takes and gives. */
export type CommandTable<C> = {
  readonly [K in keyof C]: { readonly with: unknown; readonly gives: unknown };
};

/** What the process writes: it is up, it tells something by itself, or it answers a command. */
export type Line<Told = unknown> =
  | { readonly ready: true }
  | { readonly told: Told }
  | { readonly answer: number; readonly value: unknown };

export abstract class ToldProcess<Settings extends { readonly name: string }, C extends CommandTable<C>> {
  readonly name: string;
  readonly settings: Settings;
  starts = 0;
  /** Ended by itself, with this code, since it was started last. */
  ended: number | undefined;
  private readonly program: string;
  /** What stands before `node`, such as `ip netns exec NAMESPACE`. */
  private readonly within: readonly string[];
  private child: ChildProcess | undefined;
  private exited: Promise<number | null> = Promise.resolve(null);
  private readonly waiting = new Map<number, (value: unknown) => void>();
  private number = 0;
  private log: string[] = [];

  /** `program`: compiled, beside the CLI. */
  constructor(program: string, settings: Settings, within: readonly string[]) {
    this.name = settings.name;
    this.program = join(dirname(CLI), program);
    this.settings = settings;
    this.within = within;
  }

  get isRunning(): boolean {
    return this.child !== undefined && this.ended === undefined;
  }

  async start(): Promise<void> {
    const [file, ...args] = [...this.within, process.execPath, this.program, JSON.stringify(this.settings)];
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
        const line = JSON.parse(text) as Line;
        if ('ready' in line) done(true);
        else if ('told' in line) this.onTold(line.told);
        else this.take(line.answer, line.value);
      });
    });
    const guard = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
    const isReady = await Promise.race([ready, this.exited.then(() => false)]);
    clearTimeout(guard);
    if (!isReady) throw new Error(`${this.name} did not start:\n${this.words()}`);
  }

  /** What it tells without being asked. */
  protected onTold(_told: unknown): void {}

  /** One that dies meanwhile does not answer. */
  tell<K extends keyof C & string>(name: K, input: C[K]['with']): Promise<C[K]['gives']> {
    const number = ++this.number;
    return new Promise((done, fail) => {
      const guard = setTimeout(() => {
        this.waiting.delete(number);
        fail(new Error(`${this.name} does not answer ${name}:\n${this.words()}`));
      }, ANSWER_TIMEOUT_MS);
      this.waiting.set(number, value => {
        clearTimeout(guard);
        done(value as C[K]['gives']);
      });
      this.child!.stdin!.write(`${JSON.stringify({ number, name, input })}\n`);
    });
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.child?.kill(signal);
  }

  async kill9(): Promise<void> {
    this.child?.kill('SIGKILL');
    await this.exited;
    this.child = undefined;
  }

  /** In order; its exit code. Killed after `timeoutMs`. */
  protected async terminate(timeoutMs: number): Promise<number | null> {
    const { child } = this;
    if (child === undefined) return 0;
    child.kill('SIGTERM');
    const guard = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const code = await this.exited;
    clearTimeout(guard);
    this.child = undefined;
    return code;
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
