import { describe, expect, it } from 'vitest';
import { Decoder } from '../../../src/mqtt/codec/decoder.js';
import type { ConnectPacket, ControlPacket } from '../../../src/mqtt/codec/packet.js';
import { CONNECT_BYTES, connected, decodeAll, LIMITS, RecordingSink } from './recording-sink.js';

type Version = 0 | 3 | 4 | 5;

/** Hex with spaces; text in quotes stands for itself. */
function bytes(text: string): Buffer {
  const parts = text
    .split(/('[^']*')/)
    .map(part =>
      part.startsWith("'") ? Buffer.from(part.slice(1, -1)) : Buffer.from(part.replace(/\s/g, ''), 'hex'),
    );
  return Buffer.concat(parts);
}

/** A packet with its remaining length put in. */
function packet(headerByte: number, body: Buffer): Buffer {
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from([headerByte, ...length]), body]);
}

function control(version: Version, input: Buffer): ControlPacket {
  const events = decodeAll(version, input);
  expect(events).toHaveLength(1);
  const event = events[0]!;
  if (event.kind !== 'control') throw new Error(`not a control packet: ${JSON.stringify(event)}`);
  return event.packet;
}

/** Every illegal packet: where it came, its bytes, the reason code and the clause that it breaks. */
const REFUSED: [
  name: string,
  version: Version,
  headerByte: number,
  body: string,
  reason: number,
  clause: string,
][] = [
  ['PUBLISH before CONNECT', 0, 0x30, "0001 'a'", 0x82, 'MQTT-3.1.0-1'],
  ['PINGREQ before CONNECT', 0, 0xc0, '', 0x82, 'MQTT-3.1.0-1'],
  ['a second CONNECT', 4, 0x10, "0004 'MQTT' 04 02 0000 0001 'c'", 0x82, 'MQTT-3.1.0-2'],
  ['CONNECT with header flags', 0, 0x11, "0004 'MQTT' 04 02 0000 0001 'c'", 0x81, 'MQTT-2.1.3-1'],
  ['another protocol', 0, 0x10, "0004 'HTTP' 04 02 0000 0001 'c'", 0x84, 'MQTT-3.1.2-1'],
  ['an empty CONNECT', 0, 0x10, '', 0x81, 'MQTT-4.13.1-1'],
  ['the reserved connect flag', 0, 0x10, "0004 'MQTT' 04 03 0000 0001 'c'", 0x81, 'MQTT-3.1.2-3'],
  ['Will QoS without will', 0, 0x10, "0004 'MQTT' 04 0a 0000 0001 'c'", 0x81, 'MQTT-3.1.2-11'],
  ['Will Retain without will', 0, 0x10, "0004 'MQTT' 04 22 0000 0001 'c'", 0x81, 'MQTT-3.1.2-13'],
  ['Will QoS 3', 0, 0x10, "0004 'MQTT' 04 1e 0000 0001 'c' 0001 't' 0000", 0x81, 'MQTT-3.1.2-12'],
  ['a will that is missing', 0, 0x10, "0004 'MQTT' 04 06 0000 0001 'c'", 0x81, 'MQTT-4.13.1-1'],
  ['a will to a wildcard', 0, 0x10, "0004 'MQTT' 04 06 0000 0001 'c' 0003 'a/#' 0000", 0x81, 'MQTT-3.3.2-2'],
  ['a will to nothing', 0, 0x10, "0004 'MQTT' 04 06 0000 0001 'c' 0000 0000", 0x81, 'MQTT-4.7.3-1'],
  ['a will topic not UTF-8', 0, 0x10, "0004 'MQTT' 04 06 0000 0001 'c' 0001 ff 0000", 0x81, 'MQTT-3.1.3-11'],
  [
    'a password without user name (3.1.1)',
    0,
    0x10,
    "0004 'MQTT' 04 42 0000 0001 'c' 0001 'p'",
    0x81,
    'MQTT-3.1.2-22 (3.1.1)',
  ],
  ['a user name that is missing (3.1.1)', 0, 0x10, "0004 'MQTT' 04 82 0000 0001 'c'", 0x81, 'MQTT-4.13.1-1'],
  ['a client id not UTF-8', 0, 0x10, "0004 'MQTT' 04 02 0000 0002 c080", 0x81, 'MQTT-3.1.3-4'],
  ['a client id with U+0000', 0, 0x10, "0004 'MQTT' 04 02 0000 0001 00", 0x81, 'MQTT-3.1.3-4'],
  ['a client id of a surrogate', 0, 0x10, "0004 'MQTT' 04 02 0000 0003 eda080", 0x81, 'MQTT-3.1.3-4'],
  ['a user name not UTF-8', 0, 0x10, "0004 'MQTT' 04 82 0000 0001 'c' 0001 80", 0x81, 'MQTT-3.1.3-12'],
  ['bytes after CONNECT', 0, 0x10, "0004 'MQTT' 04 02 0000 0001 'c' 00", 0x81, 'MQTT-4.13.1-1'],
  ['a string past its packet', 0, 0x10, "0004 'MQTT' 04 02 0000 0009 'c'", 0x81, 'MQTT-4.13.1-1'],
  ['Receive Maximum 0', 0, 0x10, "0004 'MQTT' 05 02 0000 03 21 0000 0001 'c'", 0x82, 'MQTT-3.1.2.11.3'],
  [
    'Maximum Packet Size 0',
    0,
    0x10,
    "0004 'MQTT' 05 02 0000 05 27 00000000 0001 'c'",
    0x82,
    'MQTT-3.1.2.11.4',
  ],
  ['Request Problem Information 2', 0, 0x10, "0004 'MQTT' 05 02 0000 02 1702 0001 'c'", 0x82, 'MQTT-2.2.2.2'],
  ['a property twice', 0, 0x10, "0004 'MQTT' 05 02 0000 06 21 0001 21 0001 0001 'c'", 0x82, 'MQTT-2.2.2.2'],
  [
    'a high property twice',
    0,
    0x10,
    "0004 'MQTT' 05 02 0000 0a 2700000001 2700000001 0000",
    0x82,
    'MQTT-2.2.2.2',
  ],
  [
    'a property of PUBLISH in CONNECT',
    0,
    0x10,
    "0004 'MQTT' 05 02 0000 03 23 0001 0001 'c'",
    0x81,
    'MQTT-2.2.2.2',
  ],
  ['a property that is unknown', 0, 0x10, "0004 'MQTT' 05 02 0000 02 7f 00 0001 'c'", 0x81, 'MQTT-2.2.2.2'],
  ['property identifier 0', 0, 0x10, "0004 'MQTT' 05 02 0000 02 00 00 0001 'c'", 0x81, 'MQTT-2.2.2.2'],
  ['a property past the block', 0, 0x10, "0004 'MQTT' 05 02 0000 02 21 00 0001 'c'", 0x81, 'MQTT-4.13.1-1'],
  ['a block past the packet', 0, 0x10, "0004 'MQTT' 05 02 0000 09 21 0001 0001 'c'", 0x81, 'MQTT-4.13.1-1'],
  ['a block length of 5 bytes', 0, 0x10, "0004 'MQTT' 05 02 0000 8080808001 0001 'c'", 0x81, 'MQTT-1.5.5-1'],
  ['a block length with leading 0', 0, 0x10, "0004 'MQTT' 05 02 0000 8000 0001 'c'", 0x81, 'MQTT-1.5.5-1'],
  [
    'data without a method',
    0,
    0x10,
    "0004 'MQTT' 05 02 0000 04 16 0001 00 0001 'c'",
    0x82,
    'MQTT-3.1.2.11.10',
  ],
  [
    'a user property not UTF-8',
    0,
    0x10,
    "0004 'MQTT' 05 02 0000 06 26 0001 ff 0000 0000",
    0x81,
    'MQTT-1.5.7-1',
  ],

  ['packet type 0', 4, 0x00, '', 0x81, 'MQTT-2.1.2'],
  ['AUTH before MQTT 5', 4, 0xf0, '', 0x81, 'MQTT-2.1.2'],
  ['CONNACK from a client', 4, 0x20, '0000', 0x82, 'MQTT-2.1.2'],
  ['SUBACK from a client', 4, 0x90, '0001 00', 0x82, 'MQTT-2.1.2'],
  ['UNSUBACK from a client', 4, 0xb0, '0001', 0x82, 'MQTT-2.1.2'],
  ['PINGRESP from a client', 5, 0xd0, '', 0x82, 'MQTT-2.1.2'],
  ['PUBREL without its flags', 4, 0x60, '0001', 0x81, 'MQTT-2.1.3-1'],
  ['PUBACK with flags', 5, 0x42, '0001', 0x81, 'MQTT-2.1.3-1'],
  ['SUBSCRIBE without its flags', 4, 0x80, "0001 0001 'a' 00", 0x81, 'MQTT-2.1.3-1'],
  ['UNSUBSCRIBE with DUP (3.1.1)', 4, 0xaa, "0001 0001 'a'", 0x81, 'MQTT-2.1.3-1'],
  ['PINGREQ with flags', 4, 0xc1, '', 0x81, 'MQTT-2.1.3-1'],
  ['DISCONNECT with flags', 4, 0xe1, '', 0x81, 'MQTT-2.1.3-1'],
  ['AUTH with flags', 5, 0xf1, '', 0x81, 'MQTT-2.1.3-1'],
  ['PINGREQ with a body', 4, 0xc0, '00', 0x81, 'MQTT-4.13.1-1'],

  ['PUBLISH at QoS 3', 4, 0x36, "0001 'a' 0001", 0x81, 'MQTT-3.3.1-4'],
  ['PUBLISH at QoS 3, DUP and RETAIN', 5, 0x3f, "0001 'a' 0001 00", 0x81, 'MQTT-3.3.1-4'],
  ['DUP at QoS 0', 4, 0x38, "0001 'a'", 0x81, 'MQTT-3.3.1-2'],
  ['PUBLISH with packet id 0', 4, 0x32, "0001 'a' 0000", 0x82, 'MQTT-2.2.1-3'],
  ['an empty PUBLISH', 4, 0x30, '', 0x81, 'MQTT-4.13.1-1'],
  ['a topic past its packet', 4, 0x30, "0002 'a'", 0x81, 'MQTT-4.13.1-1'],
  ['a packet id past its packet', 4, 0x32, "0001 'a' 00", 0x81, 'MQTT-4.13.1-1'],
  ['an empty topic', 4, 0x30, '0000', 0x81, 'MQTT-4.7.3-1'],
  ['neither topic nor alias', 5, 0x30, '0000 00', 0x82, 'MQTT-3.3.2.1'],
  ['PUBLISH without property length', 5, 0x30, "0001 'a'", 0x81, 'MQTT-4.13.1-1'],
  ['topic alias 0', 5, 0x30, "0001 'a' 03 23 0000", 0x94, 'MQTT-3.3.2-8'],
  ['a subscription identifier', 5, 0x30, "0001 'a' 02 0b 01", 0x82, 'MQTT-3.3.4-6'],
  ['a property of CONNECT in PUBLISH', 5, 0x30, "0001 'a' 03 21 0001", 0x81, 'MQTT-2.2.2.2'],
  ['a PUBLISH property twice', 5, 0x30, "0001 'a' 06 23 0001 23 0001", 0x82, 'MQTT-3.3.2.3'],
  ['payload format 2', 5, 0x30, "0001 'a' 02 01 02", 0x82, 'MQTT-3.3.2.3.2'],
  ['a response topic with a wildcard', 5, 0x30, "0001 'a' 06 08 0003 'b/+'", 0x82, 'MQTT-3.3.2-14'],
  ['a response topic not UTF-8', 5, 0x30, "0001 'a' 04 08 0001 fe", 0x81, 'MQTT-3.3.2-13'],
  ['an empty response topic', 5, 0x30, "0001 'a' 03 08 0000", 0x81, 'MQTT-4.7.3-1'],
  ['a content type not UTF-8', 5, 0x30, "0001 'a' 04 03 0001 00", 0x81, 'MQTT-3.3.2-19'],
  ['a user property of one string', 5, 0x30, "0001 'a' 04 26 0001 'n'", 0x81, 'MQTT-4.13.1-1'],
  ['a user property value not UTF-8', 5, 0x30, "0001 'a' 07 26 0001 'n' 0001 ff", 0x81, 'MQTT-1.5.7-1'],
  ['correlation data past the block', 5, 0x30, "0001 'a' 04 09 0002 00 00", 0x81, 'MQTT-4.13.1-1'],
  ['an expiry cut short', 5, 0x30, "0001 'a' 04 02 000000 00", 0x81, 'MQTT-4.13.1-1'],
  ['PUBLISH properties past the packet', 5, 0x30, "0001 'a' 04 23 0001", 0x81, 'MQTT-4.13.1-1'],
  ['a PUBLISH block length with leading 0', 5, 0x30, "0001 'a' 8000", 0x81, 'MQTT-1.5.5-1'],
  ['a PUBLISH block length of 5 bytes', 5, 0x30, "0001 'a' ffffffff01", 0x81, 'MQTT-1.5.5-1'],

  ['PUBACK with packet id 0', 4, 0x40, '0000', 0x82, 'MQTT-2.2.1-3'],
  ['PUBACK of one byte', 5, 0x40, '00', 0x81, 'MQTT-4.13.1-1'],
  ['PUBACK of three bytes (3.1.1)', 4, 0x40, '0001 00', 0x81, 'MQTT-4.13.1-1'],
  ['PUBACK with the reason of a PUBREL', 5, 0x40, '0001 92', 0x82, 'MQTT-3.4.2-1'],
  ['PUBREL with the reason of a PUBACK', 5, 0x62, '0001 87', 0x82, 'MQTT-3.4.2-1'],
  ['PUBREC with bytes after its properties', 5, 0x50, '0001 00 00 00', 0x81, 'MQTT-4.13.1-1'],
  ['PUBCOMP with a property not its own', 5, 0x70, '0001 00 03 21 0001', 0x81, 'MQTT-2.2.2.2'],
  ['PUBACK with two reason strings', 5, 0x40, '0001 00 06 1f0000 1f0000', 0x82, 'MQTT-2.2.2.2'],

  ['SUBSCRIBE with packet id 0', 4, 0x82, "0000 0001 'a' 00", 0x82, 'MQTT-2.2.1-3'],
  ['SUBSCRIBE without filter', 4, 0x82, '0001', 0x82, 'MQTT-3.8.3-2'],
  ['SUBSCRIBE without filter (5)', 5, 0x82, '0001 00', 0x82, 'MQTT-3.8.3-2'],
  ['SUBSCRIBE at QoS 3', 4, 0x82, "0001 0001 'a' 03", 0x82, 'MQTT-3.8.3.1'],
  ['reserved bits of QoS (3.1.1)', 4, 0x82, "0001 0001 'a' 04", 0x81, 'MQTT-3.8.3-4 (3.1.1)'],
  ['reserved subscription options', 5, 0x82, "0001 00 0001 'a' 40", 0x81, 'MQTT-3.8.3-5'],
  ['Retain Handling 3', 5, 0x82, "0001 00 0001 'a' 30", 0x82, 'MQTT-3.8.3.1'],
  ['No Local, shared', 5, 0x82, "0001 00 000a '$share/g/a' 04", 0x82, 'MQTT-3.8.3-4'],
  ['No Local, ordered shared', 5, 0x82, "0001 00 000b '$oshare/g/a' 04", 0x82, 'MQTT-3.8.3-4'],
  ['a filter without options', 4, 0x82, "0001 0001 'a'", 0x81, 'MQTT-4.13.1-1'],
  ['an empty filter', 4, 0x82, '0001 0000 00', 0x81, 'MQTT-4.7.3-1'],
  ['a filter not UTF-8', 4, 0x82, '0001 0001 80 00', 0x81, 'MQTT-3.8.3-1'],
  ['subscription identifier 0', 5, 0x82, "0001 02 0b 00 0001 'a' 00", 0x82, 'MQTT-3.8.2.1.2'],
  ['two subscription identifiers', 5, 0x82, "0001 04 0b01 0b02 0001 'a' 00", 0x82, 'MQTT-2.2.2.2'],
  ['a long subscription identifier', 5, 0x82, "0001 06 0b ffffffff01 0001 'a' 00", 0x81, 'MQTT-1.5.5-1'],
  ['UNSUBSCRIBE with packet id 0', 4, 0xa2, "0000 0001 'a'", 0x82, 'MQTT-2.2.1-3'],
  ['UNSUBSCRIBE without filter', 4, 0xa2, '0001', 0x82, 'MQTT-3.10.3-2'],
  ['UNSUBSCRIBE of U+0000', 5, 0xa2, '0001 00 0001 00', 0x81, 'MQTT-3.10.3-1'],

  ['DISCONNECT with a body (3.1.1)', 4, 0xe0, '00', 0x81, 'MQTT-4.13.1-1'],
  ["DISCONNECT with a server's reason", 5, 0xe0, '8e', 0x82, 'MQTT-3.14.2-1'],
  ['DISCONNECT with a property not its own', 5, 0xe0, '00 03 21 0001', 0x81, 'MQTT-2.2.2.2'],
  ['AUTH with success', 5, 0xf0, '', 0x82, 'MQTT-3.15.2-1'],
  ['AUTH without method', 5, 0xf0, '18 00', 0x82, 'MQTT-3.15.2.2.2'],
];

describe('what is refused', () => {
  it.each(REFUSED)('%s (version %i)', (_name, version, headerByte, body, reason, clause) => {
    const input = packet(headerByte, bytes(body));
    // A legal packet behind it must not be looked at.
    const events = decodeAll(version, Buffer.concat([input, Buffer.from('c000', 'hex')]));
    expect(events).toEqual([
      { kind: 'violation', violation: { reasonCode: reason, clause, why: expect.any(String) } },
    ]);
  });

  it('a remaining length of five bytes, as soon as the fourth says so [MQTT-1.5.5-1]', () => {
    expect(decodeAll(4, bytes('30 ffffff'))).toEqual([]);
    const [event] = decodeAll(4, bytes('30 ffffffff'));
    expect(event).toMatchObject({
      kind: 'violation',
      violation: { reasonCode: 0x81, clause: 'MQTT-1.5.5-1' },
    });
  });

  it('a remaining length with a leading zero in MQTT 5, but not before', () => {
    expect(decodeAll(5, bytes('c0 8000'))).toMatchObject([{ kind: 'violation' }]);
    expect(decodeAll(4, bytes('c0 8000'))).toEqual([{ kind: 'pingreq' }]);
    expect(decodeAll(4, bytes("30 848000 0001 'ab'"))).toMatchObject([{ kind: 'publish', payload: '62' }]);
  });

  it('a packet over the limit, as soon as its header is known', () => {
    const limits = { packetBytesMax: 100, connectBytesMax: 50 };
    const fits = connected(4, limits);
    fits.decoder.receive(packet(0x30, Buffer.concat([bytes("0001 'a'"), Buffer.alloc(95)])), fits.sink);
    expect(fits.sink.events).toMatchObject([{ kind: 'publish' }]);
    fits.decoder.receive(bytes('30 63'), fits.sink);
    expect(fits.sink.violations).toMatchObject([{ reasonCode: 0x95 }]);
    const stranger = connected(0, limits);
    stranger.decoder.receive(bytes('10 31'), stranger.sink);
    expect(stranger.sink.violations).toMatchObject([{ reasonCode: 0x95 }]);
  });
});

describe('CONNECT', () => {
  it('without options means the same in every version', () => {
    for (const version of [3, 4, 5] as const) {
      const decoder = new Decoder(LIMITS);
      const sink = new RecordingSink();
      decoder.receive(Buffer.from(CONNECT_BYTES[version]), sink);
      expect(decoder.version).toBe(version);
      const expected: ConnectPacket = {
        kind: 'connect',
        version,
        cleanStart: true,
        keepAliveSeconds: 0,
        clientId: 'c',
        userName: null,
        password: null,
        will: null,
        sessionExpirySeconds: 0,
        receiveMax: 65535,
        packetBytesMax: 0xffff_ffff,
        topicAliasMax: 0,
        requestResponseInformation: false,
        requestProblemInformation: true,
        userProperties: [],
        authenticationMethod: null,
        authenticationData: null,
      };
      expect(sink.events).toEqual([{ kind: 'control', packet: expected }]);
    }
  });

  it('never expires where an old version keeps the session, and does at once in MQTT 5 where unsaid', () => {
    const old = control(0, packet(0x10, bytes("0004 'MQTT' 04 00 0000 0001 'c'")));
    expect(old).toMatchObject({ cleanStart: false, sessionExpirySeconds: 0xffff_ffff });
    const v5 = control(0, packet(0x10, bytes("0004 'MQTT' 05 00 0000 00 0001 'c'")));
    expect(v5).toMatchObject({ cleanStart: false, sessionExpirySeconds: 0 });
  });

  it('keeps user properties in order and repeated, and what a will forwards', () => {
    const user = "26 0001 'b' 0001 '1' 26 0001 'a' 0001 '2' 26 0001 'b' 0001 '3'";
    const will = "18 00000005 26 0001 'x' 0001 'y' 02 00000007 01 01 08 0001 'r'";
    const body = bytes(
      `0004 'MQTT' 05 ee 0010 15 ${user} 0001 'c' 17 ${will} 0001 't' 0002 'hi' 0001 'u' 0001 ff`,
    );
    expect(control(0, packet(0x10, body))).toMatchObject({
      keepAliveSeconds: 16,
      userName: 'u',
      password: Buffer.from([0xff]),
      userProperties: [
        ['b', '1'],
        ['a', '2'],
        ['b', '3'],
      ],
      will: {
        topic: 't',
        qos: 1,
        retain: true,
        payload: Buffer.from('hi'),
        delaySeconds: 5,
        messageExpirySeconds: 7,
        payloadFormat: 1,
        responseTopic: 'r',
        userProperties: [['x', 'y']],
        forwardedProperties: bytes("26 0001 'x' 0001 'y' 01 01 08 0001 'r'"),
      },
    });
  });

  it('of MQTT 3.1 may promise a user name and password that are not there (3.1, section 3.1)', () => {
    const neither = control(0, packet(0x10, bytes("0006 'MQIsdp' 03 c2 0000 0001 'c'")));
    expect(neither).toMatchObject({ version: 3, userName: null, password: null });
    const half = control(0, packet(0x10, bytes("0006 'MQIsdp' 03 c2 0000 0001 'c' 0001 'u'")));
    expect(half).toMatchObject({ userName: 'u', password: null });
  });

  it('of MQTT 5 may bring a password without a user name', () => {
    const body = bytes("0004 'MQTT' 05 42 0000 00 0001 'c' 0001 'p'");
    expect(control(0, packet(0x10, body))).toMatchObject({ userName: null, password: Buffer.from('p') });
  });

  it.each([
    ['MQTT', 3],
    ['MQTT', 6],
    ['MQTT', 0x84],
    ['MQIsdp', 4],
    ['MQIsdp', 5],
  ])('of %s level %i is told apart, whatever follows', (protocolName, protocolLevel) => {
    const name = Buffer.from(protocolName);
    const head = Buffer.concat([Buffer.from([0, name.length]), name, Buffer.from([protocolLevel])]);
    const { decoder, sink } = connected(0);
    decoder.receive(packet(0x10, Buffer.concat([head, bytes('ff ff ff')])), sink);
    decoder.receive(bytes('c000'), sink);
    expect(sink.events).toEqual([
      { kind: 'control', packet: { kind: 'unsupported-version', protocolName, protocolLevel } },
    ]);
    expect(decoder.version).toBe(0);
  });

  it('keeps no view of the chunk', () => {
    const { decoder, sink } = connected(0);
    const chunk = packet(0x10, bytes("0004 'MQTT' 04 c6 0000 0001 'c' 0001 't' 0002 'hi' 0001 'u' 0001 'p'"));
    decoder.receive(chunk, sink);
    chunk.fill(0);
    expect(sink.events).toMatchObject([
      { packet: { password: Buffer.from('p'), will: { payload: Buffer.from('hi') } } },
    ]);
  });
});

describe('MQTT 3.1', () => {
  it('may set DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE (3.1, section 2.1)', () => {
    const input = bytes("6a 02 0007  8a 06 0001 0001 'a' 01  aa 05 0002 0001 'a'");
    expect(decodeAll(3, input)).toMatchObject([
      { kind: 'ack', type: 6, packetId: 7 },
      { kind: 'control', packet: { kind: 'subscribe', subscriptions: [{ filter: 'a', qos: 1 }] } },
      { kind: 'control', packet: { kind: 'unsubscribe', filters: ['a'] } },
    ]);
  });
});

describe('PUBLISH', () => {
  const alias = '23 0007';
  const expiry = '02 00000009';
  const user = "26 0001 'n' 0001 'v'";
  const type = "03 0001 'x'";

  it.each([
    ['nothing to leave out', [user, type]],
    ['alias first', [alias, user, type]],
    ['alias last', [user, type, alias]],
    ['alias in between', [user, alias, type]],
    ['expiry first', [expiry, user]],
    ['expiry last', [user, expiry]],
    ['both first', [alias, expiry, user]],
    ['both first, the other way round', [expiry, alias, user]],
    ['both last', [user, alias, expiry]],
    ['both last, the other way round', [user, expiry, alias]],
    ['one at each end', [alias, user, type, expiry]],
    ['both in between', [user, alias, type, expiry, user]],
    ['one first, one in between', [expiry, user, alias, type]],
    ['one in between, one last', [user, alias, type, expiry]],
    ['only both', [alias, expiry]],
    ['only one', [expiry]],
  ])('forwards its properties with %s', (_name, parts) => {
    const block = bytes(parts.join(' '));
    const input = packet(
      0x30,
      Buffer.concat([bytes("0001 'a'"), Buffer.from([block.length]), block, bytes('aabb')]),
    );
    const kept = parts.filter(part => part !== alias && part !== expiry);
    expect(decodeAll(5, input)).toMatchObject([
      {
        properties: block.toString('hex'),
        forwarded: bytes(kept.join(' ')).toString('hex'),
        topicAlias: parts.includes(alias) ? 7 : 0,
        messageExpirySeconds: parts.includes(expiry) ? 9 : -1,
        payload: 'aabb',
      },
    ]);
  });

  it('forgets the properties of the one before', () => {
    const full = packet(0x30, bytes(`0000 0e ${alias} ${expiry} 01 01 08 0001 'r'`));
    const bare = packet(0x30, bytes("0001 'b' 00 cc"));
    expect(decodeAll(5, Buffer.concat([full, bare]))).toMatchObject([
      { topicAlias: 7, messageExpirySeconds: 9, payloadFormat: 1, responseTopic: 'r', topic: '' },
      {
        topicAlias: 0,
        messageExpirySeconds: -1,
        payloadFormat: -1,
        responseTopic: '',
        forwarded: '',
        payload: 'cc',
      },
    ]);
  });

  it('is a view of the chunk, not a copy', () => {
    const { decoder, sink } = connected(4);
    const chunk = bytes("30 05 0001 'ahi'");
    let same = false;
    sink.onPublish = view => {
      same = view.buffer === chunk;
    };
    decoder.receive(chunk, sink);
    expect(same).toBe(true);
  });
});

it('tells how long each packet is, in however many pieces it came', () => {
  const { decoder, sink } = connected(5);
  const lengths: number[] = [];
  sink.onPingreq = sink.onPublish = sink.onAck = sink.onPacket = () => lengths.push(decoder.packetBytes);
  const publish = packet(0x30, bytes(`0001 'a' 00 ${'61'.repeat(200)}`));
  const subscribe = packet(0x82, bytes("0001 00 0001 'a' 00"));
  const stream = Buffer.concat([publish, bytes('c000 40 02 0001'), subscribe]);
  decoder.receive(Buffer.from(stream), sink);
  for (const byte of stream) decoder.receive(Buffer.from([byte]), sink);
  expect(lengths).toEqual([207, 2, 4, 9, 207, 2, 4, 9]);
});

describe('a sink that stops', () => {
  const pings = (count: number) => Buffer.concat(Array.from({ length: count }, () => bytes('c000')));

  it('gets no further packet until it is resumed, over any number of chunks, in order', () => {
    const { decoder, sink } = connected(4);
    sink.stopAfter = 2;
    decoder.receive(Buffer.concat([pings(3), bytes('40 02 0001 40')]), sink);
    expect(sink.events).toHaveLength(2);
    expect(decoder.bufferedBytes).toBe(7);
    decoder.receive(bytes('02 00'), sink);
    decoder.receive(bytes('02 40 02 0003'), sink);
    expect(decoder.bufferedBytes).toBe(14);
    decoder.resume(sink);
    expect(sink.events).toHaveLength(2);
    for (let more = 3; more <= 6; more++) {
      sink.stopAfter = more;
      decoder.resume(sink);
      expect(sink.events).toHaveLength(more);
    }
    expect(decoder.bufferedBytes).toBe(0);
    expect(sink.events.slice(3)).toMatchObject([{ packetId: 1 }, { packetId: 2 }, { packetId: 3 }]);
  });

  it('is asked before the first packet of a chunk', () => {
    const { decoder, sink } = connected(4);
    sink.stopAfter = 0;
    decoder.receive(pings(2), sink);
    expect(sink.events).toHaveLength(0);
    sink.stopAfter = 9;
    decoder.resume(sink);
    expect(sink.events).toHaveLength(2);
  });

  it('may give more and resume from within its calls, and still sees one order', () => {
    const { decoder, sink } = connected(4);
    sink.onPingreq = () => {
      sink.events.push({ kind: 'pingreq' });
      if (sink.events.length === 1) decoder.receive(bytes('40 02 0009'), sink);
      decoder.resume(sink);
    };
    decoder.receive(Buffer.concat([pings(2), bytes('40 02 0008')]), sink);
    expect(sink.events).toMatchObject([
      { kind: 'pingreq' },
      { kind: 'pingreq' },
      { packetId: 8 },
      { packetId: 9 },
    ]);
  });

  it('gets nothing after the decoder was closed', () => {
    const { decoder, sink } = connected(4);
    sink.onPingreq = () => decoder.close();
    decoder.receive(Buffer.concat([bytes('40 02 0001'), pings(3), bytes('40')]), sink);
    decoder.receive(pings(1), sink);
    decoder.resume(sink);
    expect(sink.events).toMatchObject([{ packetId: 1 }]);
    expect(decoder.bufferedBytes).toBe(0);
  });
});
