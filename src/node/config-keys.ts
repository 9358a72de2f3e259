import { z } from 'zod';
import { configSchema } from './config-schema.js';

/**
 * The keys of the configuration as a flat list, derived from the schema: for the README's table, for
 * `shoalmq config-keys`, and for error messages that say what is allowed.
 */

/** One key that takes a value. */
export interface ConfigLeaf {
  readonly key: string;
  readonly schema: z.ZodType;
}

/** One line of the configuration table. */
export interface Row {
  readonly key: string;
  readonly type: string;
  /** As it would be written in YAML; empty when there is none. */
  readonly default: string;
  readonly meaning: string;
}

/** The part of JSON Schema that our keys use. */
interface JsonType {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonType[];
  items?: JsonType;
  minimum?: number;
  maximum?: number;
  pattern?: string;
  description?: string;
  default?: unknown;
}

let cached: ReadonlyMap<string, ConfigLeaf> | undefined;

/** Every key, in the order of declaration. */
export function configLeaves(): ReadonlyMap<string, ConfigLeaf> {
  cached ??= new Map(walk('', configSchema).map(leaf => [leaf.key, leaf]));
  return cached;
}

function walk(prefix: string, schema: z.ZodType): ConfigLeaf[] {
  const section = schema instanceof z.ZodPrefault ? schema.unwrap() : schema;
  if (!(section instanceof z.ZodObject)) return [{ key: prefix, schema }];
  return Object.entries(section.shape as Record<string, z.ZodType>).flatMap(([name, inner]) =>
    walk(prefix === '' ? name : `${prefix}.${name}`, inner),
  );
}

/** The table of all keys. */
export function configTable(): Row[] {
  return [...configLeaves().values()].map(leaf => {
    const json = jsonType(leaf);
    return {
      key: leaf.key,
      type: typeText(json),
      default: json.default === undefined ? '' : plain(json.default),
      meaning: json.description ?? '',
    };
  });
}

/** What the key takes, in words. */
export function allowedText(leaf: ConfigLeaf): string {
  return typeText(jsonType(leaf));
}

function jsonType(leaf: ConfigLeaf): JsonType {
  return z.toJSONSchema(leaf.schema, { io: 'input' }) as JsonType;
}

function typeText(json: JsonType): string {
  if (json.anyOf) return json.anyOf.map(typeText).join(', or ');
  if (json.const !== undefined) return plain(json.const);
  if (json.enum) return json.enum.map(plain).join(' | ');
  if (json.type === 'boolean') return 'true | false';
  if (json.type === 'integer') return `a whole number ${json.minimum} to ${json.maximum}`;
  if (json.type === 'array') return `a list, each ${typeText(json.items ?? {})}`;
  return json.pattern ? `text that matches ${json.pattern}` : 'text';
}

function plain(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Says that a key does not exist, and which one may be meant. */
export function unknownKeyText(key: string, source: string): string {
  const near = nearest(key, [...configLeaves().keys()]);
  return `${key} (from ${source}) is not a key${near === undefined ? '' : `, did you mean ${near}?`}`;
}

/** The candidate with the fewest edits, when they are few for its length; or one that only lacks its section. */
function nearest(key: string, candidates: readonly string[]): string | undefined {
  const wanted = key.toLowerCase().slice(0, 100);
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(wanted.length / 5)) + 1;
  for (const candidate of candidates) {
    const lower = candidate.toLowerCase();
    if (wanted.length > 3 && lower.endsWith(`.${wanted}`)) return candidate;
    const distance = edits(wanted, lower);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein distance. */
function edits(left: string, right: string): number {
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const replaced = previous[column - 1]! + (left[row - 1] === right[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, previous[column]! + 1, current[column - 1]! + 1));
    }
    previous = current;
  }
  return previous[right.length]!;
}
