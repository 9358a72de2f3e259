import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AclAuthorizer, covers, intersects, parseAcl } from '../../src/plugin/acl.js';
import type { Identity } from '../../src/plugin/plugin.js';

function client(user: string, clientId = 'c1', tenant = 'default'): Identity {
  return { tenant, user, clientId, attributes: {} };
}

const ACL = `
# anonymous
topic read public/#

user alice
topic readwrite home/alice/#
topic deny home/alice/secret/#
topic write log/alice
topic sensors/+/state

user acme/alice
topic read acme only

user root
topic #

pattern readwrite device/%c/+
pattern write from/%u
pattern deny from/%u/secret
`;

describe('AclAuthorizer', () => {
  const acl = new AclAuthorizer(parseAcl(ACL, 'acl'));
  const mayPublish = (identity: Identity, topic: string) => acl.mayPublish(identity, topic);
  const maySubscribe = (identity: Identity, filter: string) => acl.maySubscribe(identity, filter);

  it('keeps what comes before the first user for anonymous clients', () => {
    expect(maySubscribe(client(''), 'public/a')).toBe(true);
    expect(maySubscribe(client('alice'), 'public/a')).toBe(false);
    expect(mayPublish(client(''), 'public/a')).toBe(false);
  });

  it('allows what is listed, forbids the rest, and lets deny win', () => {
    const alice = client('alice');
    expect(mayPublish(alice, 'home/alice')).toBe(true);
    expect(mayPublish(alice, 'home/alice/lamp')).toBe(true);
    expect(mayPublish(alice, 'home/alice/secret/x')).toBe(false);
    expect(mayPublish(alice, 'home/bob')).toBe(false);
    expect(mayPublish(alice, 'log/alice')).toBe(true);
    expect(maySubscribe(alice, 'log/alice')).toBe(false);
    expect(maySubscribe(alice, 'sensors/+/state')).toBe(true);
    expect(maySubscribe(alice, 'sensors/#')).toBe(false);
    expect(mayPublish(client('mallory'), 'home/alice/lamp')).toBe(false);
  });

  it('allows a subscription only when all of it may be read', () => {
    const alice = client('alice');
    expect(maySubscribe(alice, 'home/alice/+/x')).toBe(false);
    expect(maySubscribe(alice, 'home/alice/lamp/#')).toBe(true);
    expect(maySubscribe(alice, 'home/alice/#')).toBe(false);
    expect(maySubscribe(alice, 'home/+/lamp')).toBe(false);
    expect(maySubscribe(alice, '#')).toBe(false);
  });

  it('keeps tenants and $ topics apart', () => {
    expect(maySubscribe(client('alice', 'c', 'acme'), 'acme only')).toBe(true);
    expect(maySubscribe(client('alice'), 'acme only')).toBe(false);
    expect(mayPublish(client('alice', 'c', 'acme'), 'log/alice')).toBe(false);
    expect(maySubscribe(client('root'), 'any/#')).toBe(true);
    expect(maySubscribe(client('root'), '#'), 'a deny pattern touches it').toBe(false);
    expect(maySubscribe(client('root'), '$SYS/#')).toBe(false);
    expect(mayPublish(client('root'), '$SYS/x')).toBe(false);
  });

  it('puts names into patterns, and never lets a name reach further', () => {
    expect(mayPublish(client('bob', 'dev7'), 'device/dev7/state')).toBe(true);
    expect(mayPublish(client('bob', 'dev7'), 'device/dev8/state')).toBe(false);
    expect(mayPublish(client('bob'), 'from/bob')).toBe(true);
    expect(mayPublish(client(''), 'from/')).toBe(false);
    for (const clientId of ['+', '#', 'dev7/x', 'a+b', '']) {
      expect(maySubscribe(client('bob', clientId), `device/${clientId}/state`), clientId).toBe(false);
      expect(maySubscribe(client('bob', clientId), 'device/dev7/state'), clientId).toBe(false);
    }
    expect(mayPublish(client('%c', 'x'), 'device/x/y')).toBe(true);
    const denying = new AclAuthorizer(parseAcl('pattern readwrite #\npattern deny x/%u/y', 'acl'));
    expect(denying.mayPublish(client('bob'), 'x/bob/y')).toBe(false);
    expect(denying.mayPublish(client('bob'), 'x/eve/y')).toBe(true);
    expect(denying.mayPublish(client('a/b'), 'x/a/b/y')).toBe(false);
  });

  it('answers by new rules after replace, with another version', () => {
    const changing = new AclAuthorizer(parseAcl('user a\ntopic x', 'acl'));
    const identity = client('a');
    const { version } = changing;
    expect(changing.mayPublish(identity, 'x')).toBe(true);
    changing.replace(parseAcl('user a\ntopic y', 'acl'));
    expect(changing.version).not.toBe(version);
    expect([changing.mayPublish(identity, 'x'), changing.mayPublish(identity, 'y')]).toEqual([false, true]);
  });

  it.each([
    ['topic', 'line 1: nothing after "topic"'],
    ['user', 'nothing after "user"'],
    ['\n\ntopic read', 'line 3: no filter after "read"'],
    ['topic read a/#/b', '"#" is not the last level'],
    ['topic a/b+', '"b+" mixes'],
    ['topc a', '"topc" is not one of'],
    ['topic $share/g/a', 'plain filter'],
  ])('names the line of %j', (text, message) => {
    expect(() => parseAcl(text, 'my.acl')).toThrow(message);
    expect(() => parseAcl(text, 'my.acl')).toThrow(expect.objectContaining({ code: 'SHOAL_AUTH_FILE' }));
  });
});

describe('covers and intersects, against all topics of a small alphabet', () => {
  const names = ['a', 'b', '', '$s'];
  const topics: string[][] = [];
  const grow = (prefix: string[]) => {
    if (prefix.length > 0) topics.push(prefix);
    if (prefix.length < 4) for (const name of names) grow([...prefix, name]);
  };
  grow([]);

  /** Straight from the rules of MQTT 5, 4.7.1 and 4.7.2. */
  function matches(filter: readonly string[], topic: readonly string[]): boolean {
    if (topic[0]!.startsWith('$') && (filter[0] === '#' || filter[0] === '+')) return false;
    const pattern = (from: number): boolean => {
      if (filter[from] === '#') return true;
      if (from === filter.length || from === topic.length) return filter.length === topic.length;
      return (filter[from] === '+' || filter[from] === topic[from]) && pattern(from + 1);
    };
    return pattern(0);
  }

  const filter = fc
    .tuple(fc.array(fc.constantFrom('a', 'b', '+', '', '$s'), { minLength: 0, maxLength: 3 }), fc.boolean())
    .map(([levels, hash]) => (hash || levels.length === 0 ? [...levels, '#'] : levels));

  it('agrees with counting', () => {
    fc.assert(
      fc.property(filter, filter, (left, right) => {
        const ofLeft = topics.filter(topic => matches(left, topic));
        const ofRight = topics.filter(topic => matches(right, topic));
        expect(intersects(left, right)).toBe(ofLeft.some(topic => ofRight.includes(topic)));
        if (covers(left, right)) expect(ofRight.every(topic => ofLeft.includes(topic))).toBe(true);
        for (const topic of topics) expect(covers(left, topic)).toBe(matches(left, topic));
      }),
      { numRuns: 300 },
    );
  });

  it('covers itself and everything below #', () => {
    fc.assert(
      fc.property(filter, one => {
        expect(covers(one, one)).toBe(true);
      }),
    );
    expect(covers(['a', '#'], ['a'])).toBe(true);
    expect(covers(['a', '#'], ['a', '+', '#'])).toBe(true);
    expect(covers(['+', 'b'], ['a', 'b'])).toBe(true);
  });
});
