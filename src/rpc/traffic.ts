import { assert } from '../base/assert.js';
import { GroupWeight } from '../schema/gen/group-weight.js';
import { TrafficDirective } from '../schema/gen/traffic-directive.js';
import { isGroup } from './announcement.js';
import { table } from './table.js';

/** The servers that name no group; as a group in a directive it is written ''. */
export const UNTAGGED = '';
export const GROUP_WEIGHT_MAX = 10;
export const DIRECTIVES_MAX = 10_000;
export const DIRECTIVE_GROUPS_MAX = 64;
export const TENANT_PREFIX_LENGTH_MAX = 240;

/** Where the calls of tenants go whose ids begin with `prefix`. */
export interface Directive {
  readonly prefix: string;
  /** Group → integer weight from 0 to 10; groups that it does not name get nothing. */
  readonly weights: Readonly<Record<string, number>>;
}

interface TrieNode {
  directive: Directive | undefined;
  /** By UTF-16 code unit; undefined while it has none. */
  next: Map<number, TrieNode> | undefined;
}

/** The directives of one service, found by the longest prefix in a walk along the tenant's id. */
export class Directives {
  private readonly root: TrieNode = { directive: undefined, next: undefined };
  private readonly byPrefix = new Map<string, Directive>();

  /** Sorted by prefix. */
  all(): Directive[] {
    return [...this.byPrefix.values()].sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
  }

  get isFull(): boolean {
    return this.byPrefix.size >= DIRECTIVES_MAX;
  }

  get(prefix: string): Directive | undefined {
    return this.byPrefix.get(prefix);
  }

  /** False when there are too many already. */
  set(directive: Directive): boolean {
    const { prefix } = directive;
    if (this.isFull && !this.byPrefix.has(prefix)) return false;
    this.byPrefix.set(prefix, directive);
    let node = this.root;
    for (let i = 0; i < prefix.length; i++) {
      const unit = prefix.charCodeAt(i);
      node.next ??= new Map();
      let child = node.next.get(unit);
      if (child === undefined) {
        child = { directive: undefined, next: undefined };
        node.next.set(unit, child);
      }
      node = child;
    }
    node.directive = directive;
    return true;
  }

  delete(prefix: string): void {
    if (this.byPrefix.delete(prefix)) removeFrom(this.root, prefix, 0);
  }

  /** The one with the longest prefix of the tenant's id. */
  find(tenant: string): Directive | undefined {
    let node: TrieNode | undefined = this.root;
    let found = node.directive;
    for (let i = 0; i < tenant.length; i++) {
      node = node.next?.get(tenant.charCodeAt(i));
      if (node === undefined) break;
      found = node.directive ?? found;
    }
    return found;
  }
}

/** Whether the node is empty afterwards. Recursion is as deep as a prefix is long. */
function removeFrom(node: TrieNode, prefix: string, at: number): boolean {
  if (at === prefix.length) node.directive = undefined;
  else {
    const unit = prefix.charCodeAt(at);
    const child = node.next?.get(unit);
    if (child !== undefined && removeFrom(child, prefix, at + 1)) node.next!.delete(unit);
  }
  if (node.next?.size === 0) node.next = undefined;
  return node.directive === undefined && node.next === undefined;
}

const KEY_PREFIX = 'tenant:';

export function isTenantPrefix(value: unknown): value is string {
  return typeof value === 'string' && value.length <= TENANT_PREFIX_LENGTH_MAX;
}

/** Directives are entries of a shared map; `src/schema/rpc.fbs` has the layout of their values. */
export function directiveKey(prefix: string): string {
  assert(isTenantPrefix(prefix), 'prefixes are checked where they come from');
  return KEY_PREFIX + prefix;
}

/** Undefined for a key of something else. */
export function prefixOf(key: string): string | undefined {
  if (!key.startsWith(KEY_PREFIX)) return undefined;
  const prefix = key.slice(KEY_PREFIX.length);
  return isTenantPrefix(prefix) ? prefix : undefined;
}

const weightsCodec = table<Directive['weights']>({
  write(builder, weights) {
    const parts = Object.entries(weights).map(([group, weight]) =>
      GroupWeight.createGroupWeight(builder, group === UNTAGGED ? 0 : builder.createString(group), weight),
    );
    const vector = TrafficDirective.createWeightsVector(builder, parts);
    return TrafficDirective.createTrafficDirective(builder, vector);
  },

  read(buffer) {
    const found = TrafficDirective.getRootAsTrafficDirective(buffer);
    const count = found.weightsLength();
    if (count > DIRECTIVE_GROUPS_MAX) return undefined;
    const parts = Array.from({ length: count }, (_, at) => {
      const part = found.weights(at);
      return [part?.group() ?? UNTAGGED, part?.weight() ?? 0] as const;
    });
    const weights = Object.fromEntries(parts);
    return isWeights(weights) ? weights : undefined;
  },
});

/** Fresh bytes. */
export function encodeWeights(weights: Directive['weights']): Uint8Array {
  assert(isWeights(weights), 'weights are checked where they come from');
  return weightsCodec.encode(weights);
}

/** Undefined for what is none. Never throws. */
export function decodeWeights(bytes: Uint8Array): Directive['weights'] | undefined {
  return weightsCodec.decode(bytes);
}

/** At least one group and at most 64, each with an integer from 0 to 10. */
export function isWeights(value: unknown): value is Directive['weights'] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const entries = Object.entries(value);
  return (
    entries.length > 0 &&
    entries.length <= DIRECTIVE_GROUPS_MAX &&
    entries.every(
      ([group, weight]) =>
        (group === UNTAGGED || isGroup(group)) &&
        Number.isInteger(weight) &&
        weight >= 0 &&
        weight <= GROUP_WEIGHT_MAX,
    )
  );
}
