import { type CrdtMessage, type Entry, isCrdtMessage } from '../crdt/message.js';
import { CrdtAck } from '../schema/gen/crdt-ack.js';
import { CrdtBuckets } from '../schema/gen/crdt-buckets.js';
import { CrdtDelta } from '../schema/gen/crdt-delta.js';
import { CrdtDots } from '../schema/gen/crdt-dots.js';
import { CrdtEntry } from '../schema/gen/crdt-entry.js';
import { CrdtRepair } from '../schema/gen/crdt-repair.js';
import { CrdtRoot } from '../schema/gen/crdt-root.js';
import { MALFORMED, type MessageBuilder } from '../schema/schema.js';
import { addText, present } from './codec-parts.js';
import type { Message } from './message.js';

// -- Writing -----------------------------------------------------------------------------------------------

export function addCrdt(builder: MessageBuilder, map: string, message: CrdtMessage): number {
  const name = addText(builder, map);
  switch (message.kind) {
    case 'delta': {
      const entries = addEntries(builder, message.entries);
      const dropped = addDoubles(builder, message.dropped);
      return CrdtDelta.createCrdtDelta(builder, name, message.seq, entries, dropped);
    }
    case 'ack':
      return CrdtAck.createCrdtAck(builder, name, message.seq);
    case 'root':
      return CrdtRoot.createCrdtRoot(builder, name, message.low, message.high, message.count);
    case 'buckets':
      return CrdtBuckets.createCrdtBuckets(builder, name, addHashes(builder, message.digests), message.check);
    case 'dots': {
      const ranges = addHashes(builder, message.ranges);
      return CrdtDots.createCrdtDots(builder, name, ranges, addDoubles(builder, message.dots));
    }
    case 'repair': {
      const entries = addEntries(builder, message.entries);
      const dropped = addDoubles(builder, message.dropped);
      const wanted = addDoubles(builder, message.wanted);
      return CrdtRepair.createCrdtRepair(builder, name, entries, dropped, wanted);
    }
  }
}

function addEntries(builder: MessageBuilder, entries: readonly Entry[]): number {
  if (entries.length === 0) return 0;
  const offsets = entries.map(entry => {
    const key = addText(builder, entry.key);
    const value = entry.value.length === 0 ? 0 : builder.createByteVector(entry.value);
    return CrdtEntry.createCrdtEntry(builder, key, entry.replica, entry.counter, value);
  });
  return CrdtDelta.createEntriesVector(builder, offsets);
}

function addDoubles(builder: MessageBuilder, values: readonly number[]): number {
  if (values.length === 0) return 0;
  builder.startVector(8, values.length, 8);
  for (let at = values.length - 1; at >= 0; at--) builder.addFloat64(values[at]!);
  return builder.endVector();
}

function addHashes(builder: MessageBuilder, values: readonly number[]): number {
  if (values.length === 0) return 0;
  builder.startVector(4, values.length, 4);
  for (let at = values.length - 1; at >= 0; at--) builder.addInt32(values[at]!);
  return builder.endVector();
}

// -- Reading: throws MALFORMED -----------------------------------------------------------------------------

type Crdt = Extract<Message, { kind: 'crdt' }>;

export function readCrdtDelta(table: CrdtDelta): Crdt {
  return checked(table.map(), {
    kind: 'delta',
    seq: table.sequence(),
    entries: readEntries(table),
    dropped: readNumbers(table.droppedLength(), table, droppedOf),
  });
}

export function readCrdtAck(table: CrdtAck): Crdt {
  return checked(table.map(), { kind: 'ack', seq: table.sequence() });
}

export function readCrdtRoot(table: CrdtRoot): Crdt {
  return checked(table.map(), {
    kind: 'root',
    low: table.low(),
    high: table.high(),
    count: table.count(),
  });
}

export function readCrdtBuckets(table: CrdtBuckets): Crdt {
  return checked(table.map(), {
    kind: 'buckets',
    digests: readNumbers(table.digestsLength(), table, (from, at) => from.digests(at)),
    check: table.check(),
  });
}

export function readCrdtDots(table: CrdtDots): Crdt {
  return checked(table.map(), {
    kind: 'dots',
    ranges: readNumbers(table.rangesLength(), table, (from, at) => from.ranges(at)),
    dots: readNumbers(table.dotsLength(), table, (from, at) => from.dots(at)),
  });
}

export function readCrdtRepair(table: CrdtRepair): Crdt {
  return checked(table.map(), {
    kind: 'repair',
    entries: readEntries(table),
    dropped: readNumbers(table.droppedLength(), table, droppedOf),
    wanted: readNumbers(table.wantedLength(), table, (from, at) => from.wanted(at)),
  });
}

function checked(map: string | null, message: CrdtMessage): Crdt {
  if (!isCrdtMessage(message)) throw MALFORMED;
  return { kind: 'crdt', map: map ?? '', message };
}

const entryTable = new CrdtEntry();

function readEntries(table: CrdtDelta | CrdtRepair): Entry[] {
  const count = table.entriesLength();
  const entries: Entry[] = [];
  for (let at = 0; at < count; at++) {
    const entry = present(table.entries(at, entryTable));
    entries.push({
      key: entry.key() ?? '',
      replica: entry.replica(),
      counter: entry.counter(),
      value: entry.valueArray()?.slice() ?? new Uint8Array(0),
    });
  }
  return entries;
}

function droppedOf(table: CrdtDelta | CrdtRepair, at: number): number | null {
  return table.dropped(at);
}

function readNumbers<T>(count: number, table: T, read: (table: T, at: number) => number | null): number[] {
  const values: number[] = [];
  for (let at = 0; at < count; at++) values.push(present(read(table, at)));
  return values;
}
