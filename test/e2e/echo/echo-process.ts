/** A process that serves and calls `echo`, as a test drives it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { CommandName, Commands, EchoSettings, Line, Told } from './echo-service.js';

const CLI = resolve(process.env.SHOALMQ_CLI ?? 'dist/cli.js');
const PROGRAM = join(dirname(CLI), 'test/e2e/echo/echo-node.js');
const START_TIMEOUT_MS = 30_000;
/** It drains for five seconds at the most. */
const STOP_TIMEOUT_MS = 15_000;
const ANSWER_TIMEOUT_MS = 40_000;
const LOG_LINES_MAX = 200;

export class EchoProcess {
  readonly name: string;
  /** What its underlay has told since it was started last. */
  told: Told[] = [];
  starts = 0;
  private readonly settings: EchoSettings;
  /** What stands before `node`, such as `ip netns exec NAMESPACE`. */
  private readonly within: readonly string[];
  private child: ChildProcess | undefined;
  private exited: Promise<number | null> = Promise.resolve(null);
  private readonly waiting = new Map<number, (value: unknown) => void>();
  private number = 0;
  private log: string[] = [];

  constructor(settings: EchoSettings, within: readonly string[] = []) {
    this.name = settings.name;
    this.settings = settings;
    this.within = within;
  }

  get isRunning(): boolean {
    return this.child !== undefined;
  }

  /** Of its server; another one after each start. */
  get serverId(): string {
    return `${this.name}-${this.starts}`;
  }

  async start(): Promise<void> {
    const [file, ...args] = [...this.within, process.execPath, PROGRAM, JSON.stringify(this.settings)];
    const child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child = child;
    this.told = [];
    this.starts++;
    this.exited = new Promise(done => child.once('exit', code => done(code)));
    // A command on its way to one that dies.
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stderr }).on('line', line => this.keep(line));
    const ready = new Promise<boolean>(done => {
      createInterface({ input: child.stdout }).on('line', text => {
        const line = JSON.parse(text) as Line;
        if ('ready' in line) done(true);
        else if ('told' in line) this.told.push(line.told);
        else this.take(line.answer, line.value);
      });
    });
    const guard = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
    const isReady = await Promise.race([ready, this.exited.then(() => false)]);
    clearTimeout(guard);
    if (!isReady) throw new Error(`${this.name} did not start:\n${this.words()}`);
  }

  /** One that dies meanwhile does not answer. */
  tell<K extends CommandName>(name: K, input: Commands[K]['with']): Promise<Commands[K]['gives']> {
    const number = ++this.number;
    return new Promise((done, fail) => {
      const guard = setTimeout(() => {
        this.waiting.delete(number);
        fail(new Error(`${this.name} does not answer ${name}:\n${this.words()}`));
      }, ANSWER_TIMEOUT_MS);
      this.waiting.set(number, value => {
        clearTimeout(guard);
        done(value as Commands[K]['gives']);
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

  /** In order; its exit code. */
  async stop(): Promise<number | null> {
    const { child } = this;
    if (child === undefined) return 0;
    child.kill('SIGTERM');
    const guard = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    const code = await this.exited;
    clearTimeout(guard);
    this.child = undefined;
    return code;
  }

  /** Requests of `once` that it has carried out, over all its lives. */
  carriedOut(): string[] {
    return readFileSync(this.settings.journal, 'utf8').split('\n').filter(Boolean);
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
