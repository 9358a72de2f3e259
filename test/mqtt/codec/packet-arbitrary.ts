import fc from 'fast-check';
import type { Packet } from 'mqtt-packet';

/** Packets in mqtt-packet's own form, for it to generate or to be compared with what it parsed. */

export type Version = 3 | 4 | 5;
export const versions = fc.constantFrom<Version>(3, 4, 5);

/** Any Unicode text that MQTT allows: no U+0000, no lone surrogate. */
export const text = fc.string({ unit: 'binary', maxLength: 12 }).map(value => value.replaceAll('\0', ''));
export const topicName = text.map(value => `t${value.replace(/[+#]/g, '/')}`);
export const topicFilter = text.map(value => `f${value}`);
export const bytes = fc.uint8Array({ maxLength: 20 }).map(value => Buffer.from(value));
export const packetId = fc.integer({ min: 1, max: 0xffff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const qos = fc.constantFrom(0 as const, 1 as const, 2 as const);
const subscriptionId = fc.oneof(
  fc.constantFrom(1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455),
  fc.integer({ min: 1, max: 268_435_455 }),
);
const userProperties = fc.dictionary(
  text.filter(name => name !== '__proto__'),
  fc.oneof(text, fc.array(text, { minLength: 1, maxLength: 3 })),
  { minKeys: 1, maxKeys: 3 },
);

/** `some` of the properties: each present or not. */
function some<T extends Record<string, fc.Arbitrary<unknown>>>(shape: T) {
  return fc.record(shape, { requiredKeys: [] });
}

const publishShape = {
  payloadFormatIndicator: fc.boolean(),
  messageExpiryInterval: u32,
  contentType: text,
  responseTopic: topicName,
  correlationData: bytes,
  userProperties,
};

function connect(version: Version): fc.Arbitrary<Packet> {
  const v5 = version === 5;
  const will = fc.record({
    topic: topicName,
    payload: bytes.filter(value => value.length > 0),
    qos,
    retain: fc.boolean(),
    ...(v5 ? { properties: some({ willDelayInterval: u32, ...publishShape }) } : {}),
  });
  const properties = fc.record(
    {
      sessionExpiryInterval: u32,
      receiveMaximum: packetId,
      maximumPacketSize: u32.map(value => value || 1),
      topicAliasMaximum: u16,
      requestResponseInformation: fc.boolean(),
      requestProblemInformation: fc.boolean(),
      userProperties,
      authenticationMethod: text,
      authenticationData: bytes,
    },
    { requiredKeys: ['authenticationMethod'] },
  );
  return fc
    .record({
      clientId: text.filter(value => value.length > 0),
      clean: fc.boolean(),
      keepalive: u16,
      will: fc.option(will, { nil: undefined }),
      login: fc.option(
        fc.tuple(
          text.filter(value => value.length > 0),
          fc.option(bytes, { nil: undefined }),
        ),
        { nil: undefined },
      ),
      properties: v5 ? properties : fc.constant(undefined),
    })
    .map(
      ({ login, ...rest }) =>
        ({
          cmd: 'connect',
          protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
          protocolVersion: version,
          ...rest,
          username: login?.[0],
          password: login?.[1],
        }) as Packet,
    );
}

function publish(version: Version): fc.Arbitrary<Packet> {
  return fc
    .record({
      topic: topicName,
      payload: fc.uint8Array({ maxLength: 300 }).map(value => Buffer.from(value)),
      qos,
      dup: fc.boolean(),
      retain: fc.boolean(),
      messageId: packetId,
      properties: version === 5 ? some({ topicAlias: packetId, ...publishShape }) : fc.constant(undefined),
    })
    .map(packet => ({ cmd: 'publish', ...packet, dup: packet.dup && packet.qos > 0 }) as Packet);
}

const ACK_REASONS = {
  puback: [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
  pubrec: [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
  pubrel: [0, 0x92],
  pubcomp: [0, 0x92],
} as const;

function acknowledgement(version: Version): fc.Arbitrary<Packet> {
  const v5 = version === 5;
  return fc.constantFrom('puback', 'pubrec', 'pubrel', 'pubcomp').chain(cmd =>
    fc
      .record({
        messageId: packetId,
        reasonCode: v5 ? fc.constantFrom<number>(...ACK_REASONS[cmd]) : fc.constant(0),
        properties: v5
          ? fc.option(some({ reasonString: text, userProperties }), { nil: undefined })
          : fc.constant(undefined),
      })
      .map(packet => ({ cmd, ...packet }) as Packet),
  );
}

function subscribe(version: Version): fc.Arbitrary<Packet> {
  const v5 = version === 5;
  const options = v5
    ? { nl: fc.boolean(), rap: fc.boolean(), rh: fc.constantFrom(0, 1, 2) }
    : { nl: fc.constant(false), rap: fc.constant(false), rh: fc.constant(0) };
  return fc
    .record({
      messageId: packetId,
      subscriptions: fc.array(fc.record({ topic: topicFilter, qos, ...options }), {
        minLength: 1,
        maxLength: 5,
      }),
      properties: v5
        ? some({ subscriptionIdentifier: subscriptionId, userProperties })
        : fc.constant(undefined),
    })
    .map(packet => ({ cmd: 'subscribe', ...packet }) as Packet);
}

function unsubscribe(version: Version): fc.Arbitrary<Packet> {
  return fc
    .record({
      messageId: packetId,
      unsubscriptions: fc.array(topicFilter, { minLength: 1, maxLength: 5 }),
      properties: version === 5 ? some({ userProperties }) : fc.constant(undefined),
    })
    .map(packet => ({ cmd: 'unsubscribe', ...packet }) as Packet);
}

const DISCONNECT_REASONS = [0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

function disconnect(version: Version): fc.Arbitrary<Packet> {
  if (version !== 5) return fc.constant<Packet>({ cmd: 'disconnect' } as Packet);
  return fc
    .record({
      reasonCode: fc.constantFrom(...DISCONNECT_REASONS),
      properties: some({ sessionExpiryInterval: u32, reasonString: text, userProperties }),
    })
    .map(packet => ({ cmd: 'disconnect', ...packet }) as Packet);
}

const auth: fc.Arbitrary<Packet> = fc
  .record({
    reasonCode: fc.constantFrom(0x18, 0x19),
    properties: fc.record(
      { authenticationMethod: text, authenticationData: bytes, reasonString: text, userProperties },
      { requiredKeys: ['authenticationMethod'] },
    ),
  })
  .map(packet => ({ cmd: 'auth', ...packet }) as Packet);

const pingreq: fc.Arbitrary<Packet> = fc.constant({ cmd: 'pingreq' } as Packet);

export function connectPacket(version: Version): fc.Arbitrary<Packet> {
  return connect(version);
}

/** Any legal packet that a client may send after its CONNECT. */
export function clientPacket(version: Version): fc.Arbitrary<Packet> {
  const kinds = [
    publish(version),
    acknowledgement(version),
    subscribe(version),
    unsubscribe(version),
    disconnect(version),
    pingreq,
  ];
  return fc.oneof(...(version === 5 ? [...kinds, auth] : kinds));
}

export function publishPacket(version: Version): fc.Arbitrary<Packet> {
  return publish(version);
}

const explanation = {
  reasonString: text,
  userProperties: fc.array(fc.tuple(text, text) as fc.Arbitrary<readonly [string, string]>, { maxLength: 3 }),
};

/** What our encoder takes for CONNACK. */
export const connackInput = fc.record(
  {
    reasonCode: fc.constantFrom(0, 0x80, 0x84, 0x87, 0x9f),
    sessionPresent: fc.boolean(),
    sessionExpirySeconds: u32,
    receiveMax: packetId,
    qosMax: fc.constantFrom(0 as const, 1 as const),
    retainAvailable: fc.boolean(),
    packetBytesMax: u32,
    assignedClientId: text,
    topicAliasMax: u16,
    wildcardSubscriptionAvailable: fc.boolean(),
    subscriptionIdsAvailable: fc.boolean(),
    sharedSubscriptionAvailable: fc.boolean(),
    serverKeepAliveSeconds: u16,
    responseInformation: text,
    serverReference: text,
    authenticationMethod: text,
    authenticationData: bytes,
    ...explanation,
  },
  { requiredKeys: ['reasonCode', 'sessionPresent'] },
);

export const disconnectInput = fc.record(
  { reasonCode: fc.constantFrom(0, 0x81, 0x8b, 0x8e, 0x9c), serverReference: text, ...explanation },
  { requiredKeys: ['reasonCode'] },
);

export const authInput = fc.record(
  {
    reasonCode: fc.constantFrom(0, 0x18),
    authenticationMethod: text,
    authenticationData: bytes,
    ...explanation,
  },
  { requiredKeys: ['reasonCode', 'authenticationMethod'] },
);

export const outgoing = fc.record({
  qos,
  dup: fc.boolean(),
  retain: fc.boolean(),
  packetId,
  topic: topicName,
  payload: fc.uint8Array({ maxLength: 400 }).map(value => Buffer.from(value)),
  properties: some({ contentType: text, responseTopic: topicName, correlationData: bytes, userProperties }),
  expirySeconds: fc.oneof(fc.constant(-1), u32),
  subscriptionIds: fc.array(subscriptionId, { maxLength: 3 }),
  topicAlias: fc.oneof(fc.constant(0), packetId),
});
