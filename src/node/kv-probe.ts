import type { Clock } from '../base/env.js';
import { rulesOf } from '../kv/balance/rules-entry.js';
import { SERVICE, utf8 } from '../kv/keys.js';
import { encodeDelete, encodeGet, mapKey, mapKeyFault } from '../kv/map/map-codec.js';
import { ASK } from '../kv/route/client.js';
import type { Finding } from './finding.js';
import { kvFindings, type Probe } from './kv-doctor.js';
import { call, type MapAccess } from './kv-map-routes.js';
import type { KvSource } from './kv-routes.js';
import { type RangeRow, rangesReport, serviceWords } from './kv-view.js';

/** Ranges of the map that the doctor tries at once. */
const PROBES_MAX = 16;
/** Before a range is said to take no write. */
const PROBE_MS_MAX = 4_000;

/** What the doctor finds of the replicated storage; asks ranges of the map to take a write, so it may take seconds. */
export async function examineKv(
  kv: KvSource,
  clock: Pick<Clock, 'monotonicMs' | 'wallMs'>,
): Promise<Finding[]> {
  const { access, board } = kv;
  // Of a node that is in no cluster there is nothing to be said that its own log would not say.
  if (access === undefined) return [];
  const { ranges } = rangesReport(board.landscape());
  const map = serviceWords(SERVICE.MAP);
  const tried = ranges.filter(({ sole, service }) => !sole && service === map).slice(0, PROBES_MAX);
  const probes = await Promise.all(tried.map(row => probe(access, row, clock)));
  const { steering } = board;
  return kvFindings({
    landscape: board.landscape(),
    rules: rulesOf(steering),
    stopped: steering.stopped,
    begun: kv.begunServices,
    nowMs: clock.monotonicMs(),
    probes,
  });
}

/**
 * A real write that leaves nothing behind: to delete a key only if it has a revision that none has. Where nothing was ever
 * written it is a question instead: an empty twin of a key space has to stay known as empty, to go by itself.
 */
async function probe(
  access: MapAccess,
  { id, start, pristine }: RangeRow,
  clock: Pick<Clock, 'monotonicMs' | 'wallMs'>,
): Promise<Probe> {
  const key = `${utf8(Buffer.from(start, 'hex'), 1)}\u0001`;
  const beganMs = clock.monotonicMs();
  if (mapKeyFault(key) !== undefined) return { range: id, why: undefined, tookMs: 0 };
  const end = pristine
    ? await call(access, ASK.QUERY, mapKey(key), encodeGet(key), PROBE_MS_MAX)
    : await call(
        access,
        ASK.MUTATE,
        mapKey(key),
        encodeDelete({ key, nowMs: clock.wallMs(), expected: Number.MAX_SAFE_INTEGER }),
        PROBE_MS_MAX,
      );
  const isAnswered = end.kind === 'answer';
  const why = isAnswered ? undefined : `no answer to one within ${PROBE_MS_MAX / 1_000} s`;
  return { range: id, why, tookMs: clock.monotonicMs() - beganMs };
}
