import fc from 'fast-check';
import { generate, type Packet } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import type { UserProperty } from '../../../src/mqtt/codec/packet.js';
import { clientPacket, connectPacket, type Version } from './packet-arbitrary.js';
import { decodeAll, type Recorded } from './recording-sink.js';

/** What mqtt-packet generates, our decoder reads alike. (The other way round: encoder.test.ts.) */

type ByName = Record<string, string | string[]>;
// biome-ignore lint/suspicious/noExplicitAny: the shapes are mqtt-packet's, which differ by command.
type AnyPacket = any;

/** Our pairs in mqtt-packet's form, which loses the order among different names. */
function byName(pairs: readonly UserProperty[]): Record<string, string[]> {
  const names: Record<string, string[]> = Object.create(null);
  for (const [name, value] of pairs) (names[name] ??= []).push(value);
  return names;
}

function lists(given: ByName | undefined): Record<string, string[]> {
  return Object.fromEntries(Object.entries(given ?? {}).map(([name, value]) => [name, [value].flat()]));
}

function flag(value: boolean | undefined): number {
  return value === undefined ? -1 : Number(value);
}

function expectedWill(will: AnyPacket): unknown {
  const properties = will.properties ?? {};
  return {
    topic: will.topic,
    qos: will.qos,
    retain: will.retain,
    payload: will.payload,
    delaySeconds: properties.willDelayInterval ?? 0,
    messageExpirySeconds: properties.messageExpiryInterval ?? -1,
    payloadFormat: flag(properties.payloadFormatIndicator),
    contentType: properties.contentType ?? null,
    responseTopic: properties.responseTopic ?? null,
    correlationData: properties.correlationData ?? null,
    userProperties: lists(properties.userProperties),
  };
}

function expectedConnect(version: Version, packet: AnyPacket): unknown {
  const properties = packet.properties ?? {};
  const expiryOfOld = packet.clean ? 0 : 0xffff_ffff;
  return {
    kind: 'connect',
    version,
    cleanStart: packet.clean,
    keepAliveSeconds: packet.keepalive,
    clientId: packet.clientId,
    userName: packet.username ?? null,
    password: packet.password ?? null,
    will: packet.will === undefined ? null : expectedWill(packet.will),
    sessionExpirySeconds: version === 5 ? (properties.sessionExpiryInterval ?? 0) : expiryOfOld,
    receiveMax: properties.receiveMaximum ?? 65535,
    packetBytesMax: properties.maximumPacketSize ?? 0xffff_ffff,
    topicAliasMax: properties.topicAliasMaximum ?? 0,
    requestResponseInformation: properties.requestResponseInformation ?? false,
    requestProblemInformation: properties.requestProblemInformation ?? true,
    userProperties: lists(properties.userProperties),
    authenticationMethod: properties.authenticationMethod ?? null,
    authenticationData: properties.authenticationData ?? null,
  };
}

const ACK_TYPE: Record<string, number> = { puback: 4, pubrec: 5, pubrel: 6, pubcomp: 7 };

function expected(version: Version, packet: AnyPacket): unknown {
  const properties = packet.properties ?? {};
  const userProperties = lists(properties.userProperties);
  switch (packet.cmd) {
    case 'connect':
      return expectedConnect(version, packet);
    case 'publish':
      return {
        kind: 'publish',
        qos: packet.qos,
        dup: Number(packet.dup),
        retain: Number(packet.retain),
        packetId: packet.qos > 0 ? packet.messageId : 0,
        topic: packet.topic,
        payload: packet.payload.toString('hex'),
        topicAlias: properties.topicAlias ?? 0,
        messageExpirySeconds: properties.messageExpiryInterval ?? -1,
        payloadFormat: flag(properties.payloadFormatIndicator),
        responseTopic: properties.responseTopic ?? '',
      };
    case 'subscribe':
      return {
        kind: 'subscribe',
        packetId: packet.messageId,
        subscriptions: packet.subscriptions.map((one: AnyPacket) => ({
          filter: one.topic,
          qos: one.qos,
          noLocal: one.nl,
          retainAsPublished: one.rap,
          retainHandling: one.rh,
        })),
        subscriptionId: properties.subscriptionIdentifier ?? 0,
        userProperties,
      };
    case 'unsubscribe':
      return {
        kind: 'unsubscribe',
        packetId: packet.messageId,
        filters: packet.unsubscriptions,
        userProperties,
      };
    case 'disconnect':
      return {
        kind: 'disconnect',
        reasonCode: packet.reasonCode ?? 0,
        sessionExpirySeconds: properties.sessionExpiryInterval ?? -1,
        reasonString: properties.reasonString ?? null,
        userProperties,
      };
    case 'auth':
      return {
        kind: 'auth',
        reasonCode: packet.reasonCode,
        authenticationMethod: properties.authenticationMethod,
        authenticationData: properties.authenticationData ?? null,
        reasonString: properties.reasonString ?? null,
        userProperties,
      };
    case 'pingreq':
      return { kind: 'pingreq' };
    default:
      return {
        kind: 'ack',
        type: ACK_TYPE[packet.cmd],
        packetId: packet.messageId,
        reasonCode: packet.reasonCode,
      };
  }
}

/** What we recorded, with user properties by name and without what mqtt-packet does not tell. */
function comparable(event: Recorded): unknown {
  if (event.kind === 'publish') {
    const { properties: _, forwarded: __, ...rest } = event;
    return rest;
  }
  if (event.kind !== 'control' || event.packet.kind === 'unsupported-version') return event;
  const packet = { ...event.packet, userProperties: byName(event.packet.userProperties) };
  if (packet.kind !== 'connect' || packet.will === null) return packet;
  const { forwardedProperties: _, ...will } = packet.will;
  return { ...packet, will: { ...will, userProperties: byName(will.userProperties) } };
}

describe.each([3, 4, 5] as const)('version %i, generated by mqtt-packet', version => {
  it('CONNECT is read alike', () => {
    fc.assert(
      fc.property(connectPacket(version), packet => {
        const events = decodeAll(0, generate(packet, { protocolVersion: version }));
        expect(events.map(comparable)).toEqual([expected(version, packet)]);
      }),
      { numRuns: 400 },
    );
  });

  it('every other packet is read alike, alone and behind each other', () => {
    fc.assert(
      fc.property(fc.array(clientPacket(version), { minLength: 1, maxLength: 6 }), (packets: Packet[]) => {
        const stream = Buffer.concat(packets.map(packet => generate(packet, { protocolVersion: version })));
        const events = decodeAll(version, stream);
        expect(events.map(comparable)).toEqual(packets.map(packet => expected(version, packet)));
      }),
      { numRuns: 600 },
    );
  });
});
