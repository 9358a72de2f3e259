import { destination, type Logger, pino } from 'pino';
import pretty from 'pino-pretty';
import type { Log } from '../base/env.js';
import type { Config } from './config.js';

const STDERR = 2;

/**
 * The log of one thread, on standard error: standard output is left to what a command was asked to print.
 *
 * Writes are synchronous, so that the last words before a crash are not lost and lines of several threads do
 * not mix; nothing on the data path logs per message. `thread` names the writer in every entry.
 *
 * @param stream for tests; JSON lines or, when the format is pretty, coloured text are written to it.
 */
export function createLog(settings: Config['log'], thread: string, stream?: NodeJS.WritableStream): Log {
  const isPretty = settings.format === 'pretty' || (settings.format === 'auto' && process.stderr.isTTY);
  const sink = stream ?? destination({ fd: STDERR, sync: true });
  const target = isPretty
    ? pretty({
        destination: sink,
        sync: true,
        colorize: process.stderr.isTTY,
        ignore: 'pid,hostname',
        translateTime: 'SYS:HH:MM:ss.l',
      })
    : sink;
  const logger: Logger = pino({ level: settings.level, base: { thread } }, target);
  return logger;
}
