import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { createLog } from '../../src/node/log.js';

function written(stream: PassThrough): string {
  return String(stream.read() ?? '');
}

it('writes JSON lines with the thread, from the configured level on', () => {
  const stream = new PassThrough();
  const log = createLog({ level: 'info', format: 'json' }, 'mqtt-1', stream);
  log.debug({}, 'unseen');
  log.info({ port: 1 }, 'listening');
  const lines = written(stream).trim().split('\n');
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0]!)).toMatchObject({ thread: 'mqtt-1', port: 1, msg: 'listening', level: 30 });
});

it('writes text for people when asked to', async () => {
  const stream = new PassThrough();
  createLog({ level: 'warn', format: 'pretty' }, 'main', stream).warn({ reason: 'x' }, 'slow disk');
  await new Promise(setImmediate);
  expect(written(stream)).toMatch(/WARN.*slow disk/);
});

it('is silent when told so', () => {
  const stream = new PassThrough();
  createLog({ level: 'silent', format: 'json' }, 'main', stream).error({}, 'x');
  expect(written(stream)).toBe('');
});
