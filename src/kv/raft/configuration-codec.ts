import type { Configuration, ReplicaId } from './configuration.js';
import { VarintReader, VarintWriter } from './varint.js';

/** Members that one configuration may name, in each list. */
const MEMBERS_MAX = 1_000;

/** The data of an entry of kind `CONFIGURATION`. */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  const writer = new VarintWriter(64);
  writeConfiguration(writer, configuration);
  return writer.copy();
}

export function decodeConfiguration(bytes: Uint8Array): Configuration | undefined {
  const reader = new VarintReader(bytes);
  const configuration = readConfiguration(reader);
  return reader.isDone ? configuration : undefined;
}

export function writeConfiguration(writer: VarintWriter, configuration: Configuration): void {
  writeIds(writer, configuration.voters);
  writeIds(writer, configuration.outgoing);
  writeIds(writer, configuration.learners);
}

/** Marks the reader as broken if it finds none, or one that breaks what {@link Configuration} promises. */
export function readConfiguration(reader: VarintReader): Configuration {
  const voters = readIds(reader);
  const outgoing = readIds(reader);
  const learners = readIds(reader);
  const isSound =
    !learners.some(id => voters.includes(id)) &&
    (voters.length > 0 || outgoing.length + learners.length === 0);
  if (!isSound) reader.broken = true;
  return { voters, outgoing, learners };
}

/** As distances to the one before, which are at least 1. */
function writeIds(writer: VarintWriter, ids: readonly ReplicaId[]): void {
  writer.number(ids.length);
  let last = 0;
  for (const id of ids) {
    writer.number(id - last);
    last = id;
  }
}

function readIds(reader: VarintReader): ReplicaId[] {
  const count = reader.count(1);
  if (count > MEMBERS_MAX) reader.broken = true;
  const ids: ReplicaId[] = [];
  let last = 0;
  for (let i = 0; i < count && !reader.broken; i++) {
    const id = last + reader.number();
    if (id === last || id > Number.MAX_SAFE_INTEGER) reader.broken = true;
    ids.push((last = id));
  }
  return ids;
}
