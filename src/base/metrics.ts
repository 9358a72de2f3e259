import { assert } from './assert.js';

/**
 * Counting without messages. Each thread owns one {@link CounterBlock} over shared memory and is its only
 * writer; the main thread reads all blocks when somebody asks (Prometheus, $SYS). An increment is
 *
 *     block.values[PACKETS_RECEIVED + packetType] += 1;
 *
 * with numeric constants, so it costs one load and one store: labels are flattened into the index. A family's
 * constant is the index of its first value; what to add to it is the position of the label's value, or the
 * tables DROP, VIOLATION … where there is one.
 *
 * Values are float64: exact up to 2^53, and an aligned eight-byte store is never seen half done on the 64-bit
 * machines that Node runs on. A reader may see a histogram's bucket before its sum; nothing depends on more.
 *
 * To add a metric, append a line to the table below: indexes are internal to one build, so order is free.
 */

export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  /** Index of the first value. */
  readonly base: number;
  /** Number of values: the product of the label values; for a histogram buckets + 2 (sum, count). */
  readonly size: number;
  /** Labels, the last one varying fastest. Empty label values ('') are indexes that are never used. */
  readonly labels: readonly MetricLabel[];
  /** Upper bounds of a histogram's buckets, ascending; one more bucket holds what is larger. */
  readonly bounds: readonly number[];
}

export interface MetricLabel {
  readonly name: string;
  readonly values: readonly string[];
}

const families: MetricFamily[] = [];
let slots = 0;

function family(
  type: MetricType,
  name: string,
  help: string,
  labels: MetricLabel[],
  bounds: number[],
): number {
  const base = slots;
  const size =
    type === 'histogram'
      ? bounds.length + 3
      : labels.reduce((product, label) => product * label.values.length, 1);
  families.push({ name, help, type, base, size, labels, bounds });
  slots += size;
  return base;
}

const counter = (name: string, help: string, ...labels: MetricLabel[]) =>
  family('counter', `shoalmq_${name}`, help, labels, []);
const gauge = (name: string, help: string, ...labels: MetricLabel[]) =>
  family('gauge', `shoalmq_${name}`, help, labels, []);
/** Buckets at first, 2·first, 4·first …: a fixed cost whatever is observed. */
const histogram = (name: string, help: string, first: number, count: number) =>
  family(
    'histogram',
    `shoalmq_${name}`,
    help,
    [],
    Array.from({ length: count }, (_, index) => first * 2 ** index),
  );

/** Index by the packet type nibble of MQTT (1 CONNECT … 15 AUTH). */
const packet: MetricLabel = {
  name: 'type',
  values:
    ',connect,connack,publish,puback,pubrec,pubrel,pubcomp,subscribe,suback,unsubscribe,unsuback,pingreq,pingresp,disconnect,auth'.split(
      ',',
    ),
};
const qos: MetricLabel = { name: 'qos', values: ['0', '1', '2'] };
const version: MetricLabel = { name: 'version', values: ['3.1', '3.1.1', '5'] };

/** Order of the `transport` label. */
export const TRANSPORT_INDEX = { tcp: 0, tls: 1, ws: 2, wss: 3 } as const;
const transport: MetricLabel = { name: 'transport', values: Object.keys(TRANSPORT_INDEX) };

/** Why a message did not reach a session: the offsets within {@link DROPS}. */
export const DROP = {
  QUEUE_FULL: 0,
  SLOW_CONSUMER: 1,
  EXPIRED: 2,
  TOO_LARGE: 3,
  NOT_AUTHORIZED: 4,
  NO_RECEIVER: 5,
  LIMIT: 6,
  SESSION_GONE: 7,
  STORE_UNAVAILABLE: 8,
  PAYLOAD_FORMAT: 9,
} as const;
export const DROP_REASONS = Object.keys(DROP).length;

/** Why a connection was closed by us: the offsets within {@link VIOLATIONS}. */
export const VIOLATION = {
  MALFORMED: 0,
  PROTOCOL_ERROR: 1,
  PACKET_TOO_LARGE: 2,
  RECEIVE_MAXIMUM: 3,
  TOPIC_INVALID: 4,
  TOPIC_ALIAS: 5,
  KEEP_ALIVE: 6,
  CONNECT_TIMEOUT: 7,
  UNSUPPORTED_VERSION: 8,
  QOS_NOT_SUPPORTED: 9,
  RETAIN_NOT_SUPPORTED: 10,
  QUOTA: 11,
  TRANSPORT: 12,
} as const;

/** How an authentication ended: the offsets within {@link AUTH_RESULTS}. */
export const AUTH_RESULT = { ACCEPTED: 0, REFUSED: 1, BUSY: 2, FAILED: 3 } as const;

/** Why a client was turned away before it had a session: the offsets within {@link CONNECT_REFUSALS}. */
export const CONNECT_REFUSAL = { LIMIT: 0, RATE: 1, AUTHENTICATION: 2, PROTOCOL: 3, UNAVAILABLE: 4 } as const;

const reasons = (table: Readonly<Record<string, number>>): MetricLabel => ({
  name: 'reason',
  values: Object.keys(table).map(name => name.toLowerCase()),
});

// -- Connections and sessions ------------------------------------------------------------------------------
export const CONNECTIONS = gauge('connections', 'Open MQTT connections.', transport);
export const CONNECTIONS_MAX = gauge(
  'connections_max',
  'Connections that the node takes: limits.connectionsMax, or fewer where open files are.',
);
/** + 4 × transport + event. */
export const LISTENER_EVENTS = counter(
  'listener_events_total',
  'What became of sockets before MQTT; refused_at_limit were closed unheard.',
  transport,
  { name: 'event', values: ['accepted', 'refused_at_limit', 'handshake_failed', 'accept_error'] },
);
export const SESSIONS = gauge('sessions', 'Sessions held by this thread.', {
  name: 'kind',
  values: ['transient', 'persistent_online', 'persistent_stored'],
});
/** + 4 × version (0: 3.1, 1: 3.1.1, 2: 5) + transport. */
export const CONNECTS = counter('connects_total', 'Accepted CONNECT packets.', version, transport);
export const CONNECT_REFUSALS = counter(
  'connect_refusals_total',
  'Connections turned away.',
  reasons(CONNECT_REFUSAL),
);
export const DISCONNECTS = counter('disconnects_total', 'Connections ended.', {
  name: 'by',
  values: ['client', 'server', 'network', 'takeover'],
});
export const TAKEOVERS = counter(
  'session_takeovers_total',
  'Connections replaced by one with the same client id.',
);
export const AUTH_RESULTS = counter('auth_results_total', 'Authentications by outcome.', {
  name: 'result',
  values: ['accepted', 'refused', 'busy', 'failed'],
});
export const ACL_DENIALS = counter('acl_denials_total', 'Publishes and subscriptions not authorised.', {
  name: 'action',
  values: ['publish', 'subscribe'],
});
export const VIOLATIONS = counter(
  'violations_total',
  'Connections closed for what the client did.',
  reasons(VIOLATION),
);
export const WILLS = counter('wills_published_total', 'Will messages published.');

// -- Packets and messages ----------------------------------------------------------------------------------
export const PACKETS_RECEIVED = counter('packets_received_total', 'MQTT packets received.', packet);
export const PACKETS_SENT = counter('packets_sent_total', 'MQTT packets sent.', packet);
export const BYTES_RECEIVED = counter('bytes_received_total', 'Bytes of MQTT packets received.', packet);
export const BYTES_SENT = counter('bytes_sent_total', 'Bytes of MQTT packets sent.', packet);
export const PUBLISHES = counter('publishes_total', 'Messages taken from publishers.', qos);
export const DELIVERIES = counter('deliveries_total', 'Messages sent to subscribers.', qos);
export const REDELIVERIES = counter('redeliveries_total', 'Messages sent again with DUP.');
export const DROPS = counter('drops_total', 'Messages that did not reach a receiver.', reasons(DROP));
export const SHARD_HOPS = counter('shard_hops_total', 'Messages handed to another mqtt thread.');
export const READ_PAUSES = counter('read_pauses_total', 'Times that reading from a client was stopped.');
export const SOCKET_WRITES = counter(
  'socket_writes_total',
  'Writes handed to the kernel or to uWebSockets.js.',
);
export const PENDING_BYTES = gauge('pending_bytes', 'Bytes waiting for slow sockets.');

// -- Subscriptions, matching, retained messages ------------------------------------------------------------
export const SUBSCRIPTIONS = gauge('subscriptions', 'Subscriptions of the sessions of this thread.');
export const ROUTES = gauge('routes', 'Routes in the subscription index.');
export const MATCH_CACHE_HITS = counter('match_cache_hits_total', 'Topics whose receivers were remembered.');
export const MATCH_CACHE_MISSES = counter('match_cache_misses_total', 'Topics that had to be matched.');
export const MATCH_CACHE_ENTRIES = gauge('match_cache_entries', 'Topics whose receivers are remembered.');
export const MATCH_INVALIDATIONS = counter(
  'match_invalidations_total',
  'Remembered topics dropped on a change.',
);
export const MATCH_SECONDS = histogram('match_seconds', 'Time to match one topic at the index.', 1e-7, 20);
export const RETAINED = gauge('retained_messages', 'Retained messages.');
export const RETAINED_BYTES = gauge('retained_bytes', 'Bytes of retained messages.');
export const RETAIN_SCANS = counter('retain_scans_total', 'Look-ups of retained messages.');

// -- Storage -----------------------------------------------------------------------------------------------
export const COMMITS = counter('commits_total', 'Write transactions.');
export const COMMIT_OPERATIONS = histogram('commit_operations', 'Operations per write transaction.', 1, 16);
export const COMMIT_SECONDS = histogram(
  'commit_seconds',
  'Time of a write transaction, flush left out.',
  1e-5,
  20,
);
export const FLUSH_SECONDS = histogram('flush_seconds', 'Time until a commit was on disk.', 1e-5, 20);
export const STORE_FAILURES = counter('store_failures_total', 'Write transactions that failed.');
export const KV_REPLICAS = gauge('kv_replicas', 'Replicas of ranges that are shared with other stores.');
export const KV_LEADERS = gauge('kv_leaders', 'Shared ranges that are led here.');
export const KV_FRAMES_DROPPED = counter(
  'kv_frames_dropped_total',
  'Frames for other stores that were dropped in their own thread.',
);

// -- Threads and rings -------------------------------------------------------------------------------------
export const RING_FRAMES_SENT = counter('ring_frames_sent_total', 'Frames written to other threads.');
export const RING_BYTES_SENT = counter('ring_bytes_sent_total', 'Bytes written to other threads.');
export const RING_FRAMES_RECEIVED = counter('ring_frames_received_total', 'Frames read from other threads.');
export const RING_DEPTH_BYTES = gauge(
  'ring_depth_bytes',
  'Bytes waiting in the rings that this thread reads.',
);
export const RING_STALLS = counter('ring_stalls_total', 'Times that a ring was full.');
export const RING_BELLS = counter('ring_bells_total', 'Times that a sleeping thread was woken.');
export const LOOP_DELAY_SECONDS = histogram('event_loop_delay_seconds', 'Event-loop delay.', 1e-4, 16);
export const LOOP_UTILIZATION = gauge(
  'event_loop_utilization',
  'Share of time that the event loop was busy.',
);
export const HEAP_BYTES = gauge('heap_bytes', 'JavaScript heap in use by this thread.');
export const EXTERNAL_BYTES = gauge('external_bytes', 'Memory of buffers held by this thread.');
export const THREAD_RESTARTS = counter('thread_restarts_total', 'Threads that died and were started again.');

/** Every family, in the order of declaration. */
export const METRICS: readonly MetricFamily[] = families;

/** Values of one block. */
export const METRIC_SLOTS = slots;

/** The counters of one thread: one writer, any number of readers. */
export class CounterBlock {
  readonly memory: SharedArrayBuffer;
  readonly values: Float64Array;

  /** Over `memory` from another thread's block, or over fresh memory, all zero. */
  constructor(memory = new SharedArrayBuffer(METRIC_SLOTS * 8)) {
    assert(memory.byteLength === METRIC_SLOTS * 8, 'a counter block has one float64 per metric slot');
    this.memory = memory;
    this.values = new Float64Array(memory);
  }

  /** Adds `value` (in the unit that the name ends with) to the histogram at `base`. */
  observe(base: number, value: number): void {
    const { values } = this;
    const { bounds } = histogramAt(base);
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket += 1;
    values[base + bucket]! += 1;
    values[base + bounds.length + 1]! += value;
    values[base + bounds.length + 2]! += 1;
  }
}

const histograms = new Map(
  families.filter(({ type }) => type === 'histogram').map(entry => [entry.base, entry]),
);

function histogramAt(base: number): MetricFamily {
  const found = histograms.get(base);
  assert(found !== undefined, 'observe() takes the constant of a histogram');
  return found;
}

/** The sum over several threads of `count` consecutive values, as $SYS and tests want it. */
export function total(blocks: Iterable<CounterBlock>, base: number, count = 1): number {
  let sum = 0;
  for (const { values } of blocks)
    for (let index = base; index < base + count; index += 1) sum += values[index]!;
  return sum;
}
