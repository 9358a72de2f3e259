import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HybridClock } from '../../src/base/hlc.js';
import { decodeLinkMessage, type LinkMessage } from '../../src/overlay/codec.js';
import type { Context } from '../../src/overlay/context.js';
import { InLink } from '../../src/overlay/in-link.js';
import { GONE_LINKS_MAX, Links } from '../../src/overlay/links.js';
import { seededRandom } from '../underlay/loop.js';

interface Parcel {
  readonly message: LinkMessage;
}

/** One host's links of one agent, with what they send kept for the test to carry. */
class End {
  nowMs = 0;
  readonly sent: Parcel[] = [];
  readonly links: Links;
  readonly budget = { bytes: 0 };
  private epoch = 0;

  constructor(own: number) {
    const quiet = () => {};
    const context: Context = {
      own,
      env: {
        clock: { wallMs: () => this.nowMs, monotonicMs: () => this.nowMs },
        random: seededRandom(own),
        log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
      },
      clock: new HybridClock(),
      budget: this.budget,
      nextEpoch: () => ++this.epoch,
      send: (_to, _path, message) => {
        if (message.kind === 'payload') this.sent.push({ message: decodeLinkMessage(message.bytes)! });
      },
      tell: quiet,
    };
    this.links = new Links('kv', context);
  }
}

const SENDER = 1;
const RECEIVER = 2;

type Step =
  | { readonly kind: 'send'; readonly size: number }
  | { readonly kind: 'carry' | 'copy' | 'lose'; readonly at: number }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'sender-loses' }
  | { readonly kind: 'receiver-loses' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('send' as const), size: fc.constantFrom(1, 100, 200_000) }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('carry' as const), at: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('copy' as const), at: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), at: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(3_000) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('sender-loses' as const) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('receiver-loses' as const) }),
  },
);

/** Two ends and a network between them that does what it is told. */
class Pair {
  readonly sender = new End(SENDER);
  readonly receiver = new End(RECEIVER);
  /** Numbers as they arrived; those sent, and those that were told as undelivered. */
  readonly arrived: number[] = [];
  readonly open: number[] = [];
  readonly doubtful = new Set<number>();
  private number = 0;

  send(size: number): void {
    this.number++;
    const bytes = Buffer.alloc(size + 8);
    bytes.writeDoubleLE(this.number);
    if (this.sender.links.sendReliable(RECEIVER, { from: 'a', to: 'b', bytes }) === 'sent')
      this.open.push(this.number);
  }

  private deliver({ message }: Parcel): void {
    if (message.kind === 'ack') return this.sender.links.onAck(RECEIVER, message);
    if (this.receiver.links.onData(SENDER, message, true))
      this.arrived.push(Buffer.from(message.bytes).readDoubleLE());
    this.receiver.links.settle();
  }

  private flying(): { from: Parcel[]; parcel: Parcel; at: number }[] {
    return [this.sender.sent, this.receiver.sent].flatMap(from =>
      from.map((parcel, at) => ({ from, parcel, at })),
    );
  }

  play(one: Step): void {
    if (one.kind === 'send') return this.send(one.size);
    if (one.kind === 'wait') return this.wait(one.ms);
    if (one.kind === 'receiver-loses') {
      this.receiver.links.onLeft(SENDER);
      return this.receiver.links.onJoined(SENDER);
    }
    if (one.kind === 'sender-loses') return this.end();
    const flying = this.flying();
    const chosen = flying[one.at % Math.max(1, flying.length)];
    if (chosen === undefined) return;
    if (one.kind !== 'copy') chosen.from.splice(chosen.at, 1);
    if (one.kind !== 'lose') this.deliver(chosen.parcel);
  }

  private end(): void {
    const undelivered = this.sender.links.onLeft(RECEIVER);
    for (const number of undelivered === 0 ? [] : this.open.slice(-undelivered)) this.doubtful.add(number);
    expect(undelivered).toBeLessThanOrEqual(this.open.length);
  }

  wait(ms: number): void {
    this.sender.nowMs += ms;
    this.receiver.nowMs += ms;
    this.sender.links.tick(this.sender.nowMs);
  }

  /** From now on everything arrives. */
  settle(): void {
    for (let round = 0; round < 100; round++) {
      for (let flying = this.flying(); flying.length > 0; flying = this.flying()) {
        flying[0]!.from.shift();
        this.deliver(flying[0]!.parcel);
      }
      this.wait(9_000);
    }
  }
}

describe('links', () => {
  it('bring every message once and in order, or say that they may not have', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), steps => {
        const pair = new Pair();
        for (const one of steps) pair.play(one);
        pair.settle();
        const { arrived, doubtful, open } = pair;
        expect(arrived).toEqual([...new Set(arrived)].sort((a, b) => a - b));
        const missing = open.filter(number => !arrived.includes(number) && !doubtful.has(number));
        expect(missing).toEqual([]);
        expect(pair.sender.links.entries().unacknowledged).toBe(0);
        expect(pair.sender.budget.bytes).toBe(0);
        expect(pair.sender.links.nextMs).toBe(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 300 },
    );
  });

  it('ignore acknowledgements of what was never sent, and of other epochs', () => {
    const { sender } = new Pair();
    sender.links.sendReliable(RECEIVER, { from: 'a', to: 'b', bytes: Buffer.alloc(1) });
    const ack = { kind: 'ack', agent: 'kv' } as const;
    sender.links.onAck(RECEIVER, { ...ack, epoch: 1, sequence: 2 });
    sender.links.onAck(RECEIVER, { ...ack, epoch: 2, sequence: 1 });
    sender.links.onAck(3, { ...ack, epoch: 1, sequence: 1 });
    sender.links.onAck(RECEIVER, { ...ack, epoch: 1, sequence: 0 });
    expect(sender.links.entries().unacknowledged).toBe(1);
    sender.links.onAck(RECEIVER, { ...ack, epoch: 1, sequence: 1 });
    expect(sender.links.entries().unacknowledged).toBe(0);
  });

  it('try again ever more rarely, with one message at a time', () => {
    const { sender } = new Pair();
    const send = () => sender.links.sendReliable(RECEIVER, { from: 'a', to: 'b', bytes: Buffer.alloc(1) });
    for (let at = 0; at < 10; at++) send();
    sender.sent.length = 0;
    const atMs: number[] = [];
    for (; sender.nowMs < 60_000; sender.nowMs += 50) {
      sender.links.tick(sender.nowMs);
      if (sender.sent.length > 0) atMs.push(sender.nowMs);
      expect(sender.sent.length).toBeLessThanOrEqual(1);
      sender.sent.length = 0;
    }
    expect(atMs.length).toBeGreaterThan(7);
    expect(atMs.length).toBeLessThan(14);
    // What is sent meanwhile waits for an answer, too.
    send();
    expect(sender.sent).toEqual([]);
  });

  it('try again at once when the stream has broken, but only the first time', () => {
    const { sender } = new Pair();
    sender.links.sendReliable(RECEIVER, { from: 'a', to: 'b', bytes: Buffer.alloc(1) });
    sender.links.onBroken(RECEIVER + 1);
    expect(sender.links.nextMs).toBeGreaterThan(700);
    sender.links.onBroken(RECEIVER);
    expect(sender.links.nextMs).toBeLessThan(130);
    sender.nowMs = 130;
    sender.links.tick(sender.nowMs);
    expect(sender.links.retries).toBe(1);
    sender.links.onBroken(RECEIVER);
    expect(sender.links.nextMs).toBeGreaterThan(1_500);
  });

  it('remember a bounded number of hosts that came and went', () => {
    const { receiver } = new Pair();
    const data = { kind: 'data', agent: 'kv', target: RECEIVER, isReliable: true } as const;
    const message = { ...data, epoch: 1, sequence: 1, from: 'a', to: 'b', bytes: Buffer.alloc(0) };
    for (let host = 10; host < 3_000; host++) {
      expect(receiver.links.onData(host, message, host % 2 === 0)).toBe(true);
      receiver.links.onLeft(host);
    }
    receiver.links.settle();
    expect(receiver.links.entries()).toEqual({
      outLinks: 0,
      inLinks: GONE_LINKS_MAX,
      goneLinks: GONE_LINKS_MAX,
      unacknowledged: 0,
    });
    // One that is remembered is not heard twice, not even after it came back.
    receiver.links.onJoined(2_999);
    expect(receiver.links.onData(2_999, message, true)).toBe(false);
  });

  it('tell copies of unordered messages from new ones', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 1_000 }), { maxLength: 300 }), numbers => {
        const link = new InLink();
        const taken = new Set<number>();
        let highest = 0;
        for (const number of numbers) {
          const isNew = link.takeUnordered(number);
          if (isNew) expect(taken.has(number)).toBe(false);
          else expect(taken.has(number) || number <= highest - 256).toBe(true);
          if (isNew) taken.add(number);
          highest = Math.max(highest, number);
        }
      }),
    );
  });
});
