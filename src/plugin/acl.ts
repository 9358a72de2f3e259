import { ShoalError } from '../base/errors.js';
import { joinLogin } from './credentials.js';
import type { Authorizer, Identity } from './plugin.js';

/**
 * The ACL file, close to mosquitto's so that one can be carried over:
 *
 *     # clients without a user name (everything before the first "user")
 *     topic read public/#
 *
 *     user alice
 *     topic readwrite home/alice/#
 *     topic deny home/alice/secret/#
 *     topic write log/alice
 *
 *     user acme/bob                      user bob of tenant acme
 *     topic #                            no word is readwrite
 *
 *     # every client; %u is its user name, %c its client id
 *     pattern readwrite device/%c/#
 *
 * What no line allows is forbidden, and `deny` wins over everything. Rules never reach into another tenant:
 * topics are the tenant's own.
 *
 * Differences from mosquitto: a subscription is allowed only when a single `read` line covers its whole filter
 * and no `deny` line touches it, so deliveries need no check of their own (mosquitto lets one subscribe to `#`
 * and filters what is delivered). A name with `/`, `+` or `#` in it could reach beyond its place through `%u`
 * or `%c`: for such a client an allowing pattern that names it is left out, and a denying one is widened to
 * everything from there on.
 */

const READ = 1;
const WRITE = 2;
const DENY = 4;

const ACCESS: ReadonlyMap<string, number> = new Map([
  ['read', READ],
  ['write', WRITE],
  ['readwrite', READ | WRITE],
  ['deny', DENY],
]);

interface Rule {
  readonly access: number;
  readonly filter: string;
  readonly levels: readonly string[];
}

/** A file, read. */
export interface Acl {
  readonly anonymous: readonly Rule[];
  readonly users: ReadonlyMap<string, readonly Rule[]>;
  readonly patterns: readonly Rule[];
}

/**
 * Reads an ACL file.
 *
 * @throws ShoalError SHOAL_AUTH_FILE naming file and line.
 */
export function parseAcl(text: string, file: string): Acl {
  const anonymous: Rule[] = [];
  const users = new Map<string, Rule[]>();
  const patterns: Rule[] = [];
  let section = anonymous;
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index]!.trim();
    if (line === '' || line.startsWith('#')) continue;
    const fault = (message: string) =>
      new ShoalError('SHOAL_AUTH_FILE', `${file} line ${index + 1}: ${message}`);
    const [, word, rest] = /^(\S+)\s*(.*)$/.exec(line)!;
    if (rest === '') throw fault(`nothing after "${word}"`);
    if (word === 'user') {
      section = users.get(rest!) ?? [];
      users.set(rest!, section);
    } else if (word === 'topic' || word === 'pattern') {
      const rule = parseRule(rest!);
      if (typeof rule === 'string') throw fault(rule);
      (word === 'topic' ? section : patterns).push(rule);
    } else throw fault(`"${word!.slice(0, 40)}" is not one of user, topic, pattern`);
  }
  return { anonymous, users, patterns };
}

function parseRule(text: string): Rule | string {
  const [, word, rest] = /^(\S+)\s*(.*)$/.exec(text)!;
  const access = ACCESS.get(word!);
  if (access !== undefined && rest === '') return `no filter after "${word}"`;
  const filter = access === undefined ? text : rest!;
  const levels = filter.split('/');
  for (let at = 0; at < levels.length; at += 1) {
    const level = levels[at]!;
    const isWild = level.includes('+') || level.includes('#');
    if (isWild && level.length > 1) return `"${level}" mixes a wildcard with text`;
    if (level === '#' && at < levels.length - 1) return '"#" is not the last level';
  }
  if (levels[0] === '$share' || levels[0] === '$oshare')
    return 'shared subscriptions are checked by their plain filter';
  return { access: access ?? READ | WRITE, filter, levels };
}

/** The rules of one client: literal topics by look-up, the rest one by one. */
interface RuleSet {
  readonly exact: Map<string, number>;
  readonly rules: Rule[];
  readonly wild: Rule[];
}

/** Answers from an {@link Acl} that can be replaced while it is in use. */
export class AclAuthorizer implements Authorizer {
  version = 0;
  private acl: Acl;
  private compiled = new WeakMap<Identity, RuleSet>();

  constructor(acl: Acl) {
    this.acl = acl;
  }

  replace(acl: Acl): void {
    this.acl = acl;
    this.compiled = new WeakMap();
    this.version += 1;
  }

  mayPublish(identity: Identity, topic: string): boolean {
    const { exact, wild } = this.rulesOf(identity);
    let access = exact.get(topic) ?? 0;
    if (wild.length > 0) {
      const levels = topic.split('/');
      for (const rule of wild) if (covers(rule.levels, levels)) access |= rule.access;
    }
    return (access & WRITE) !== 0 && (access & DENY) === 0;
  }

  maySubscribe(identity: Identity, filter: string): boolean {
    const levels = filter.split('/');
    let allowed = false;
    for (const rule of this.rulesOf(identity).rules) {
      if ((rule.access & DENY) !== 0 && intersects(rule.levels, levels)) return false;
      allowed ||= (rule.access & READ) !== 0 && covers(rule.levels, levels);
    }
    return allowed;
  }

  private rulesOf(identity: Identity): RuleSet {
    let found = this.compiled.get(identity);
    if (!found) {
      found = compile(this.acl, identity);
      this.compiled.set(identity, found);
    }
    return found;
  }
}

function compile(acl: Acl, identity: Identity): RuleSet {
  const own =
    identity.user === '' ? acl.anonymous : (acl.users.get(joinLogin(identity.tenant, identity.user)) ?? []);
  const rules = [...own];
  for (const pattern of acl.patterns) {
    const rule = substitute(pattern, identity);
    if (rule) rules.push(rule);
  }
  const set: RuleSet = { exact: new Map(), rules, wild: [] };
  for (const rule of rules) {
    if (rule.levels.includes('+') || rule.levels.includes('#')) set.wild.push(rule);
    else set.exact.set(rule.filter, (set.exact.get(rule.filter) ?? 0) | rule.access);
  }
  return set;
}

function substitute(pattern: Rule, { user, clientId }: Identity): Rule | undefined {
  const levels: string[] = [];
  for (const level of pattern.levels) {
    const used = [level.includes('%u') ? user : undefined, level.includes('%c') ? clientId : undefined];
    const isUnsafe = used.some(value => value !== undefined && (value === '' || /[/+#]/.test(value)));
    if (!isUnsafe) {
      levels.push(level.replace(/%[uc]/g, name => (name === '%u' ? user : clientId)));
      continue;
    }
    if ((pattern.access & DENY) === 0) return undefined;
    levels.push('#');
    break;
  }
  return { access: pattern.access, filter: levels.join('/'), levels };
}

/** True when every topic that matches `filter` (a topic, too, is a filter) also matches `rule`. */
export function covers(rule: readonly string[], filter: readonly string[]): boolean {
  const isDollar = filter[0]!.startsWith('$');
  for (let at = 0; at < rule.length; at += 1) {
    const level = rule[at]!;
    const isWild = level === '#' || level === '+';
    if (at === 0 && isWild && isDollar) return false;
    if (level === '#') return true;
    const wanted = filter[at];
    if (wanted === undefined || wanted === '#') return false;
    if (level !== '+' && level !== wanted) return false;
  }
  return rule.length === filter.length;
}

/** True when some topic matches both filters. */
export function intersects(left: readonly string[], right: readonly string[]): boolean {
  const length = Math.max(left.length, right.length);
  for (let at = 0; at < length; at += 1) {
    const one = left[at];
    const other = right[at];
    if (at === 0 && dollarAgainstWildcard(one!, other!)) return false;
    if (one === '#' || other === '#') return true;
    if (one === undefined || other === undefined) return false;
    if (one !== other && one !== '+' && other !== '+') return false;
  }
  return true;
}

function dollarAgainstWildcard(one: string, other: string): boolean {
  const isWild = (level: string) => level === '#' || level === '+';
  return (isWild(one) && other.startsWith('$')) || (isWild(other) && one.startsWith('$'));
}
