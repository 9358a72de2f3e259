import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../../src/base/bytes.js';
import { MemoryEngine } from '../../../src/kv/memory-engine.js';
import { wholeService } from '../../../src/kv/range.js';
import { localSpan, type Span, stateSpans } from '../../../src/kv/replicated/spans.js';
import { Cluster, CutEngine, type Host } from './cluster.js';
import { divide, engineOf, FIRST_CUT, join, RANGE, rangeOf } from './division.js';
import { SUBJECTS, type Subject } from './subjects.js';

const PARTS = 3;

function clusterOf({ service, coprocessor }: Subject): Cluster {
  return new Cluster({ engines: () => new CutEngine(), service: { id: service, coprocessor } });
}

function ask(cluster: Cluster, subject: Subject, part: number): void {
  const reader = cluster.leaderOf(rangeOf(cluster, subject.low))?.engine ?? cluster.hosts[0]!.engine;
  for (const { key, body } of subject.asked(part, reader)) cluster.command(() => rangeOf(cluster, key), body);
}

/** Gives the id of the range that was there for a while. */
function story(cluster: Cluster, subject: Subject): number {
  const { low, high, splitKey } = subject;
  cluster.found(RANGE);
  ask(cluster, subject, 0);
  divide(cluster, low, splitKey);
  ask(cluster, subject, 1);
  const child = rangeOf(cluster, high);
  expect(child).not.toBe(rangeOf(cluster, low));
  join(cluster, low, high);
  ask(cluster, subject, 2);
  cluster.run(3000);
  return child;
}

function told(subject: Subject, reader: Host['engine']): string[] {
  const { start, end } = wholeService(subject.service);
  const out: string[] = [];
  const keys: [Uint8Array, Uint8Array][] = [];
  reader.scan(start, end, (key, value) => {
    keys.push([Buffer.from(key), Buffer.from(value)]);
    return true;
  });
  for (const [key, value] of keys) out.push(subject.told(key, value, reader));
  return out.sort();
}

/** What a range has that is never divided, after the same commands. */
function undivided(subject: Subject): string[] {
  const engine = new MemoryEngine();
  const coprocessor = subject.coprocessor(RANGE);
  coprocessor.reset(wholeService(subject.service), engine);
  for (let part = 0; part < PARTS; part++)
    for (const { body } of subject.asked(part, engine))
      engine.write(
        writer => {
          coprocessor.mutate(new ByteReader(body), writer, new ByteWriter(64));
          coprocessor.finish(writer);
        },
        () => undefined,
      );
  return told(subject, engine);
}

function bytesOf({ engine }: Host, spans: readonly Span[]): string[] {
  const out: string[] = [];
  for (const { start, end } of spans)
    engine.scan(start, end, (key, value) => {
      out.push(`${Buffer.from(key).toString('hex')}=${Buffer.from(value).toString('hex')}`);
      return true;
    });
  return out;
}

function check(cluster: Cluster, subject: Subject, child: number, wanted: readonly string[]): void {
  const states = cluster.hosts.map(host => bytesOf(host, stateSpans(host.store.replica(RANGE)!.descriptor!)));
  for (const [at, host] of cluster.hosts.entries()) {
    expect([...host.store.replicas].map(({ rangeId }) => rangeId)).toEqual([RANGE]);
    expect(told(subject, host.engine)).toEqual(wanted);
    expect(states[at]).toEqual(states[0]);
    expect(bytesOf(host, [localSpan(subject.service, child)])).toEqual([]);
    subject.check(host.coprocessors.get(RANGE)!, host.engine);
    const again = subject.coprocessor(RANGE);
    again.reset(host.store.replica(RANGE)!.descriptor!.boundary, host.engine);
    subject.check(again, host.engine);
  }
}

describe.each(SUBJECTS)('a range of $name that is divided and joined', subject => {
  const wanted = undivided(subject);
  let writes = 0;

  it('has what one has that never was, the same on all stores', () => {
    const cluster = clusterOf(subject);
    check(cluster, subject, story(cluster, subject), wanted);
    writes = Math.min(...cluster.hosts.map(host => engineOf(host).writes));
    expect(writes).toBeGreaterThan(30);
  });

  it('has it though some store ends at any transaction', () => {
    for (let cutAt = FIRST_CUT; cutAt <= writes; cutAt++) {
      const cluster = clusterOf(subject);
      const engine = engineOf(cluster.hosts[cutAt % 3]!);
      engine.cutAt = cutAt;
      engine.isDurable = cutAt % 2 === 0;
      try {
        check(cluster, subject, story(cluster, subject), wanted);
      } catch (error) {
        throw new Error(`cut at ${cutAt}`, { cause: error });
      }
    }
  }, 60_000);

  it('names a key to divide it at, with either half there', () => {
    const engine = new MemoryEngine();
    const coprocessor = subject.coprocessor(RANGE);
    const whole = wholeService(subject.service);
    coprocessor.reset(whole, engine);
    expect(coprocessor.hints!(engine)).toMatchObject({ bytes: 0, fanOut: 0, splitKey: new Uint8Array(0) });
    for (const { body } of subject.asked(0, engine))
      engine.write(
        writer => {
          coprocessor.mutate(new ByteReader(body), writer, new ByteWriter(64));
          coprocessor.finish(writer);
        },
        () => undefined,
      );
    const { splitKey } = coprocessor.hints!(engine);
    expect(Buffer.compare(subject.low, splitKey)).toBeLessThan(0);
    expect(Buffer.compare(splitKey, subject.high)).toBeLessThanOrEqual(0);
    expect(coprocessor.hints!(engine)).toBe(coprocessor.hints!(engine));
  });
});
