/**
 * Histories that outlive the process that made them: a line for the beginning of an operation, written before it is sent,
 * and one for its end. What has no end has an unknown outcome, also since its process was killed.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { type KeyedOperation, OPERATION } from '../sim/linearizability.js';
import type { Wanted } from './kv-registers.js';

/** Milliseconds of a clock that all processes of the machine share. */
export function sharedMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

type Line =
  | readonly ['begin', number, Wanted, number]
  | readonly ['done', number, number | null, number]
  | readonly ['not-done', number];

export class HistoryWriter {
  private readonly file: number;
  private last = 0;

  constructor(path: string) {
    this.file = openSync(path, 'a');
    this.line(['begin', 0, { kind: OPERATION.READ, key: 0, value: 0, expected: 0 }, sharedMs()]);
  }

  begin(wanted: Wanted): number {
    this.line(['begin', ++this.last, wanted, sharedMs()]);
    return this.last;
  }

  done(id: number, seen: number | undefined): void {
    this.line(['done', id, seen ?? null, sharedMs()]);
  }

  /** It never was and never will be. */
  notDone(id: number): void {
    this.line(['not-done', id]);
  }

  private line(line: Line): void {
    writeSync(this.file, `${JSON.stringify(line)}\n`);
  }

  close(): void {
    closeSync(this.file);
  }
}

export interface History {
  readonly operations: readonly KeyedOperation[];
  readonly done: number;
  readonly notDone: number;
  readonly unknown: number;
}

/** Of one process, over all its lives. A line that a kill cut short did not happen. */
export function readHistory(path: string): History {
  const text = readFileSync(path, 'utf8');
  const operations: KeyedOperation[] = [];
  let open = new Map<number, KeyedOperation>();
  let notDone = 0;
  let unknown = 0;
  const giveUp = () => {
    for (const one of open.values()) if (one.kind !== OPERATION.READ) operations.push(one);
    unknown += open.size;
    open = new Map();
  };
  for (const row of text.split('\n')) {
    if (!row.startsWith('[') || !row.endsWith(']')) continue;
    const line = JSON.parse(row) as Line;
    if (line[0] === 'begin') {
      const [, id, wanted, startedAt] = line;
      // A process begins its life with it.
      if (id === 0) giveUp();
      else open.set(id, { ...wanted, seen: undefined, startedAt, endedAt: Number.POSITIVE_INFINITY });
    } else {
      const begun = open.get(line[1])!;
      open.delete(line[1]);
      if (line[0] === 'not-done') notDone++;
      else operations.push({ ...begun, seen: line[2] ?? undefined, endedAt: line[3] });
    }
  }
  giveUp();
  const done = operations.filter(({ endedAt }) => endedAt !== Number.POSITIVE_INFINITY).length;
  return { operations, done, notDone, unknown };
}
