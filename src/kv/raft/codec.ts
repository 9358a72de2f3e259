import type { Configuration } from './configuration.js';
import { decodeConfiguration, readConfiguration, writeConfiguration } from './configuration-codec.js';
import { MESSAGE, type Message, type Proposal } from './message.js';
import { ENTRY, type Entry, REFUSAL_REASONS, type SnapshotMeta } from './ready.js';
import { VarintReader, VarintWriter } from './varint.js';

/**
 * Messages as bytes: kind, from, to and term, then the fields in their order; all numbers as varints. An entry takes
 * 5 bytes and its data: its term as the distance to the one before, kind, session, sequence, length. Indices are not
 * written, since entries follow each other. Nothing says how long a message is: that is for the frame around it.
 */

/** Fewer bytes hold no entry, and no proposal. */
const ENTRY_BYTES_MIN = 5;
const PROPOSAL_BYTES_MIN = 3;

export function encodeMessage(writer: VarintWriter, message: Message): void {
  writer.byte(message.kind).number(message.from).number(message.to).number(message.term);
  switch (message.kind) {
    case MESSAGE.PRE_VOTE:
      writer.number(message.lastIndex).number(message.lastTerm);
      break;
    case MESSAGE.VOTE:
      writer.number(message.lastIndex).number(message.lastTerm).byte(flag(message.force));
      break;
    case MESSAGE.PRE_VOTE_ANSWER:
    case MESSAGE.VOTE_ANSWER:
      writer.byte(flag(message.granted));
      break;
    case MESSAGE.APPEND:
      writer.number(message.previousIndex).number(message.previousTerm).number(message.commit);
      writeEntries(writer, message.entries, message.previousTerm);
      break;
    case MESSAGE.APPEND_ANSWER:
      writer.number(message.match).number(message.rejected);
      writer.number(message.hintIndex).number(message.hintTerm);
      break;
    case MESSAGE.HEARTBEAT:
      writer.number(message.round).number(message.commit).byte(flag(message.quiesce));
      break;
    case MESSAGE.HEARTBEAT_ANSWER:
      writer.number(message.round);
      break;
    case MESSAGE.TIMEOUT_NOW:
      break;
    case MESSAGE.PROPOSE:
      writer.number(message.proposals.length);
      for (const { session, sequence, data } of message.proposals)
        writer.number(session).number(sequence).blob(data);
      break;
    case MESSAGE.READ:
      writer.number(message.context).byte(flag(message.lease));
      break;
    case MESSAGE.READ_ANSWER:
      writer.number(message.context).number(message.index);
      break;
    case MESSAGE.REFUSE:
      writer
        .byte(flag(message.what === 'read'))
        .number(message.session)
        .number(message.sequence);
      writer.byte(REFUSAL_REASONS.indexOf(message.reason)).number(message.leader);
      break;
  }
}

function flag(value: boolean): number {
  return value ? 1 : 0;
}

function writeEntries(writer: VarintWriter, entries: readonly Entry[], previousTerm: number): void {
  writer.number(entries.length);
  let last = previousTerm;
  for (const { term, kind, session, sequence, data } of entries) {
    writer
      .number(term - last)
      .byte(kind)
      .number(session)
      .number(sequence)
      .blob(data);
    last = term;
  }
}

/**
 * A message from bytes that may be anybody's; undefined if they are none, or if it could not have been sent: terms that
 * fall, entries of a later term than its own. Data are views of `bytes`: they must not be reused.
 */
export function decodeMessage(bytes: Uint8Array, start = 0, end = bytes.length): Message | undefined {
  const reader = new VarintReader(bytes, start, end);
  const kind = reader.byte();
  const message = readBody(reader, kind, reader.number(), reader.number(), reader.number());
  return reader.isDone ? message : undefined;
}

function readBody(
  reader: VarintReader,
  kind: number,
  from: number,
  to: number,
  term: number,
): Message | undefined {
  switch (kind) {
    case MESSAGE.PRE_VOTE:
      return { kind, from, to, term, lastIndex: reader.number(), lastTerm: reader.number() };
    case MESSAGE.VOTE:
      return {
        kind,
        from,
        to,
        term,
        lastIndex: reader.number(),
        lastTerm: reader.number(),
        force: reader.flag(),
      };
    case MESSAGE.PRE_VOTE_ANSWER:
      return { kind, from, to, term, granted: reader.flag() };
    case MESSAGE.VOTE_ANSWER:
      return { kind, from, to, term, granted: reader.flag() };
    case MESSAGE.APPEND:
      return readAppend(reader, from, to, term);
    case MESSAGE.APPEND_ANSWER: {
      const match = reader.number();
      const rejected = reader.number();
      return { kind, from, to, term, match, rejected, hintIndex: reader.number(), hintTerm: reader.number() };
    }
    case MESSAGE.HEARTBEAT:
      return {
        kind,
        from,
        to,
        term,
        round: reader.number(),
        commit: reader.number(),
        quiesce: reader.flag(),
      };
    case MESSAGE.HEARTBEAT_ANSWER:
      return { kind, from, to, term, round: reader.number() };
    case MESSAGE.TIMEOUT_NOW:
      return { kind, from, to, term };
    case MESSAGE.PROPOSE:
      return { kind, from, to, term, proposals: readProposals(reader) };
    case MESSAGE.READ:
      return { kind, from, to, term, context: reader.number(), lease: reader.flag() };
    case MESSAGE.READ_ANSWER:
      return { kind, from, to, term, context: reader.number(), index: reader.number() };
    case MESSAGE.REFUSE:
      return readRefuse(reader, from, to, term);
    default:
      reader.broken = true;
      return undefined;
  }
}

function readAppend(reader: VarintReader, from: number, to: number, term: number): Message {
  const previousIndex = reader.number();
  const previousTerm = reader.number();
  const commit = reader.number();
  const count = reader.count(ENTRY_BYTES_MIN);
  const entries: Entry[] = [];
  let last = previousTerm;
  for (let i = 0; i < count && !reader.broken; i++) {
    last += reader.number();
    const kind = reader.byte();
    const session = reader.number();
    const sequence = reader.number();
    const data = reader.blob();
    if (kind > ENTRY.EMPTY || (kind === ENTRY.CONFIGURATION && decodeConfiguration(data) === undefined))
      reader.broken = true;
    entries.push({ term: last, index: previousIndex + 1 + i, kind, session, sequence, data });
  }
  if (last > term || previousIndex + count > Number.MAX_SAFE_INTEGER) reader.broken = true;
  return { kind: MESSAGE.APPEND, from, to, term, previousIndex, previousTerm, commit, entries };
}

function readProposals(reader: VarintReader): Proposal[] {
  const count = reader.count(PROPOSAL_BYTES_MIN);
  const proposals: Proposal[] = [];
  for (let i = 0; i < count && !reader.broken; i++)
    proposals.push({ session: reader.number(), sequence: reader.number(), data: reader.blob() });
  return proposals;
}

function readRefuse(reader: VarintReader, from: number, to: number, term: number): Message {
  const what = reader.flag() ? 'read' : 'proposal';
  const session = reader.number();
  const sequence = reader.number();
  const reason = REFUSAL_REASONS[reader.byte()];
  if (reason === undefined) reader.broken = true;
  const leader = reader.number();
  return {
    kind: MESSAGE.REFUSE,
    from,
    to,
    term,
    what,
    session,
    sequence,
    reason: reason ?? 'not-leader',
    leader,
  };
}

/** What travels with the state that a follower is sent. */
export function encodeSnapshotMeta({ index, term, configuration }: SnapshotMeta): Uint8Array {
  const writer = new VarintWriter(64).number(index).number(term);
  writeConfiguration(writer, configuration);
  return writer.copy();
}

export function decodeSnapshotMeta(bytes: Uint8Array): SnapshotMeta | undefined {
  const reader = new VarintReader(bytes);
  const index = reader.number();
  const term = reader.number();
  const configuration: Configuration = readConfiguration(reader);
  return reader.isDone ? { index, term, configuration } : undefined;
}
