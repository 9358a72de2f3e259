import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connectBytes, u16 } from './client/bytes.js';
import { connect, open, unique } from './client/client.js';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** PROXY protocol v2 header: command in the low, version in the high bits of the first byte. */
function version2(command: number, family: number, addresses: Buffer): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([command, family]), u16(addresses.length), addresses]);
}

const ipv4 = Buffer.from([192, 0, 2, 7, 192, 0, 2, 1, 0x10, 0x00, 0x07, 0x5b]);
const ipv6 = Buffer.concat([
  Buffer.alloc(15),
  Buffer.from([1]),
  Buffer.alloc(15),
  Buffer.from([2]),
  u16(4096),
  u16(1883),
]);

const good: [string, Buffer][] = [
  ['v1 over IPv4', Buffer.from('PROXY TCP4 192.0.2.7 192.0.2.1 4096 1883\r\n')],
  ['v1 over IPv6', Buffer.from('PROXY TCP6 2001:db8::7 2001:db8::1 4096 1883\r\n')],
  ['v1 of unknown origin', Buffer.from('PROXY UNKNOWN\r\n')],
  ['v1 of unknown origin with addresses', Buffer.from('PROXY UNKNOWN ff::1 ff::2 65535 65535\r\n')],
  ['v2 over IPv4', version2(0x21, 0x11, ipv4)],
  ['v2 over IPv6', version2(0x21, 0x21, ipv6)],
  ['v2 local', version2(0x20, 0x00, Buffer.alloc(0))],
  ['v2 with further fields', version2(0x21, 0x11, Buffer.concat([ipv4, Buffer.from([0x04, 0, 2, 0, 0])]))],
];

const bad: [string, Buffer][] = [
  ['none', Buffer.alloc(0)],
  ['v1 with a wrong word', Buffer.from('PROXI TCP4 192.0.2.7 192.0.2.1 4096 1883\r\n')],
  ['v1 without an end', Buffer.from(`PROXY TCP4 ${'1'.repeat(200)}`)],
  ['v1 with no address', Buffer.from('PROXY TCP4 here there 4096 1883\r\n')],
  ['v2 of another version', version2(0x31, 0x11, ipv4)],
  ['v2 too short for its family', version2(0x21, 0x11, Buffer.alloc(4))],
];

describe('PROXY protocol', () => {
  const broker = useBroker({
    transports: ['tcp', 'tls'],
    set: { 'listeners.tcp.proxyProtocol': true, 'listeners.tls.proxyProtocol': true },
  });

  for (const transport of ['tcp', 'tls'] as const) {
    it.each(good)(`%s is understood over ${transport}`, async (_name, preamble) => {
      const client = await connect(broker, { transport, preamble });
      const topic = unique('t');
      await client.subscribe(topic);
      await client.publish(topic, 'x');
      await client.receive({ payload: 'x' });
    });
  }

  it.each(good)('%s split at every byte, with CONNECT right behind it', async (_name, preamble) => {
    const client = await open(broker, { transport: 'tcp' });
    await client.sendPieces(
      Array.from(preamble, byte => Buffer.from([byte])),
      0,
    );
    client.sendBytes(connectBytes());
    await client.expect('connack', { returnCode: 0 });
    const joined = await open(broker, { transport: 'tcp' });
    joined.sendBytes(Buffer.concat([preamble, connectBytes()]));
    await joined.expect('connack', { returnCode: 0 });
  });

  it.each(bad)('%s closes the connection', async (_name, preamble) => {
    const client = await open(broker, { transport: 'tcp' });
    client.sendBytes(Buffer.concat([preamble, connectBytes()]));
    await client.expectClosed();
  });
});

describe('without the setting', () => {
  const broker = useBroker();

  it('a header is no MQTT and closes the connection', async () => {
    const client = await open(broker);
    client.sendBytes(Buffer.concat([good[0]![1], connectBytes()]));
    await client.expectClosed();
    expect(client.unread).toEqual([]);
  });
});
