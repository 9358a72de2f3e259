/**
 * One of the processes of `npm run perf -- kv`, the part of several stores: `kv-peer.js SETTINGS` is a host with a store,
 * or only a caller of the map of others, and does what its parent asks.
 */
import { SERVICE } from '../src/kv/keys.js';
import { encodePut, mapKey } from '../src/kv/map/map-codec.js';
import { ASK } from '../src/kv/route/client.js';
import { KvMember, type KvMemberSettings } from '../test/e2e/kv-member.js';
import { KEY_BYTES, Puts } from './kv-store.js';

export interface PutsWanted {
  /** Puts under way at a time. */
  readonly window: number;
  readonly valueBytes: number;
  /** Keys come round. */
  readonly keys: number;
  /** Ends after as many puts, if it is not over before. */
  readonly countMax: number;
  readonly ms: number;
}

export interface PutsDone {
  readonly count: number;
  readonly ms: number;
  /** Of each put, sorted, or of as many as are enough. */
  readonly waitsMs: readonly number[];
}

export interface PeerSeen {
  readonly leads: boolean;
  readonly voters: number;
  readonly changing: boolean;
  readonly replicas: number;
  /** Of them, those that are not quiet. */
  readonly awake: number;
  readonly cpuUs: number;
}

export interface PeerCommands {
  look: { with: object; gives: PeerSeen };
  puts: { with: PutsWanted; gives: PutsDone };
  /** Divides what it leads until there are as many; gives how many there are. */
  divide: { with: { count: number; withinMs: number }; gives: number };
  /** Hands over what another store is to lead, so that each leads as many; gives how many ranges that were. */
  spread: { with: object; gives: number };
  /** Commits so much again and again, beside the ranges; gives how long each commit took, sorted. */
  commit: { with: { bytes: number; ms: number }; gives: readonly number[] };
}

const WAITS_KEPT = 20_000;
const DEADLINE_MS = 60_000;
const WHOLE = { start: Uint8Array.of(SERVICE.RETAIN), end: Uint8Array.of(SERVICE.RETAIN + 1) };

const settings = JSON.parse(process.argv[2] ?? '') as KvMemberSettings;
const member = new KvMember(settings, WHOLE, () => new Puts());

function look(): PeerSeen {
  const replicas = [...member.host!.store.replicas];
  const replica = replicas[0];
  const { user, system } = process.cpuUsage();
  return {
    leads: replica?.isLeader === true,
    voters: replica?.raft.configuration.voters.length ?? 0,
    changing: replica?.descriptor?.changing ?? true,
    replicas: replicas.length,
    awake: replicas.filter(({ raft }) => !raft.isQuiescent).length,
    cpuUs: user + system,
  };
}

interface Put {
  readonly key: Uint8Array;
  readonly body: Uint8Array;
}

function put(number: number, valueBytes: number): Put {
  const body = Buffer.allocUnsafe(KEY_BYTES + valueBytes);
  body.fill(7, KEY_BYTES);
  body[0] = SERVICE.RETAIN;
  body.writeUInt32BE(0, 1);
  body.writeUInt32BE(number, 5);
  return { key: body.subarray(0, KEY_BYTES), body };
}

function mapPut(number: number, valueBytes: number): Put {
  const key = `key-${number}`;
  const body = encodePut({ key, value: new Uint8Array(valueBytes).fill(7), nowMs: Date.now() });
  return { key: mapKey(key), body };
}

let next = 0;

function puts({ window, valueBytes, keys, countMax, ms }: PutsWanted): Promise<PutsDone> {
  const beganMs = performance.now();
  const waitsMs: number[] = [];
  let begun = 0;
  let count = 0;
  return new Promise(over => {
    const one = (): void => {
      const startMs = performance.now();
      if (begun >= countMax || startMs - beganMs >= ms) {
        if (begun === count) over({ count, ms: startMs - beganMs, waitsMs: waitsMs.sort((a, b) => a - b) });
        return;
      }
      begun++;
      const { key, body } =
        settings.data === undefined ? mapPut(next++ % keys, valueBytes) : put(next++ % keys, valueBytes);
      member.access.call(ASK.MUTATE, key, body, DEADLINE_MS, {
        done: () => {
          count++;
          if (waitsMs.length < WAITS_KEPT) waitsMs.push(performance.now() - startMs);
          one();
        },
        notDone: reason => fail(`a put was not done: ${reason}`),
        unknown: () => fail('a put has an unknown outcome'),
      });
    };
    for (let at = 0; at < window; at++) one();
  });
}

/** In places of equal width: `PLACES` of them. */
const PLACES = 4096;
const DIVIDE_MS = 100;
const SESSION = 1;

function placeOf(key: Uint8Array): number {
  if (key[0] !== SERVICE.RETAIN) return PLACES;
  return key.length < 3 ? 0 : key[1]! * 256 + key[2]!;
}

async function divide({ count, withinMs }: PeerCommands['divide']['with']): Promise<number> {
  const { store } = member.host!;
  const endMs = performance.now() + withinMs;
  let sequence = 0;
  for (;;) {
    const replicas = [...store.replicas];
    if (replicas.length >= count || performance.now() > endMs) return replicas.length;
    let missing = count - replicas.length;
    for (const { descriptor, isLeader, rangeId } of replicas) {
      if (!isLeader || descriptor === undefined || descriptor.changing || missing === 0) continue;
      const { start, end } = descriptor.boundary;
      const middle = (placeOf(start) + placeOf(end)) >> 1;
      if (middle === placeOf(start)) continue;
      missing--;
      const key = Uint8Array.of(SERVICE.RETAIN, middle >> 8, middle & 255);
      store.split(rangeId, descriptor.epoch, SESSION, ++sequence, key);
    }
    await new Promise(resolve => setTimeout(resolve, DIVIDE_MS));
  }
}

/** Every store has the same ranges, and those in turn go to each. */
function spread(): number {
  const { store } = member.host!;
  const replicas = [...store.replicas].sort((one, other) => one.rangeId - other.rangeId);
  let count = 0;
  for (const [at, { descriptor, isLeader, rangeId }] of replicas.entries()) {
    const stores = (descriptor?.members ?? []).map(member => member.store).sort((a, b) => a - b);
    const heir = stores[at % stores.length];
    if (isLeader && heir !== undefined && heir !== store.id && store.transfer(rangeId, heir)) count++;
  }
  return count;
}

const RECORD_BYTES = 1000;
/** Beyond every range. */
const BESIDE = 0xff;

async function commit({ bytes, ms }: PeerCommands['commit']['with']): Promise<readonly number[]> {
  const { engine } = member.host!.store;
  const record = new Uint8Array(Math.min(bytes, RECORD_BYTES)).fill(7);
  const waitsMs: number[] = [];
  const endMs = performance.now() + ms;
  for (let number = 0; performance.now() < endMs; ) {
    const startMs = performance.now();
    engine.write(
      writer => {
        for (let left = bytes; left > 0; left -= record.length)
          writer.put(Uint8Array.of(BESIDE, number >> 16, number >> 8, number++), record);
      },
      () => undefined,
    );
    waitsMs.push(performance.now() - startMs);
    await new Promise(resolve => setImmediate(resolve));
  }
  return waitsMs.sort((one, other) => one - other);
}

function fail(words: string): never {
  throw new Error(words);
}

const answers = { look, puts, divide, spread, commit };

process.on('disconnect', () => process.exit(0));
process.on(
  'message',
  ({ number, name, input }: { number: number; name: keyof PeerCommands; input: never }) => {
    void Promise.resolve(answers[name](input)).then(value => process.send!({ number, value }));
  },
);
await member.start();
process.send!({ number: 0 });
