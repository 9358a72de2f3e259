import { afterEach, describe, expect, it } from 'vitest';
import { DROP, DROPS } from '../../src/base/metrics.js';
import { type Authenticator, acceptAll } from '../../src/plugin/plugin.js';
import { Broker, type BrokerOptions } from './harness.js';
import type { ConnectOptions, TestClient } from './test-client.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

/** Sends CONNECT and leaves what is answered to the caller. */
function attempt(options: ConnectOptions): TestClient {
  const socket = broker.socket();
  socket.sendConnect({ clientId: 'c', ...options });
  broker.pump();
  return socket;
}

const NOT_UTF8 = Buffer.from([0x61, 0xff]);
const SAID_TO_BE_UTF8 = { payloadFormatIndicator: true };
const will = (more: object) => ({ topic: 'will', payload: 'gone', qos: 0, ...more });

describe('a CONNECT is refused', () => {
  it.each([
    ['Will QoS above Maximum QoS [MQTT-3.2.2-12]', { limits: { qosMax: 1 } }, will({ qos: 2 }), 0x9b],
    [
      'Will Retain where nothing is retained [MQTT-3.2.2-13]',
      { features: { retain: false } },
      will({ retain: true }),
      0x9a,
    ],
    ['a will beyond the limit', { limits: { willBytesMax: 3 } }, will({}), 0x97],
    [
      'a will that is not the UTF-8 that it says (3.1.3.2.3)',
      {},
      will({ payload: NOT_UTF8, properties: SAID_TO_BE_UTF8 }),
      0x99,
    ],
    ['a will with too many levels', { limits: { topicLevelsMax: 2 } }, will({ topic: 'a/b/c' }), 0x90],
    ['a will to a topic of the broker', {}, will({ topic: '$SYS/broker/version' }), 0x87],
  ] as [string, BrokerOptions, object, number][])(
    'for %s, and closed',
    (_name, options, will, reasonCode) => {
      open(options);
      const client = attempt({ will });
      client.take('connack', { reasonCode });
      expect(client.closed).toBe(true);
      attempt({}).take('connack', { reasonCode: 0 });
    },
  );

  it('takes a will whose payload is UTF-8, U+0000 included', () => {
    open();
    const payload = Buffer.from('a\0ü');
    attempt({ will: will({ payload, properties: SAID_TO_BE_UTF8 }) }).take('connack', { reasonCode: 0 });
  });

  it.each([
    [3, 'mqtt31', { returnCode: 1 }],
    [4, 'mqtt311', { returnCode: 1 }],
    [5, 'mqtt5', { reasonCode: 0x84 }],
  ] as const)('of a version that is switched off, level %i [MQTT-3.1.2-2]', (version, feature, want) => {
    open({ features: { [feature]: false } });
    const client = attempt({ version });
    expect(client.take('connack')).toMatchObject(want);
    expect(client.closed).toBe(true);
    for (const other of [3, 4, 5] as const) if (other !== version) broker.connect({ version: other });
  });
});

describe('a payload that is not the UTF-8 that it is said to be (3.3.2.3.2)', () => {
  it.each([
    [1, 'puback'],
    [2, 'pubrec'],
  ] as const)('is refused with 0x99 at QoS %i, and goes to nobody', (qos, answer) => {
    open();
    const witness = broker.connect();
    witness.subscribe('t', { qos: 2 });
    const publisher = broker.connect({ expiry: 100 });
    const id = publisher.sendPublish('t', NOT_UTF8, { qos, properties: SAID_TO_BE_UTF8 });
    broker.pump();
    publisher.take(answer, { messageId: id, reasonCode: 0x99 });
    expect(broker.counter(DROPS + DROP.PAYLOAD_FORMAT)).toBe(1);
    expect(publisher.closed).toBe(false);
    expect(publisher.publish('t', 'ok', { qos, id, properties: SAID_TO_BE_UTF8 }).reasonCode ?? 0).toBe(0);
    expect(witness.receive()).toEqual(['ok']);
  });

  it('goes to nobody at QoS 0 and is counted, and is passed on where nothing is said of it', () => {
    open();
    const witness = broker.connect();
    witness.subscribe('t');
    const publisher = broker.connect();
    publisher.publish('t', NOT_UTF8, { properties: SAID_TO_BE_UTF8 });
    expect(witness.messages()).toEqual([]);
    expect(broker.counter(DROPS + DROP.PAYLOAD_FORMAT)).toBe(1);
    publisher.publish('t', NOT_UTF8, { properties: { payloadFormatIndicator: false } });
    publisher.publish('t', 'a\0b', { properties: SAID_TO_BE_UTF8 });
    expect(witness.messages().map(({ payload }) => Buffer.from(payload))).toEqual([
      NOT_UTF8,
      Buffer.from('a\0b'),
    ]);
    expect(broker.counter(DROPS + DROP.PAYLOAD_FORMAT)).toBe(1);
  });
});

describe('response information', () => {
  const informing: Authenticator = {
    ...acceptAll,
    authenticate: () => ({ kind: 'accept', tenant: 'default', user: 'u', responseInformation: 'answers/u' }),
  };

  it.each([
    [true, 'answers/u'],
    [false, undefined],
    [undefined, undefined],
  ])('asked for: %s; the CONNACK has %j [MQTT-3.1.2-28]', (requestResponseInformation, want) => {
    open({ authenticator: informing });
    const client = broker.connect({ properties: { requestResponseInformation } });
    expect(client.connack.properties?.responseInformation).toBe(want);
  });
});

describe('what is switched off', () => {
  it('is told in CONNACK and refused by its code (3.2.2.3.11 to 13, 3.9.3)', () => {
    open({ features: { wildcards: false, sharedSubscriptions: false, subscriptionIdentifiers: false } });
    const client = broker.connect();
    expect(client.connack.properties).toMatchObject({
      wildcardSubscriptionAvailable: false,
      sharedSubscriptionAvailable: false,
      subscriptionIdentifiersAvailable: false,
    });
    expect(client.subscribe(['a/+', '#', '$share/g/a', 'a'])).toEqual([0xa2, 0xa2, 0x9e, 0]);
    expect(client.subscribe('b', { id: 1 })).toEqual([0xa1]);
  });
});
