import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import type { z } from 'zod';
import { ShoalError } from '../base/errors.js';
import { resolveCluster } from './cluster-config.js';
import { allowedText, type ConfigLeaf, configLeaves, unknownKeyText } from './config-keys.js';
import { configSchema, SECRET_KEYS } from './config-schema.js';
import { type Given, readAssignments, readEnvironment, readYaml } from './config-sources.js';
import { resolveHosts } from './security.js';

/** The effective configuration: complete, valid and structured-cloneable. */
export type Config = z.infer<typeof configSchema>;

export interface ConfigInput {
  /** Path of a YAML file. */
  readonly file?: string | undefined;
  /** `key=value` assignments, the last one for a key wins. */
  readonly set: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

const FILE_BYTES_MAX = 1024 * 1024;

/** The same with `(not shown)` in place of secrets: for printing. */
export function withoutSecrets(config: Config): Config {
  const { key, previousKey, ...cluster } = config.cluster;
  const hidden = {
    ...(key === undefined ? {} : { key: '(not shown)' }),
    ...(previousKey === undefined ? {} : { previousKey: '(not shown)' }),
  };
  return { ...config, cluster: { ...cluster, ...hidden } };
}

/** Everything at its default; `auto` is not yet replaced. */
export function defaultConfig(): Config {
  return configSchema.parse({});
}

/**
 * The effective configuration: defaults, overridden by the file, then by the environment, then by assignments.
 * `node.name` and the hosts are resolved. Every value given is checked, also one that is overridden later.
 *
 * @throws ShoalError SHOAL_CONFIG_UNREADABLE for the file, SHOAL_CONFIG_INVALID naming all faults at once.
 */
export function loadConfig(input: ConfigInput): Config {
  const faults: string[] = [];
  const given: Given[] = [];
  if (input.file !== undefined) given.push(...readYaml(input.file, readConfigFile(input.file), faults));
  given.push(...readEnvironment(input.env, faults), ...readAssignments(input.set, faults));

  const leaves = configLeaves();
  const effective = new Map<string, { value: unknown; source: string }>();
  for (const entry of given) {
    const leaf = leaves.get(entry.key);
    if (!leaf) {
      faults.push(unknownKeyText(entry.key, entry.source));
      continue;
    }
    const outcome = check(leaf, entry);
    if (outcome.kind === 'fault') faults.push(outcome.text);
    else effective.set(entry.key, { value: outcome.value, source: entry.source });
  }
  failOn(faults);

  const config = configSchema.parse(nest(effective));
  if (config.node.name === 'auto') config.node.name = hostname();
  resolveHosts(config);
  resolveCluster(config, key => effective.get(key)?.source, faults);
  crossCheck(config, key => effective.get(key)?.source ?? 'the default', faults);
  failOn(faults);
  return config;
}

function failOn(faults: readonly string[]): void {
  if (faults.length > 0) throw new ShoalError('SHOAL_CONFIG_INVALID', faults.join('; '));
}

function readConfigFile(file: string): string {
  try {
    if (statSync(file).size > FILE_BYTES_MAX) throw new Error(`it is larger than ${FILE_BYTES_MAX} bytes`);
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_CONFIG_UNREADABLE', `cannot read ${file}: ${reason}`, { cause });
  }
}

type Outcome = { kind: 'value'; value: unknown } | { kind: 'fault'; text: string };

/** Text from the environment or an assignment is taken for the first reading of it that the key allows. */
function check(leaf: ConfigLeaf, { value, readings, source }: Given): Outcome {
  for (const reading of readings) {
    const parsed = leaf.schema.safeParse(reading);
    if (parsed.success) return { kind: 'value', value: parsed.data };
  }
  const shown = SECRET_KEYS.has(leaf.key) ? '(not shown)' : JSON.stringify(value)?.slice(0, 200);
  return { kind: 'fault', text: `${leaf.key} is ${shown} (from ${source}), allowed is ${allowedText(leaf)}` };
}

function nest(effective: ReadonlyMap<string, { value: unknown }>): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  for (const [key, { value }] of effective) {
    const path = key.split('.');
    const last = path.pop()!;
    let at = root;
    for (const name of path) at = (at[name] ??= {}) as Record<string, unknown>;
    at[last] = value;
  }
  return root;
}

/** What no single key can tell. */
function crossCheck(config: Config, sourceOf: (key: string) => string, faults: string[]): void {
  const { listeners, auth, limits, features } = config;
  for (const kind of ['tls', 'wss'] as const) {
    const listener = listeners[kind];
    if (!listener.enabled) continue;
    for (const name of ['certFile', 'keyFile'] as const) {
      if (listener[name] === undefined) {
        faults.push(
          `listeners.${kind}.${name} is missing, listeners.${kind}.enabled (from ${sourceOf(`listeners.${kind}.enabled`)}) needs it`,
        );
      }
    }
  }
  const { tls } = listeners;
  const certificates = tls.enabled && tls.clientCertificate !== 'off';
  if (certificates && tls.caFile === undefined) {
    faults.push(
      `listeners.tls.caFile is missing, listeners.tls.clientCertificate is "${tls.clientCertificate}" (from ${sourceOf('listeners.tls.clientCertificate')})`,
    );
  }
  if (auth.anonymous === false && !auth.passwordFile && !auth.plugin && !certificates) {
    faults.push(
      `auth.anonymous is false (from ${sourceOf('auth.anonymous')}) while neither auth.passwordFile nor auth.plugin is set, so nobody could connect`,
    );
  }
  if (limits.connectBytesMax > limits.packetBytesMax) {
    const source = sourceOf('limits.connectBytesMax');
    if (source === 'the default') limits.connectBytesMax = limits.packetBytesMax;
    else faults.push(`limits.connectBytesMax (from ${source}) is above limits.packetBytesMax`);
  }
  if (!features.mqtt31 && !features.mqtt311 && !features.mqtt5) {
    faults.push(
      'features.mqtt31, features.mqtt311 and features.mqtt5 are all false, allowed is at least one true',
    );
  }
}
