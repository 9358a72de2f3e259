import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Env } from '../../src/base/env.js';
import type { HybridClock } from '../../src/base/hlc.js';
import { Absentees } from '../../src/overlay/absentees.js';
import type { AgentOutput } from '../../src/overlay/agent.js';
import { HostedAgent } from '../../src/overlay/hosted-agent.js';
import { InLink } from '../../src/overlay/in-link.js';
import { Links } from '../../src/overlay/links.js';
import type { OverlayReady } from '../../src/overlay/overlay.js';
import { Registry } from '../../src/overlay/registry.js';
import { Directory } from '../../src/rpc/directory.js';
import { Links as RpcLinks } from '../../src/rpc/link.js';
import { Directives } from '../../src/rpc/traffic.js';
import type { Underlay } from '../../src/underlay/underlay.js';
import { Mail } from './overlay-mail.js';
import { Riders } from './overlay-riders.js';
import { OVERLAY_SCENARIOS, playOverlay } from './overlay-scenarios.js';

/** What an overlay tells, changed on its way to the rider. */
type Change = (outputs: readonly AgentOutput[]) => readonly AgentOutput[];

/** Riders on overlays that are not to be trusted. */
class Misled extends Riders {
  private readonly change: Change;

  constructor(change: Change) {
    super();
    this.change = change;
  }

  override wrap(underlay: Underlay, env: Env, clock: HybridClock) {
    const overlay = super.wrap(underlay, env, clock);
    const ready = overlay.ready.bind(overlay);
    overlay.ready = (): OverlayReady => {
      const turn = ready();
      return { ...turn, agents: this.change(turn.agents) };
    };
    return overlay;
  }
}

const HOSTS = 6;

function failureOf(name: string, riders: Riders, seed = 1): string | undefined {
  const scenario = OVERLAY_SCENARIOS.find(one => one.name === name)!;
  return playOverlay(scenario, { hosts: HOSTS, seed }, undefined, riders).failure;
}

/** Drops, or repeats, what is of that kind. */
function without(kind: AgentOutput['kind']): Change {
  return outputs => outputs.filter(output => output.kind !== kind);
}

function twice(kind: AgentOutput['kind']): Change {
  return outputs => outputs.flatMap(output => (output.kind === kind ? [output, output] : [output]));
}

/** Every third message comes behind the next one of its sender. */
function swapped(): Change {
  let count = 0;
  let held: Message | undefined;
  return outputs =>
    outputs.flatMap(output => {
      if (output.kind !== 'message' || output.to !== 'peer') return [output];
      if (held === undefined && ++count % 3 === 0) {
        held = output;
        return [];
      }
      if (held === undefined || held.from.host !== output.from.host) return [output];
      const both = [output, held];
      held = undefined;
      return both;
    });
}

type Message = Extract<AgentOutput, { readonly kind: 'message' }>;

afterEach(() => {
  vi.restoreAllMocks();
});

describe('the checkers of the overlay find', () => {
  it.each<[string, Change, RegExp]>([
    ['an event that is missing', without('member-updated'), /differs/],
    ['a host that is not told of', without('host-left'), /differ from the events/],
    ['an event that comes twice', twice('member-joined'), /impossible|not later/],
    ['a change of a map that is not told', without('map-changed'), /nothing was told/],
    ['messages that are lost', without('message'), /have not arrived|acknowledged and never arrived/],
    ['messages that come twice', twice('message'), /doubled or out of order/],
    ['messages out of order', swapped(), /of which nothing was told|doubled or out of order/],
  ])('%s', (_what, change, words) => {
    expect(failureOf('chaos', new Misled(change), 2)).toMatch(words);
  });

  /** One part of the overlay does nothing, or the wrong thing. */
  it.each<[string, string, () => void, RegExp]>([
    [
      'registrations that are not written again after a cut',
      'halves',
      () => void vi.spyOn(Registry.prototype as unknown as Parts, 'attend').mockImplementation(() => {}),
      /no agreement|is not as registered|only .* sees/,
    ],
    [
      'members that go for a moment while a host is taken in again',
      'stop',
      () => void vi.spyOn(Registry.prototype as unknown as Parts, 'held').mockImplementation(() => undefined),
      /went, and its host has it registered/,
    ],
    [
      'members that stay when their host is gone',
      'kill',
      () => void vi.spyOn(Registry.prototype, 'onHost').mockImplementation(() => {}),
      /is left of a host that left/,
    ],
    [
      'messages that are not sent again when a stream broke',
      'one-way-link',
      () =>
        void vi.spyOn(Links.prototype, 'tick').mockImplementation(function (this: Links) {
          (this as unknown as { dueMs: number }).dueMs = Number.POSITIVE_INFINITY;
        }),
      /holds \d+ messages|have not arrived/,
    ],
    [
      'a receiver that takes what it has had',
      'flapping-cut',
      () => void vi.spyOn(InLink.prototype, 'take').mockImplementation(() => true),
      /doubled or out of order|of which nothing was told/,
    ],
    [
      'an overlay that says undelivered of nothing',
      'flapping-cut',
      () => {
        const onLeft = Links.prototype.onLeft;
        vi.spyOn(Links.prototype, 'onLeft').mockImplementation(function (this: Links, host) {
          onLeft.call(this, host);
          return 0;
        });
      },
      /have not arrived|of which nothing was told/,
    ],
    [
      'a mesh without neighbours',
      'join',
      () => void vi.spyOn(HostedAgent.prototype as unknown as Parts, 'planMesh').mockImplementation(() => {}),
      /no agreement/,
    ],
    [
      'servers of dead hosts in a list',
      'move',
      () => {
        const onMember = Directory.prototype.onMember;
        vi.spyOn(Directory.prototype, 'onMember').mockImplementation(function (
          this: Directory,
          kind,
          member,
        ) {
          if (kind !== 'member-left') onMember.call(this, kind, member);
        });
      },
      /no agreement within .* services/s,
    ],
    [
      'channels to servers that are gone',
      'move',
      () => void vi.spyOn(RpcLinks.prototype, 'release').mockImplementation(() => {}),
      /channels for \d+ addresses/,
    ],
    [
      'directives that do not reach all',
      'move',
      () => {
        const set = Directives.prototype.set;
        let count = 0;
        vi.spyOn(Directives.prototype, 'set').mockImplementation(function (this: Directives, directive) {
          return ++count % 5 === 0 || set.call(this, directive);
        });
      },
      /no agreement within .* services/s,
    ],
    [
      'entries of hosts long gone',
      'move',
      () =>
        void vi.spyOn(Absentees.prototype, 'takeDue').mockImplementation(function (this: Absentees) {
          this.nextMs = Number.POSITIVE_INFINITY;
          return [];
        }),
      /entries of hosts that are gone/,
    ],
  ])('%s', (_what, scenario, breakIt, words) => {
    expect(failureOf(scenario, new Riders())).toBeUndefined();
    breakIt();
    expect(failureOf(scenario, new Riders())).toMatch(words);
  });
});

/** What classes keep to themselves. */
interface Parts {
  attend(): void;
  held(): undefined;
  planMesh(): void;
}

describe('the account of the mail', () => {
  const sent = (...numbers: number[]) => {
    const mail = new Mail();
    for (const number of numbers) mail.onSent('a', 1, 2, number);
    return mail;
  };

  it('balances when all has arrived, or was told as undelivered', () => {
    const mail = sent(1, 2, 3);
    mail.onArrived('a', 1, 2, 1, 'x');
    mail.onUndelivered('a', 1, 2, 2, 'x');
    mail.onArrived('a', 1, 2, 3, 'x');
    mail.mustBeThrough('a', 1, 2, 'x');
    expect([mail.sent, mail.arrived, mail.lost]).toEqual([3, 2, 2]);
  });

  it.each<[string, (mail: Mail) => void, RegExp]>([
    [
      'twice',
      mail => {
        for (const number of [1, 1]) mail.onArrived('a', 1, 2, number, 'x');
      },
      /doubled/,
    ],
    ['a gap', mail => mail.onArrived('a', 1, 2, 2, 'x'), /of which nothing was told/],
    ['never sent', mail => mail.onArrived('a', 1, 2, 9, 'x'), /never sent/],
    ['missing', mail => mail.mustBeThrough('a', 1, 2, 'x'), /3 reliable messages have not arrived/],
    ['acknowledged', mail => mail.onUndelivered('a', 1, 2, 1, 'x'), /2 messages count as acknowledged/],
  ])('does not otherwise: %s', (_what, happens, words) => {
    expect(() => happens(sent(1, 2, 3))).toThrow(words);
  });
});
