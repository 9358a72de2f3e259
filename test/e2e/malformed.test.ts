import { describe, it } from 'vitest';
import { useBroker } from './broker.js';
import { field, packet, properties, u8, u16 } from './client/bytes.js';
import { connect, open, sleep, type TestClient, unique } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

const broker = useBroker({ transports: TRANSPORTS });

const none = Buffer.alloc(0);

/** Runs `attack` and shows that another client, on the same listener, was not disturbed by it. */
async function undisturbed(attack: () => Promise<void>): Promise<void> {
  const other = await connect(broker);
  const topic = unique('calm');
  await other.subscribe(topic, { qos: 1 });
  await attack();
  await other.publish(topic, 'still here', { qos: 1 });
  await other.receive({ payload: 'still here' });
}

interface Case {
  readonly name: string;
  readonly bytes: Buffer;
  /** Reason codes of MQTT 5; the connection is closed wordlessly in 3.1.1. */
  readonly codes: number[];
  readonly versions?: readonly (4 | 5)[];
}

/** The body of a PUBLISH, SUBSCRIBE and so on differs by the property block of MQTT 5. */
function cases(version: 4 | 5): Case[] {
  const block = version === 5 ? properties() : none;
  const malformed = [0x81];
  const either = [0x81, 0x82];
  const list: Case[] = [
    { name: 'packet type 0 (2.1.2)', bytes: packet(0x00), codes: either },
    { name: 'packet type 15', bytes: packet(0xf0), codes: either, versions: [4] },
    {
      name: 'remaining length of five bytes (2.1.4)',
      bytes: Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 1]),
      codes: [0x81, 0x95],
    },
    {
      name: 'PUBLISH with both QoS bits [MQTT-3.3.1-4]',
      bytes: packet(0x36, field('a'), u16(1), block),
      codes: malformed,
    },
    {
      name: 'PUBLISH of QoS 0 with DUP [MQTT-3.3.1-2]',
      bytes: packet(0x38, field('a'), block),
      codes: either,
    },
    { name: 'PUBLISH without a topic [MQTT-3.3.2-1]', bytes: packet(0x30), codes: malformed },
    {
      name: 'PUBLISH whose topic is cut short',
      bytes: packet(0x30, u16(9), Buffer.from('abc')),
      codes: malformed,
    },
    { name: 'PUBLISH of QoS 1 without packet identifier', bytes: packet(0x32, field('a')), codes: malformed },
    { name: 'PUBACK with flags [MQTT-2.2.2-2]', bytes: packet(0x41, u16(1)), codes: malformed },
    { name: 'PUBREC with flags', bytes: packet(0x52, u16(1)), codes: malformed },
    { name: 'PUBREL without its flags [MQTT-3.6.1-1]', bytes: packet(0x60, u16(1)), codes: malformed },
    { name: 'PUBREL with flags 0011', bytes: packet(0x63, u16(1)), codes: malformed },
    { name: 'PUBCOMP with flags', bytes: packet(0x71, u16(1)), codes: malformed },
    { name: 'PUBACK without packet identifier', bytes: packet(0x40), codes: malformed },
    { name: 'PUBACK of one byte', bytes: packet(0x40, u8(1)), codes: malformed },
    { name: 'PUBACK for packet identifier 0', bytes: packet(0x40, u16(0)), codes: either },
    { name: 'SUBSCRIBE cut short', bytes: packet(0x82, u8(0)), codes: malformed },
    { name: 'PINGREQ with flags', bytes: packet(0xc1), codes: malformed },
    { name: 'PINGREQ with a body', bytes: packet(0xc0, u8(0)), codes: malformed },
    { name: 'DISCONNECT with flags [MQTT-3.14.1-1]', bytes: packet(0xe1), codes: malformed },
    { name: 'DISCONNECT with a body', bytes: packet(0xe0, u8(0)), codes: malformed, versions: [4] },
    { name: 'CONNACK from a client', bytes: packet(0x20, u8(0), u8(0), block), codes: either },
    { name: 'SUBACK from a client', bytes: packet(0x90, u16(1), block, u8(0)), codes: either },
    { name: 'UNSUBACK from a client', bytes: packet(0xb0, u16(1), block), codes: either },
    { name: 'PINGRESP from a client', bytes: packet(0xd0), codes: either },
    {
      name: 'PUBACK with a reason code that is none',
      bytes: packet(0x40, u16(1), u8(0x05)),
      codes: either,
      versions: [5],
    },
    {
      name: 'PUBREL with a reason code that is none',
      bytes: packet(0x62, u16(1), u8(0x10)),
      codes: either,
      versions: [5],
    },
    {
      name: 'DISCONNECT with a reason code that is none',
      bytes: packet(0xe0, u8(0x01)),
      codes: either,
      versions: [5],
    },
    {
      name: 'DISCONNECT with a code only a server may use',
      bytes: packet(0xe0, u8(0x8b)),
      codes: either,
      versions: [5],
    },
    {
      name: 'DISCONNECT with bytes behind its properties',
      bytes: packet(0xe0, u8(0), properties(), u8(0)),
      codes: malformed,
      versions: [5],
    },
    {
      name: 'AUTH with flags [MQTT-3.15.1-1]',
      bytes: packet(0xf1, u8(0x18), properties()),
      codes: malformed,
      versions: [5],
    },
    {
      name: 'properties longer than the packet',
      bytes: packet(0x30, field('a'), u8(90), u8(1)),
      codes: malformed,
      versions: [5],
    },
    {
      name: 'a property length without an end',
      bytes: packet(0x30, field('a'), Buffer.from([0xff, 0xff, 0xff, 0xff, 0x7f])),
      codes: malformed,
      versions: [5],
    },
    {
      name: 'an overlong property length [MQTT-1.5.5-1]',
      bytes: packet(0x30, field('a'), Buffer.from([0x80, 0x00])),
      codes: malformed,
      versions: [5],
    },
    {
      name: 'an unknown property',
      bytes: packet(0x30, field('a'), properties(u8(0x50), u8(0))),
      codes: either,
      versions: [5],
    },
    {
      name: 'a user property cut in half',
      bytes: packet(0x30, field('a'), properties(u8(0x26), field('k'))),
      codes: malformed,
      versions: [5],
    },
  ];
  return list.filter(item => (item.versions ?? [4, 5]).includes(version));
}

describe.each([4, 5] as const)('a malformed packet, level %i, is refused and disturbs nobody', version => {
  it.each(cases(version).map(item => [item.name, item] as const))('%s', async (_name, item) => {
    await undisturbed(async () => {
      const client = await connect(broker, { version });
      client.sendBytes(item.bytes);
      await client.expectRefused(item.codes);
    });
  });
});

describe('what is cut off', () => {
  const whole = Buffer.concat([
    packet(0x32, field('some/topic'), u16(7), Buffer.from('payload')),
    packet(0x82, u16(8), field('some/filter'), u8(1)),
    packet(0xe0),
  ]);

  it('a connection that ends in the middle of any packet disturbs nobody', async () => {
    await undisturbed(async () => {
      const clients: TestClient[] = [];
      for (let length = 1; length < whole.length; length++) {
        const client = await connect(broker);
        client.sendBytes(whole.subarray(0, length));
        clients.push(client);
      }
      await sleep(50);
      for (const client of clients) client.drop();
      await sleep(50);
    });
  });
});

describe.each(TRANSPORTS)('noise over %s', transport => {
  it('a hundred connections of random bytes disturb nobody', async () => {
    await undisturbed(async () => {
      let state = 12_345;
      const random = () => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
        return state >>> 16;
      };
      for (let round = 0; round < 100; round++) {
        const client =
          round % 2 === 0 ? await open(broker, { transport }) : await connect(broker, { transport });
        const noise = Buffer.from(Array.from({ length: 1 + (random() % 300) }, () => random() & 0xff));
        client.sendBytes(noise);
        if (round % 4 === 3) await sleep(1);
        client.drop();
      }
    });
  });

  it('valid packets with one bit turned disturb nobody', async () => {
    await undisturbed(async () => {
      const bytes = Buffer.concat([
        packet(
          0x32,
          field('flip/topic'),
          u16(7),
          properties(u8(0x26), field('k'), field('v')),
          Buffer.from('x'),
        ),
        packet(0x82, u16(8), properties(u8(0x0b), u8(3)), field('flip/+'), u8(1)),
      ]);
      for (let bit = 0; bit < bytes.length * 8; bit += transport === 'tcp' ? 1 : 7) {
        const client = await connect(broker, { transport, version: 5 });
        const turned = Buffer.from(bytes);
        turned[bit >>> 3] = turned[bit >>> 3]! ^ (1 << (bit & 7));
        client.sendBytes(turned);
        client.wire.end();
      }
    });
  });
});
