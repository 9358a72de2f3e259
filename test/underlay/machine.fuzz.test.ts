import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodePacket, encodePacket } from '../../src/underlay/codec.js';
import { environmentHash } from '../../src/underlay/environment.js';
import type { HostRecord, Packet } from '../../src/underlay/message.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { Underlay } from '../../src/underlay/underlay.js';
import { packet } from './arbitrary-packet.js';
import { seededRandom } from './loop.js';

/**
 * A machine among liars: any messages at any time, about a few hosts (itself among them) so that they meet. It must
 * not throw, must stay in its own view, and what it says must be what the codec can carry.
 */

const SELF = 1;
const ADDRESSES = ['10.0.0.1:4800', '10.0.0.2:4800', '10.0.0.3:4800', 'name:1', '', 'x'] as const;
const ID_FIELDS = new Set(['id', 'from', 'by', 'target', 'expected', 'replica']);
const ENVIRONMENT = environmentHash('fuzz');

/** The same with few hosts and addresses. */
function among<T>(value: T): T {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(among) as T;
  const entries = Object.entries(value).map(([field, part]) => {
    if (ID_FIELDS.has(field)) return [field, 1 + (part % 6)];
    if (field === 'address') return [field, ADDRESSES[part.length % ADDRESSES.length]];
    if (field === 'environment') return [field, typeof part === 'number' ? ENVIRONMENT : 'fuzz'];
    if (field === 'incarnation' || field === 'suspected') return [field, part % 5];
    return [field, among(part)];
  });
  return Object.fromEntries(entries);
}

const step = fc.oneof(
  { weight: 6, arbitrary: packet.map(sent => ({ kind: 'packet' as const, sent: among(sent) as Packet })) },
  {
    weight: 1,
    arbitrary: packet.map(sent => ({ kind: 'packet' as const, sent: { ...sent, environment: ENVIRONMENT } })),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat({ max: 5_000 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('unreachable' as const), to: fc.constantFrom(...ADDRESSES) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('evict' as const), id: fc.integer({ min: 1, max: 6 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('sealed' as const), why: fc.constantFrom('key', 'replay') }),
  },
);

it('a machine survives any sequence of messages', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.integer(), (steps, seed) => {
      let nowMs = 0;
      const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
      const clock = { wallMs: () => 1.8e12 + nowMs, monotonicMs: () => nowMs };
      const options = { id: SELF, name: 'self', address: ADDRESSES[0], version: '1', environment: 'fuzz' };
      const machine = new Underlay(
        { ...options, timing: DEFAULT_TIMING },
        { clock, random: seededRandom(seed), log: quiet },
      );
      const view = new Map<number, HostRecord>();
      let isOut = false;
      const obey = () => {
        const { sends, events } = machine.ready();
        for (const { to, messages } of sends) {
          const said = {
            environment: 1,
            from: SELF,
            incarnation: machine.self.incarnation,
            hlc: 1,
            wallMs: 1,
            messages,
          };
          const bytes = encodePacket(said);
          expect(encodePacket(decodePacket(bytes)!)).toEqual(bytes);
          expect(typeof to).toBe('string');
        }
        for (const event of events) {
          if (event.kind === 'self-evicted') isOut = true;
          else if (event.kind === 'gone') view.delete(event.host.id);
          else view.set(event.host.id, event.host);
        }
        const seen = machine.hosts().map(({ record }) => record.id);
        expect(isOut || seen.includes(SELF)).toBe(true);
        if (!isOut) expect(seen.filter(id => id !== SELF).sort()).toEqual([...view.keys()].sort());
      };
      for (const input of steps) {
        if (input.kind === 'packet') machine.receive(input.sent, ADDRESSES[1], 'datagram');
        else if (input.kind === 'unreachable') machine.unreachable(input.to, 'stream');
        else if (input.kind === 'evict') machine.evict(input.id);
        else if (input.kind === 'sealed') machine.receiveSealed(ADDRESSES[2], input.why as 'key');
        else {
          const endMs = nowMs + input.ms;
          for (let turn = 0; turn < 200 && machine.nextDeadlineMs() <= endMs; turn++) {
            nowMs = Math.max(nowMs, machine.nextDeadlineMs());
            machine.tick();
            obey();
          }
          nowMs = endMs;
        }
        obey();
      }
    }),
    { numRuns: 300 },
  );
});
