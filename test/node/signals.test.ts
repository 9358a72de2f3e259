import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, expect, it } from 'vitest';
import { RunningCommand } from '../cli/command.js';

const MODULE = new URL('../../dist/src/node/signals.js', import.meta.url);
const QUIET = '{ debug() {}, info() {}, warn() {}, error() {} }';
const HANGS = '() => new Promise(() => {})';

let command: RunningCommand | undefined;
afterEach(() => command?.kill());

/** A process that does nothing but wait for signals; `stop` is source text. */
async function waiting(stop: string, timeoutMs: number, within: string[] = []): Promise<RunningCommand> {
  expect(existsSync(MODULE), 'the build comes before the tests').toBe(true);
  const source = `import { stopOnSignal } from '${MODULE}';
    stopOnSignal(${stop}, ${timeoutMs}, ${QUIET});
    setInterval(() => {}, 1000);
    process.on('SIGTERM', () => process.stdout.write('term'));
    process.stdout.write('ready');`;
  const [file, ...args] = [...within, process.execPath, '--input-type=module', '-e', source];
  command = new RunningCommand(file!, args, tmpdir());
  await command.waitFor(/ready/);
  return command;
}

it('exits with 0 when the stop is done', async () => {
  const running = await waiting('async () => {}', 5000);
  running.child.kill('SIGTERM');
  expect(await running.outcome()).toMatchObject({ code: 0, stderr: '' });
});

it('kills itself, with a line, when the stop takes too long', async () => {
  const running = await waiting(HANGS, 100);
  running.child.kill('SIGINT');
  const { signal, stderr } = await running.outcome();
  expect(signal).toBe('SIGKILL');
  expect(stderr).toMatch(/^shoalmq: not stopped within shutdown\.timeoutMs \(100\)[^\n]*\n$/);
});

it('exits with 1 when the stop fails', async () => {
  const running = await waiting("async () => { throw new Error('disk') }", 5000);
  running.child.kill('SIGTERM');
  expect(await running.outcome()).toMatchObject({ code: 1, stderr: expect.stringContaining('disk') });
});

it.each(['SIGTERM', 'SIGINT'] as const)('dies at once by a second signal, %s', async signal => {
  const running = await waiting(HANGS, 60_000);
  running.child.kill('SIGTERM');
  await running.waitFor(/term/);
  running.child.kill(signal);
  await running.outcome();
  expect(running.child.signalCode).toBe(signal);
});

const AS_FIRST = ['unshare', '--pid', '--fork', '--kill-child'];
const mayUnshare = spawnSync(AS_FIRST[0]!, [...AS_FIRST.slice(1), 'true']).status === 0;

it.runIf(mayUnshare)(
  'ends also as the first process of a container, which no signal of its own kills',
  async () => {
    const running = await waiting(HANGS, 100, AS_FIRST);
    const outer = running.child.pid!;
    const inner = Number(readFileSync(`/proc/${outer}/task/${outer}/children`, 'utf8'));
    process.kill(inner, 'SIGTERM');
    const { code, signal, stderr } = await running.outcome();
    expect(stderr).toContain('not stopped within shutdown.timeoutMs (100)');
    expect(signal ?? code).not.toBe(0);
  },
);
