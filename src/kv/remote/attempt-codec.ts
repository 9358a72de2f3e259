import type { VarintReader, VarintWriter } from '../raft/varint.js';
import { OUTCOME } from '../replicated/commands.js';
import { ASK, type Attempt } from '../route/client.js';
import type { Place } from '../route/route.js';

/** What became of an attempt. */
export interface AttemptAnswer {
  /** Of the attempt. */
  readonly sequence: number;
  /** One of OUTCOME. */
  readonly outcome: number;
  readonly output: Uint8Array;
  /** What the store knows better than the route that led there. */
  readonly places: readonly Place[];
}

/** An attempt may be answered with both halves of a split, or with what absorbed a range. */
const PLACES_MAX = 16;
const STORES_MAX = 128;
/** The least that an attempt, an answer and a place take. */
const ATTEMPT_BYTES_MIN = 7;
const ANSWER_BYTES_MIN = 4;
const PLACE_BYTES_MIN = 9;

/** Appends an attempt to a batch: a batch is attempts one after the other. All of one batch are of one session. */
export function writeAttempt(
  writer: VarintWriter,
  { range, epoch, ask, sequence, lowest, body }: Attempt,
): void {
  writer
    .number(range)
    .number(epoch)
    .byte(ask)
    .number(sequence)
    .number(sequence - lowest)
    .blob(body);
}

/** Undefined, and the reader `broken`, if there is none. `body` is a view. */
export function readAttempt(reader: VarintReader, session: number): Attempt | undefined {
  if (reader.remaining < ATTEMPT_BYTES_MIN - 1) reader.broken = true;
  const range = reader.number();
  const epoch = reader.number();
  const ask = reader.byte();
  const sequence = reader.number();
  const lowest = sequence - reader.number();
  const body = reader.blob();
  if (range === 0 || epoch === 0 || lowest <= 0 || ask > ASK.QUERY) reader.broken = true;
  return reader.broken ? undefined : { range, epoch, ask, session, sequence, lowest, body };
}

/** Appends an answer to a batch. */
export function writeAnswer(
  writer: VarintWriter,
  { sequence, outcome, output, places }: AttemptAnswer,
): void {
  writer.number(sequence).byte(outcome).blob(output).number(places.length);
  for (const { range, epoch, boundary, genesis, pristine, term, leader, stores } of places) {
    writer.number(range).number(epoch).blob(boundary.start).blob(boundary.end).number(genesis);
    writer
      .byte(pristine ? 1 : 0)
      .number(term)
      .number(leader)
      .number(stores.length);
    for (const store of stores) writer.number(store);
  }
}

/** Undefined, and the reader `broken`, if there is none. `output` is a view; places keep none of the bytes. */
export function readAnswer(reader: VarintReader): AttemptAnswer | undefined {
  if (reader.remaining < ANSWER_BYTES_MIN) reader.broken = true;
  const sequence = reader.number();
  const outcome = reader.byte();
  const output = reader.blob();
  const count = reader.count(PLACE_BYTES_MIN);
  if (outcome > OUTCOME.FORGOTTEN || count > PLACES_MAX) reader.broken = true;
  const places: Place[] = [];
  for (let at = 0; at < count && !reader.broken; at++) places.push(readPlace(reader));
  return reader.broken ? undefined : { sequence, outcome, output, places };
}

function readPlace(reader: VarintReader): Place {
  const place = {
    range: reader.number(),
    epoch: reader.number(),
    boundary: { start: new Uint8Array(reader.blob()), end: new Uint8Array(reader.blob()) },
    genesis: reader.number(),
    pristine: reader.flag(),
    term: reader.number(),
    leader: reader.number(),
  };
  const count = reader.count(1);
  if (count > STORES_MAX || Buffer.compare(place.boundary.start, place.boundary.end) >= 0)
    reader.broken = true;
  const stores: number[] = [];
  for (let at = 0; at < count && !reader.broken; at++) stores.push(reader.number());
  return { ...place, stores };
}
