import { accountOf } from '../../src/kv/balance/landscape.js';
import { decodeAnswer, encodeOrder } from '../../src/kv/balance/order.js';
import { type Boundary, overlap } from '../../src/kv/range.js';
import type { Descriptor } from '../../src/kv/replicated/descriptor.js';
import type { Replica } from '../../src/kv/replicated/replica.js';
import { KNOWN } from '../../src/kv/replicated/sessions.js';
import type { Attempt } from '../../src/kv/route/client.js';
import { checkByKey, type KeyedOperation, OPERATION, verdictWords } from './linearizability.js';
import type { RangeStoreNode } from './range-store.js';
import { registerKey } from './range-store.js';
import type { RangeWorld } from './range-world.js';
import { fail } from './underlay-checkers.js';

/** An operation, and the number under which its client asked for it. */
export interface RangeOperation extends KeyedOperation {
  readonly session: number;
  /** Of its client's operations. */
  readonly number: number;
  /** Of its last attempt. */
  sequence: number;
}

interface Recovery {
  readonly range: number;
  readonly atMs: number;
  readonly epoch: number;
  readonly boundary: Boundary;
  /** What the survivor had in its registers. */
  readonly values: ReadonlyMap<number, number>;
  /** Operations begun before that it had not applied: they may be, once, by a copy that comes late. */
  readonly undone: ReadonlySet<string>;
}

/** An epoch does not rise by so much otherwise. */
const EPOCH_LEAP = 2 ** 19;
/** A history's time is in milliseconds, and no two things happen within this. */
const MOMENT_MS = 1e-6;

const nameOf = ({ session, number }: RangeOperation) => `${session}/${number}`;

/**
 * What may be expected of ranges whose quorum was given up, and is checked.
 *
 * At a recovery the survivor's log, all of it, is what the range has been: for each register the history is cut there.
 * Before, it must be linearizable. After, it must be so again, beginning with what the survivor held; an operation from
 * before may still take effect, once, if the survivor had not applied it, and not if it had. What was acknowledged before and
 * the survivor did not have is lost: nobody can promise more.
 *
 * From then on no store answers for the range's keys under an epoch from before; that holds as long as those who come
 * back can hear the survivor. (A majority that comes back cut off from it would take itself for the range.)
 */
export class Recoveries {
  readonly #world: RangeWorld;
  readonly #all: Recovery[] = [];
  readonly #epochs = new Map<string, number>();

  constructor(world: RangeWorld) {
    this.#world = world;
  }

  get count(): number {
    return this.#all.length;
  }

  /** A replica as it is between turns. */
  sees(at: RangeStoreNode, { rangeId, state, isLeader }: Replica, { epoch, boundary }: Descriptor): void {
    const key = `${at.node.label} ${rangeId}`;
    const before = this.#epochs.get(key);
    this.#epochs.set(key, epoch);
    if (before === undefined || epoch - before < EPOCH_LEAP || !isLeader) return;
    if (this.#all.some(one => one.range === rangeId && one.epoch === epoch)) return;
    const { registers } = this.#world.settings;
    const values = new Map<number, number>();
    for (let register = 0; register < registers; register++) {
      const key = registerKey(register);
      if (!isInside(boundary, key)) continue;
      const value = at.engine.get(key);
      values.set(register, value === undefined ? 0 : Buffer.from(value).readDoubleLE(0));
    }
    const undone = new Set<string>();
    for (const operation of this.#world.operations())
      if (
        values.has(operation.key) &&
        state!.sessions.look(operation.session, operation.sequence) === KNOWN.NEW
      )
        undone.add(nameOf(operation));
    const { nowMs } = this.#world.time;
    this.#all.push({ range: rangeId, atMs: nowMs, epoch, boundary, values, undone });
    this.#world.note(at.node.label, `has recovered range ${rangeId.toString(36)} at epoch ${epoch}`);
  }

  /** A store has done what an attempt wants. */
  serves({ range, epoch, body }: Attempt, who: string): void {
    const key = registerKey(Buffer.from(body).readUInt16BE(1));
    for (const recovery of this.#all)
      if (epoch < recovery.epoch && isInside(recovery.boundary, key))
        fail(
          `${who} answers for range ${range.toString(36)} at epoch ${epoch}, ` +
            `though ${recovery.range.toString(36)} was recovered at ${recovery.epoch}`,
        );
  }

  /** All that was asked of one register, cut at its recoveries. */
  check(key: number, history: readonly RangeOperation[]): void {
    const cuts = this.#all.filter(({ values }) => values.has(key));
    let sinceMs = Number.NEGATIVE_INFINITY;
    for (let part = 0; part <= cuts.length; part++) {
      const recovery = cuts[part - 1];
      const untilMs = cuts[part]?.atMs ?? Number.POSITIVE_INFINITY;
      const operations: KeyedOperation[] = recovery === undefined ? [] : [beginning(key, recovery)];
      for (const operation of history) {
        if (operation.startedAt >= untilMs) continue;
        if (operation.startedAt >= sinceMs) operations.push(endedBy(operation, untilMs));
        else if (recovery?.undone.has(nameOf(operation)) === true)
          operations.push({ ...lateCopy(operation, sinceMs), ...(operation.endedAt > untilMs ? OPEN : {}) });
      }
      const told = operations.filter(one => one.kind !== OPERATION.READ || one.seen !== undefined);
      const wrong = checkByKey(told, 0);
      if (wrong !== undefined) {
        const when =
          recovery === undefined ? '' : ` since range ${recovery.range.toString(36)} was recovered`;
        fail(`the history of register ${key}${when} is ${verdictWords(wrong.verdict)}`);
      }
      sinceMs = untilMs;
    }
  }
}

const OPEN = { seen: undefined, endedAt: Number.POSITIVE_INFINITY } as const;

function endedBy(operation: RangeOperation, untilMs: number): KeyedOperation {
  return operation.endedAt <= untilMs ? operation : { ...operation, ...OPEN };
}

/** What had its answer before may be done once more all the same, by a copy: the survivor does not know that it was. */
function lateCopy(operation: RangeOperation, sinceMs: number): KeyedOperation {
  return operation.endedAt > sinceMs
    ? { ...operation, startedAt: sinceMs }
    : { ...operation, ...OPEN, startedAt: sinceMs };
}

function beginning(key: number, { atMs, values }: Recovery): KeyedOperation {
  return {
    ...{ kind: OPERATION.WRITE, key, value: values.get(key)!, expected: 0, seen: undefined },
    ...{ startedAt: atMs - 2 * MOMENT_MS, endedAt: atMs - MOMENT_MS },
  };
}

function isInside({ start, end }: Boundary, key: Uint8Array): boolean {
  return Buffer.compare(start, key) <= 0 && Buffer.compare(key, end) < 0;
}

// -- The operator --------------------------------------------------------------------------------------------

/**
 * Whatever range nobody leads goes on at the living store that has the most of it; as an operator reads it off. Gives the
 * stores that were asked.
 */
export function recoverAll(world: RangeWorld): ReadonlySet<RangeStoreNode> {
  const asked = new Set<RangeStoreNode>();
  const living = world.stores.filter(({ node }) => node.isResponsive);
  const held = living.flatMap(store => store.replicas.map(replica => ({ store, replica })));
  const led = held.filter(({ replica }) => replica.isLeader);
  const best = new Map<number, (typeof held)[number]>();
  for (const one of held) {
    const { descriptor, rangeId } = one.replica;
    if (descriptor === undefined || led.some(({ replica }) => replica.rangeId === rangeId)) continue;
    const known = best.get(rangeId);
    if (known === undefined || isAhead(one.replica, known.replica)) best.set(rangeId, one);
  }
  for (const { store, replica } of best.values()) {
    const { id: range, boundary } = replica.descriptor!;
    // A part of it has been another range's since, or all of it: what is left here is of the past.
    if (led.some(other => overlap(other.replica.descriptor!.boundary, boundary))) continue;
    if (accountOf(store.steward.board.landscape(), store.store.id) === undefined) continue;
    const answer = decodeAnswer(store.steward.order(encodeOrder({ kind: 'recover', range, forced: false })));
    const words = answer?.kind === 'refused' ? `refused: ${answer.why}` : answer?.kind;
    world.note(store.node.label, `is asked to recover range ${range.toString(36)}: ${words}`);
    asked.add(store);
    store.node.settle();
  }
  return asked;
}

function isAhead(one: Replica, other: Replica): boolean {
  const [a, b] = [one.descriptor!, other.descriptor!];
  if (a.epoch !== b.epoch) return a.epoch > b.epoch;
  const [mine, its] = [lastTerm(one), lastTerm(other)];
  return mine === its ? one.raft.lastIndex > other.raft.lastIndex : mine > its;
}

function lastTerm({ log }: Replica): number {
  return log.term(log.lastIndex) ?? 0;
}
