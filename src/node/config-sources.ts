import { isAlias, isMap, isScalar, LineCounter, type Node, parse, parseDocument } from 'yaml';
import { ShoalError } from '../base/errors.js';
import { configLeaves } from './config-keys.js';

/** A value that somebody gave for a key, not yet checked. */
export interface Given {
  /** Dotted key; it may not exist. */
  readonly key: string;
  /** As written, for messages. */
  readonly value: unknown;
  /** What it may stand for, likeliest first. */
  readonly readings: readonly unknown[];
  /** For messages: "shoalmq.yaml line 3", "SHOALMQ_NODE__NAME", "--set". */
  readonly source: string;
}

const ENV_PREFIX = 'SHOALMQ_';
const DEPTH_MAX = 8;

/**
 * Values of a YAML file. An empty section is the same as none. Faults of structure go to `faults`.
 *
 * @throws ShoalError SHOAL_CONFIG_UNREADABLE when it is not YAML.
 */
export function readYaml(file: string, text: string, faults: string[]): Given[] {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const error = document.errors[0];
  if (error) {
    const { line } = lines.linePos(error.pos[0]);
    throw new ShoalError('SHOAL_CONFIG_UNREADABLE', `${file} line ${line}: ${error.message}`);
  }
  const given: Given[] = [];
  const leaves = configLeaves();
  const visit = (prefix: string, raw: unknown, line: number, depth: number): void => {
    const node = isAlias(raw) ? raw.resolve(document) : (raw as Node | null | undefined);
    const source = `${file} line ${line}`;
    if (node === null || node === undefined || (isScalar(node) && node.value === null)) return;
    if (isMap(node) && !leaves.has(prefix) && depth < DEPTH_MAX) {
      for (const { key, value } of node.items) {
        const name = String(isScalar(key) ? key.value : key);
        const start = isScalar(key) ? (key.range?.[0] ?? 0) : 0;
        visit(prefix === '' ? name : `${prefix}.${name}`, value, lines.linePos(start).line, depth + 1);
      }
      return;
    }
    const value: unknown = node.toJS(document);
    if (prefix === '')
      faults.push(`${file} is ${JSON.stringify(value)?.slice(0, 100)}, allowed is a mapping of keys`);
    else if (isSection(prefix)) {
      faults.push(
        `${prefix} is ${JSON.stringify(value)?.slice(0, 100)} (from ${source}), allowed is a section of keys`,
      );
    } else given.push({ key: prefix, value, readings: [value], source });
  };
  visit('', document.contents, 1, 0);
  return given;
}

function isSection(key: string): boolean {
  for (const leaf of configLeaves().keys()) if (leaf.startsWith(`${key}.`)) return true;
  return false;
}

/**
 * Values of the environment: `SHOALMQ_LISTENERS__TCP__PORT` is `listeners.tcp.port`, letters of either case.
 * A variable without `__` is not ours (container platforms make `SHOALMQ_PORT` and the like for a service of
 * this name), unless it is a key of ours with an underscore forgotten.
 */
export function readEnvironment(env: NodeJS.ProcessEnv, faults: string[]): Given[] {
  const byFlatName = new Map([...configLeaves().keys()].map(key => [key.toLowerCase(), key]));
  const byLetters = new Map([...byFlatName].map(([flat, key]) => [flat.replaceAll('.', ''), key]));
  const given: Given[] = [];
  for (const [variable, value] of Object.entries(env)) {
    if (value === undefined || !variable.toUpperCase().startsWith(ENV_PREFIX)) continue;
    const rest = variable.slice(ENV_PREFIX.length).toLowerCase();
    const flat = rest.replaceAll('__', '.');
    const key = byFlatName.get(flat);
    if (key !== undefined) given.push({ key, value, readings: readingsOf(value), source: variable });
    else {
      const meant = byLetters.get(rest.replaceAll('_', ''));
      if (meant !== undefined) faults.push(`${variable} is not a key, did you mean ${variableOf(meant)}?`);
      else if (rest.includes('__')) given.push({ key: flat, value, readings: [value], source: variable });
    }
  }
  return given;
}

/** The environment variable of a key. */
export function variableOf(key: string): string {
  return ENV_PREFIX + key.replaceAll('.', '__').toUpperCase();
}

/** Values of `--set key=value`. */
export function readAssignments(assignments: readonly string[], faults: string[]): Given[] {
  const given: Given[] = [];
  for (const assignment of assignments) {
    const at = assignment.indexOf('=');
    if (at <= 0) {
      faults.push(`--set ${JSON.stringify(assignment)} is not of the form key=value`);
      continue;
    }
    const value = assignment.slice(at + 1);
    given.push({ key: assignment.slice(0, at).trim(), value, readings: readingsOf(value), source: '--set' });
  }
  return given;
}

/** Text as it stands, as a YAML value, and as a list separated by commas, of values or of texts. */
function readingsOf(text: string): unknown[] {
  const parts = text.split(',').map(part => part.trim());
  return [text, scalar(text), parts.map(scalar), parts];
}

function scalar(text: string): unknown {
  try {
    return parse(text, { logLevel: 'error' });
  } catch {
    return text;
  }
}
