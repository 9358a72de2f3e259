/** What a goal compares with: a target's median of the same row, our own median of another row, or a number. */
export type Yardstick =
  | { readonly kind: 'target'; readonly target: TargetName }
  | { readonly kind: 'row'; readonly row: string }
  | { readonly kind: 'number' };

export type TargetName = 'shoalmq' | 'mosquitto' | 'floor';

export interface Goal {
  /** Dotted path into the load generator's JSON. */
  readonly metric: string;
  readonly label: string;
  readonly against: Yardstick;
  readonly bound: 'at-least' | 'at-most';
  /** A factor on the yardstick, or the number itself. */
  readonly value: number;
}

export interface Row {
  readonly name: string;
  readonly title: string;
  /** Arguments of the load generator; port, process and seconds are added. */
  readonly load: readonly string[];
  readonly transport: 'tcp' | 'ws';
  readonly targets: readonly TargetName[];
  readonly goals: readonly Goal[];
}

const ALL: readonly TargetName[] = ['shoalmq', 'mosquitto', 'floor'];
const BROKERS: readonly TargetName[] = ['shoalmq', 'mosquitto'];

const DELIVERIES = { metric: 'deliveriesPerSecond', label: 'deliveries/s' } as const;

function overMosquitto(value: number): Goal {
  return { ...DELIVERIES, against: { kind: 'target', target: 'mosquitto' }, bound: 'at-least', value };
}

function ownTcp(row: string): Goal {
  return { ...DELIVERIES, against: { kind: 'row', row }, bound: 'at-least', value: 1 };
}

function memory(bytes: number): Goal {
  return {
    metric: 'bytesPerConnection.pss',
    label: 'bytes/connection',
    against: { kind: 'number' },
    bound: 'at-most',
    value: bytes,
  };
}

function pairs(count: number, qos: 0 | 1, factor: number): Row {
  return {
    name: `pairs-${count}-q${qos}`,
    title: `${count} pairs, QoS ${qos}, window 64`,
    load: ['pairs', '-P', String(count), '--qos', String(qos), '--window', '64'],
    transport: 'tcp',
    targets: ALL,
    goals: [overMosquitto(factor)],
  };
}

function fanIn(count: number): Row {
  return {
    name: `fan-in-${count}`,
    title: `fan-in ${count} → 1 on a wildcard, QoS 0`,
    load: ['fan-in', '-P', String(count), '--qos', '0', '--window', '64'],
    transport: 'tcp',
    targets: ALL,
    goals: [overMosquitto(25)],
  };
}

function idle(transport: 'tcp' | 'ws', bytes: number): Row {
  return {
    name: `idle-${transport}`,
    title: `9,000 idle connections, one subscription each, ${transport.toUpperCase()}`,
    load: ['idle', '-C', '9000'],
    transport,
    targets: BROKERS,
    goals: [memory(bytes)],
  };
}

const FAN_OUT_LOAD = ['fan-out', '-S', '1000', '--window', '64'];

/** The rows of the README's performance table, in its order. */
export const ROWS: readonly Row[] = [
  {
    name: 'fan-out-q0',
    title: 'fan-out 1 → 1,000, QoS 0, 64 in flight',
    load: [...FAN_OUT_LOAD, '--qos', '0'],
    transport: 'tcp',
    targets: ALL,
    goals: [
      overMosquitto(50),
      { ...DELIVERIES, against: { kind: 'target', target: 'floor' }, bound: 'at-least', value: 0.6 },
    ],
  },
  {
    name: 'fan-out-q1',
    title: 'fan-out 1 → 1,000, QoS 1 to subscribers',
    // By acknowledgements alone the window would measure how long a queue each broker allows.
    load: [...FAN_OUT_LOAD, '--qos', '1', '--window-by', 'both'],
    transport: 'tcp',
    targets: ALL,
    goals: [overMosquitto(15)],
  },
  pairs(200, 0, 20),
  pairs(500, 0, 20),
  pairs(200, 1, 30),
  pairs(500, 1, 30),
  fanIn(100),
  fanIn(200),
  {
    name: 'pairs-200-rate',
    title: '200 pairs at 100 messages/s each, QoS 0',
    load: ['pairs', '-P', '200', '--rate', '100'],
    transport: 'tcp',
    targets: ALL,
    goals: [
      {
        metric: 'broker.cpuUsPerMessage',
        label: 'CPU µs/message',
        against: { kind: 'target', target: 'mosquitto' },
        bound: 'at-most',
        value: 1,
      },
      {
        metric: 'latencyUs.p99',
        label: 'p99 µs',
        against: { kind: 'target', target: 'mosquitto' },
        bound: 'at-most',
        value: 1.2,
      },
    ],
  },
  {
    name: 'fan-out-ws',
    title: 'fan-out 1 → 1,000 over WebSocket, QoS 0',
    load: [...FAN_OUT_LOAD, '--qos', '0'],
    transport: 'ws',
    targets: BROKERS,
    goals: [ownTcp('fan-out-q0')],
  },
  {
    ...pairs(200, 0, 1),
    name: 'pairs-200-ws',
    title: '200 pairs over WebSocket, QoS 0, a frame for each packet',
    transport: 'ws',
    targets: BROKERS,
    goals: [ownTcp('pairs-200-q0')],
  },
  {
    // A frame may hold many packets [MQTT-6.0.0-2]; then WebSocket's own cost is paid once for all of them.
    ...pairs(200, 0, 1),
    name: 'pairs-200-ws-batch',
    title: '200 pairs over WebSocket, QoS 0, a frame for all packets at hand',
    load: ['pairs', '-P', '200', '--qos', '0', '--window', '64', '--ws-batch'],
    transport: 'ws',
    targets: BROKERS,
    goals: [ownTcp('pairs-200-q0')],
  },
  idle('ws', 5 * 1024),
  {
    name: 'persistent-q1',
    title: 'QoS 1, 16 → 1 persistent subscriber online, 512 in flight',
    // 512 in flight: a session's queue holds 1,000 as shipped, and what is beyond is dropped by that policy.
    load: ['persistent', '-P', '16', '-S', '1', '--window', '32', '--window-by', 'both'],
    transport: 'tcp',
    targets: BROKERS,
    goals: [{ ...DELIVERIES, against: { kind: 'number' }, bound: 'at-least', value: 40_000 }],
  },
  idle('tcp', 6 * 1024),
  {
    name: 'subscribe',
    title: '100,000 distinct filters, 10 clients',
    load: ['subscribe', '--filters', '100000', '-C', '10'],
    transport: 'tcp',
    targets: BROKERS,
    goals: [
      {
        metric: 'filtersPerSecond',
        label: 'filters/s',
        against: { kind: 'number' },
        bound: 'at-least',
        value: 30_000,
      },
    ],
  },
];
