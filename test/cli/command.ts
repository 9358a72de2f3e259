import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** The built command; `npm test` builds it first. */
export const COMMAND = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running `shoalmq`; what it writes is collected. */
export class RunningCommand {
  stdout = '';
  stderr = '';
  readonly child: ChildProcessWithoutNullStreams;
  private readonly ended: Promise<Outcome>;

  constructor(file: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(file, args, { cwd, env: { PATH: process.env.PATH, ...env } });
    this.child.stdout.setEncoding('utf8').on('data', chunk => (this.stdout += chunk));
    this.child.stderr.setEncoding('utf8').on('data', chunk => (this.stderr += chunk));
    this.ended = once(this.child, 'close').then(([code, signal]) => {
      const { stdout, stderr } = this;
      return { code, signal, stdout, stderr };
    });
  }

  /** Resolves when `pattern` has appeared on standard output (or error); throws when the command ends before. */
  async waitFor(pattern: RegExp, stream: 'stdout' | 'stderr' = 'stdout'): Promise<void> {
    const source = this.child[stream];
    while (!pattern.test(this[stream])) {
      const over = await Promise.race([once(source, 'data').then(() => false), this.ended.then(() => true)]);
      if (over) throw new Error(`ended without ${pattern}: ${this.stdout}${this.stderr}`);
    }
  }

  outcome(): Promise<Outcome> {
    return this.ended;
  }

  /** For `afterEach`: nothing outlives its test. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}
