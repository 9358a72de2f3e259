import fc from 'fast-check';
import { generate, type Packet, parser } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import {
  ACK_BYTES_MAX,
  encodeAck,
  encodeAuth,
  encodeConnack,
  encodeDisconnect,
  encodeSuback,
  encodeUnsuback,
  encodeUnsupportedVersion,
  PINGRESP_BYTES,
} from '../../../src/mqtt/codec/encoder.js';
import {
  connackReturnCode,
  PUBACK,
  PUBCOMP,
  PUBREC,
  PUBREL,
  REASON,
  type UserProperty,
} from '../../../src/mqtt/codec/packet.js';
import { authInput, connackInput, disconnectInput, packetId, versions } from './packet-arbitrary.js';

// biome-ignore lint/suspicious/noExplicitAny: the shapes are mqtt-packet's, which differ by command.
type AnyPacket = any;

/** What mqtt-packet makes of `bytes`, which must be exactly one packet. */
function parsed(version: number, bytes: Buffer): AnyPacket {
  const packets: Packet[] = [];
  const one = parser({ protocolVersion: version });
  one.on('packet', packet => packets.push(packet));
  one.on('error', error => {
    throw error;
  });
  expect(one.parse(bytes)).toBe(0);
  expect(packets).toHaveLength(1);
  return packets[0];
}

/** Our user properties as mqtt-packet's parser shows them; it forgets an empty value before another of its name. */
function shown(pairs: readonly UserProperty[] | undefined): unknown {
  if (pairs === undefined || pairs.length === 0) return undefined;
  const names: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of pairs) {
    const before = names[name];
    if (!before) names[name] = value;
    else names[name] = [before, value].flat();
  }
  return names;
}

function withoutUndefined(value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined));
}

/** mqtt-packet gives user properties no prototype, which toEqual does not mind, and absent properties as undefined. */
function properties(packet: AnyPacket): unknown {
  return { ...(packet.properties ?? {}) };
}

describe('CONNACK', () => {
  it('of MQTT 5 is parsed alike by mqtt-packet', () => {
    fc.assert(
      fc.property(connackInput, input => {
        const packet = parsed(5, encodeConnack(5, input)!);
        expect(packet).toMatchObject({
          cmd: 'connack',
          reasonCode: input.reasonCode,
          sessionPresent: input.sessionPresent && input.reasonCode === 0,
        });
        expect(properties(packet)).toEqual(
          withoutUndefined({
            sessionExpiryInterval: input.sessionExpirySeconds,
            receiveMaximum: input.receiveMax,
            maximumQoS: input.qosMax,
            retainAvailable: input.retainAvailable,
            maximumPacketSize: input.packetBytesMax,
            assignedClientIdentifier: input.assignedClientId,
            topicAliasMaximum: input.topicAliasMax,
            wildcardSubscriptionAvailable: input.wildcardSubscriptionAvailable,
            subscriptionIdentifiersAvailable: input.subscriptionIdsAvailable,
            sharedSubscriptionAvailable: input.sharedSubscriptionAvailable,
            serverKeepAlive: input.serverKeepAliveSeconds,
            responseInformation: input.responseInformation,
            serverReference: input.serverReference,
            authenticationMethod: input.authenticationMethod,
            authenticationData: input.authenticationData,
            reasonString: input.reasonString,
            userProperties: shown(input.userProperties),
          }),
        );
      }),
      { numRuns: 400 },
    );
  });

  it('of MQTT 3 has a return code of its own, or none and is not sent', () => {
    const sent = (version: 3 | 4, reasonCode: number, sessionPresent = false) =>
      encodeConnack(version, { reasonCode, sessionPresent })?.toString('hex') ?? null;
    expect(sent(4, REASON.success)).toBe('20020000');
    expect(sent(4, REASON.success, true)).toBe('20020100');
    expect(sent(3, REASON.success, true)).toBe('20020000');
    expect(sent(4, REASON.unsupportedProtocolVersion, true)).toBe('20020001');
    expect(sent(4, REASON.clientIdentifierNotValid)).toBe('20020002');
    expect(sent(4, REASON.serverUnavailable)).toBe('20020003');
    expect(sent(4, REASON.badUserNameOrPassword)).toBe('20020004');
    expect(sent(4, REASON.notAuthorized)).toBe('20020005');
    expect(sent(4, REASON.malformedPacket)).toBeNull();
    for (const reasonCode of Object.values(REASON)) {
      expect(connackReturnCode(reasonCode)).toBeLessThanOrEqual(5);
    }
  });

  it('to an unknown version is in the form that its sender reads', () => {
    for (const level of [0, 2, 3, 4, 0x83, 0x84]) {
      expect(parsed(4, encodeUnsupportedVersion(level))).toMatchObject({ returnCode: 1 });
    }
    for (const level of [5, 6, 0x85, 127]) {
      expect(parsed(5, encodeUnsupportedVersion(level))).toMatchObject({ reasonCode: 0x84 });
    }
  });
});

describe('DISCONNECT and AUTH', () => {
  it('are parsed alike by mqtt-packet', () => {
    fc.assert(
      fc.property(disconnectInput, authInput, (disconnect, auth) => {
        const goodbye = parsed(5, encodeDisconnect(5, disconnect)!);
        expect(goodbye).toMatchObject({ cmd: 'disconnect', reasonCode: disconnect.reasonCode });
        expect(properties(goodbye)).toEqual(
          withoutUndefined({
            serverReference: disconnect.serverReference,
            reasonString: disconnect.reasonString,
            userProperties: shown(disconnect.userProperties),
          }),
        );
        const challenge = parsed(5, encodeAuth(auth)!);
        expect(challenge).toMatchObject({ cmd: 'auth', reasonCode: auth.reasonCode });
        expect(properties(challenge)).toEqual(
          withoutUndefined({
            authenticationMethod: auth.authenticationMethod,
            authenticationData: auth.authenticationData,
            reasonString: auth.reasonString,
            userProperties: shown(auth.userProperties),
          }),
        );
      }),
    );
  });

  it('has no form before MQTT 5', () => {
    expect(encodeDisconnect(4, { reasonCode: REASON.sessionTakenOver })).toBeNull();
    expect(encodeDisconnect(3, { reasonCode: REASON.success })).toBeNull();
  });

  it('leave out explanations first, then are not sent, to a client that takes less [MQTT-3.1.2-24]', () => {
    const disconnect = {
      reasonCode: REASON.quotaExceeded,
      reasonString: 'too much',
      userProperties: [['a', 'b']] as const,
    };
    const whole = encodeDisconnect(5, disconnect)!;
    const fitting = (bytesMax: number) => {
      const bytes = encodeDisconnect(5, disconnect, bytesMax);
      return bytes === null ? null : Object.keys(parsed(5, bytes).properties ?? {}).sort();
    };
    expect(fitting(whole.length)).toEqual(['reasonString', 'userProperties']);
    expect(fitting(whole.length - 1)).toEqual(['reasonString']);
    expect(fitting(8)).toEqual([]);
    expect(fitting(3)).toBeNull();
  });
});

describe('acknowledgements', () => {
  const types = [
    [PUBACK, 'puback', 0x87],
    [PUBREC, 'pubrec', 0x97],
    [PUBREL, 'pubrel', 0x92],
    [PUBCOMP, 'pubcomp', 0x92],
  ] as const;

  it('are, byte for byte, what mqtt-packet generates', () => {
    fc.assert(
      fc.property(
        versions,
        packetId,
        fc.constantFrom(...types),
        fc.boolean(),
        (version, messageId, of, fails) => {
          const [type, cmd, failure] = of;
          const reasonCode = fails && version === 5 ? failure : 0;
          const into = Buffer.alloc(ACK_BYTES_MAX + 2, 0xee);
          const count = encodeAck(type, messageId, fails ? failure : 0, version, into, 1);
          const ours = into.subarray(1, 1 + count);
          expect(into[0]).toBe(0xee);
          expect(into[1 + count]).toBe(0xee);
          expect(parsed(version, ours)).toMatchObject({ cmd, messageId });
          // mqtt-packet leaves a property length out of its own count of a bare reason: compare without reason.
          if (reasonCode === 0) {
            const options = { protocolVersion: version };
            expect(ours).toEqual(generate({ cmd, messageId, reasonCode } as Packet, options));
          } else {
            expect(parsed(version, ours)).toMatchObject({ reasonCode });
          }
        },
      ),
    );
  });

  it('of SUBSCRIBE and UNSUBSCRIBE are what mqtt-packet generates', () => {
    const codes = fc.array(fc.constantFrom(0, 1, 2, 0x80, 0x87, 0x8f), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(versions, packetId, codes, (version, messageId, reasonCodes) => {
        const options = { protocolVersion: version };
        const granted = version === 5 ? reasonCodes : reasonCodes.map(code => (code > 2 ? 0x80 : code));
        expect(encodeSuback(version, messageId, reasonCodes)).toEqual(
          generate({ cmd: 'suback', messageId, granted }, options),
        );
        expect(encodeUnsuback(version, messageId, reasonCodes)).toEqual(
          generate({ cmd: 'unsuback', messageId, granted: reasonCodes } as Packet, options),
        );
      }),
    );
  });

  it('with a reason string too, in MQTT 5, as long as it fits [MQTT-3.9.2-1] [MQTT-3.11.2-1]', () => {
    const codes = fc.array(fc.constantFrom(0, 0x87), { minLength: 1, maxLength: 200 });
    const reason = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(versions, packetId, codes, reason, (version, messageId, granted, reasonString) => {
        for (const [cmd, encode] of [
          ['suback', encodeSuback],
          ['unsuback', encodeUnsuback],
        ] as const) {
          const plain = encode(version, messageId, granted)!;
          const ours = encode(version, messageId, granted, undefined, reasonString)!;
          if (version !== 5) expect(ours).toEqual(plain);
          else {
            const packet = { cmd, messageId, granted, properties: { reasonString } } as Packet;
            expect(ours).toEqual(generate(packet, { protocolVersion: 5 }));
            expect(encode(5, messageId, granted, ours.length, reasonString)).toEqual(ours);
            expect(encode(5, messageId, granted, ours.length - 1, reasonString)).toEqual(plain);
            expect(encode(5, messageId, granted, plain.length - 1, reasonString)).toBeNull();
          }
        }
      }),
    );
  });

  it('are not sent to a client that takes less [MQTT-3.1.2-24]', () => {
    expect(encodeSuback(5, 1, [0, 0], 7)).toHaveLength(7);
    expect(encodeSuback(5, 1, [0, 0], 6)).toBeNull();
    expect(encodeUnsuback(5, 1, [0, 0], 6)).toBeNull();
  });

  it('of PINGREQ is constant', () => {
    expect(parsed(4, PINGRESP_BYTES)).toMatchObject({ cmd: 'pingresp' });
  });
});
