import { InvalidArgumentError } from 'commander';
import { ShoalError } from '../base/errors.js';

/** What the commands of the replicated storage are given. */

/** @throws InvalidArgumentError. */
export function wholeNumber(words: string): number {
  if (!/^\d{1,15}$/.test(words)) throw new InvalidArgumentError('It takes a whole number.');
  return Number(words);
}

/**
 * One more of `voters=5`.
 *
 * @throws InvalidArgumentError.
 */
export function addRule(entry: string, rules: Readonly<Record<string, number>> = {}): Record<string, number> {
  const [, name, digits] = /^([A-Za-z]+)=(-?\d+(?:\.\d+)?)$/.exec(entry) ?? [];
  if (name === undefined)
    throw new InvalidArgumentError('It takes RULE=NUMBER; "shoalmq kv rules" lists them.');
  if (Object.hasOwn(rules, name)) throw new InvalidArgumentError('That rule is named twice.');
  return { ...rules, [name]: Number(digits) };
}

/**
 * All of a stream, byte for byte.
 *
 * @throws ShoalError SHOAL_ADMIN_REFUSED when it has more than `bytesMax`.
 */
export async function readAll(input: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of input) {
    size += chunk.length;
    if (size > bytesMax)
      throw new ShoalError('SHOAL_ADMIN_REFUSED', `standard input has more than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
