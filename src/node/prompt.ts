import { StringDecoder } from 'node:string_decoder';
import type { ReadStream } from 'node:tty';
import { ShoalError } from '../base/errors.js';

/** Room for the longest password that a CONNECT can carry, and its line end. */
const INPUT_BYTES_MAX = 65_535 + 2;

const CONTROL_C = '\u0003';
const CONTROL_D = '\u0004';
const BACKSPACES = ['\u007f', '\b'];

/** What is typed at a terminal up to the line end, shown by nothing; undefined when the user gives up (^C, ^D). */
export function promptHidden(
  question: string,
  input: ReadStream,
  output: NodeJS.WritableStream,
): Promise<string | undefined> {
  // Before the question, so that whoever answers quickly is not shown.
  input.setRawMode(true);
  input.resume();
  output.write(question);
  return new Promise(resolve => {
    const decoder = new StringDecoder('utf8');
    let typed: string[] = [];
    const finish = (answer: string | undefined) => {
      input.off('data', onData);
      input.setRawMode(false);
      input.pause();
      output.write('\n');
      resolve(answer);
    };
    const onData = (chunk: Buffer) => {
      for (const character of decoder.write(chunk)) {
        if (character === '\r' || character === '\n') return finish(typed.join(''));
        if (character === CONTROL_C || character === CONTROL_D) return finish(undefined);
        if (BACKSPACES.includes(character)) typed.pop();
        else if (character === '\u0015') typed = [];
        else if (typed.length < INPUT_BYTES_MAX) typed.push(character);
      }
    };
    input.on('data', onData);
  });
}

/**
 * The first line of a stream.
 *
 * @throws ShoalError SHOAL_AUTH_FILE when it is longer than any password.
 */
export async function readLine(input: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of input) {
    const bytes = Buffer.from(chunk);
    const end = bytes.indexOf(0x0a);
    chunks.push(end < 0 ? bytes : bytes.subarray(0, end));
    size += chunks.at(-1)!.length;
    if (size > INPUT_BYTES_MAX) throw new ShoalError('SHOAL_AUTH_FILE', 'the password is too long');
    if (end >= 0) break;
  }
  return Buffer.concat(chunks).toString('utf8').replace(/\r$/, '');
}
