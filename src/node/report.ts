import { ShoalError } from '../base/errors.js';

/** One line on standard error, in the command's name. */
export function complain(line: string): void {
  process.stderr.write(`shoalmq: ${line}\n`);
}

/** A coded error in one line with its remedy; anything else is a bug of ours and comes with its stack. */
export function report(error: unknown): void {
  if (error instanceof ShoalError) complain(`${error.code}: ${error.message}. Remedy: ${error.remedy}`);
  else
    complain(`unexpected failure, please report it: ${error instanceof Error ? error.stack : String(error)}`);
}
