import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connectBytes, field, packet, u8, u16 } from './client/bytes.js';
import { attempt, connect, open, sleep, type TestClient, unique } from './client/client.js';
import { OPCODE, UpgradeRefused, type WebWire } from './client/web-wire.js';

const broker = useBroker({ transports: ['tcp', 'ws', 'wss'] });

function webWire(client: TestClient): WebWire {
  return client.wire as WebWire;
}

describe.each(['ws', 'wss'] as const)('%s', transport => {
  it('the sub-protocol mqtt is chosen and returned [MQTT-6.0.0-4]', async () => {
    for (const protocols of [['mqtt'], ['chat', 'mqtt'], ['mqtt', 'mqttv3.1']]) {
      expect(webWire(await connect(broker, { transport, protocols })).protocol).toBe('mqtt');
    }
  });

  it('mqttv3.1 is served for clients of that time', async () => {
    const client = await connect(broker, { transport, version: 3, protocols: ['mqttv3.1'] });
    expect(webWire(client).protocol).toBe('mqttv3.1');
    await client.ping();
  });

  it('a client that offers other protocols only, or none, is refused or gets no protocol named [MQTT-6.0.0-3]', async () => {
    for (const protocols of [['chat'], []]) {
      const outcome = await open(broker, { transport, protocols }).then(
        client => webWire(client).protocol,
        error => error,
      );
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(UpgradeRefused);
      else expect(outcome).toBeUndefined();
    }
  });

  it('another path is not served', async () => {
    for (const path of ['/', '/mqt', '/mqtt/x', '/MQTT']) {
      const error = await open(broker, { transport, path }).catch(refusal => refusal);
      expect(error, path).toBeInstanceOf(Error);
    }
  });

  it('a query after the path does no harm', async () => {
    const client = await connect(broker, { transport, path: '/mqtt?token=1' });
    await client.ping();
  });

  it('packets need not begin or end with a frame [MQTT-6.0.0-2]', async () => {
    const client = await open(broker, { transport });
    const topic = unique('t');
    const bytes = Buffer.concat([
      connectBytes(),
      packet(0x82, u16(1), field(topic), u8(1)),
      packet(0x32, field(topic), u16(2), Buffer.from('a')),
      packet(0x32, field(topic), u16(3), Buffer.from('b')),
      packet(0xc0),
    ]);
    for (let at = 0; at < bytes.length; at += 7) client.sendBytes(bytes.subarray(at, at + 7));
    await client.expect('connack', { returnCode: 0 });
    await client.expect('suback', { granted: [1] });
    await client.expect('puback', { messageId: 2 });
    await client.expect('puback', { messageId: 3 });
    expect(await client.receiveTexts(2)).toEqual(['a', 'b']);
    await client.expect('pingresp');
  });

  it('a message in fragments is put together, with control frames between them', async () => {
    const client = await open(broker, { transport });
    const wire = webWire(client);
    const bytes = connectBytes();
    wire.frame(OPCODE.binary, bytes.subarray(0, 4), false);
    wire.frame(OPCODE.ping, Buffer.from('between'));
    wire.frame(OPCODE.continuation, bytes.subarray(4, 9), false);
    wire.frame(OPCODE.continuation, bytes.subarray(9), true);
    await client.expect('connack', { returnCode: 0 });
    expect(wire.pongs).toBe(1);
  });

  it('empty frames are allowed', async () => {
    const client = await connect(broker, { transport });
    client.sendBytes(Buffer.alloc(0));
    await client.ping();
  });

  it('a text frame closes the connection [MQTT-6.0.0-1]', async () => {
    const fresh = await open(broker, { transport });
    webWire(fresh).frame(OPCODE.text, Buffer.from('hello'));
    await fresh.ended();
    const client = await connect(broker, { transport });
    webWire(client).frame(OPCODE.text, Buffer.from([0xc0, 0x00]));
    await client.ended();
    expect(client.unread.filter(item => item.cmd === 'pingresp')).toEqual([]);
  });

  it('an unmasked frame is never taken for a packet (RFC 6455, 5.1)', async () => {
    const client = await connect(broker, { transport });
    webWire(client).raw(Buffer.from([0x82, 0x02, 0xc0, 0x00]));
    await sleep(100);
    expect(client.unread).toEqual([]);
  });

  it('a ping is answered, before CONNECT and after', async () => {
    const client = await open(broker, { transport });
    webWire(client).frame(OPCODE.ping, Buffer.from('1'));
    client.sendConnect();
    await client.expect('connack');
    webWire(client).frame(OPCODE.ping, Buffer.from('2'));
    await client.ping();
    await sleep(20);
    expect(webWire(client).pongs).toBe(2);
  });

  it('a close frame is answered, and counts as a lost connection: the will comes', async () => {
    const topic = unique('w');
    const watching = await connect(broker);
    await watching.subscribe(topic, { qos: 1 });
    const client = await connect(broker, { transport, will: { topic, payload: 'gone', qos: 1 } });
    webWire(client).frame(OPCODE.close, Buffer.from([0x03, 0xe8]));
    await client.ended();
    expect(webWire(client).closeCode).toBe(1000);
    await watching.receive({ payload: 'gone' });
  });

  it('after a DISCONNECT there is no will', async () => {
    const topic = unique('w');
    const watching = await connect(broker);
    await watching.subscribe(topic, { qos: 1 });
    const client = await connect(broker, { transport, will: { topic, payload: 'gone', qos: 1 } });
    await client.disconnect();
    await watching.expectNothing();
  });

  it('a refusal by CONNACK arrives before the close', async () => {
    const client = await attempt(broker, {
      transport,
      version: 5,
      properties: { authenticationMethod: 'NOPE' },
    });
    expect(client.connack.reasonCode).toBe(0x8c);
    await client.expectClosed();
  });

  it('a frame beyond the packet limit closes the connection', async () => {
    const client = await connect(broker, { transport });
    client.sendBytes(packet(0x30, field('a'), Buffer.alloc(1_100_000)));
    await client.ended();
  });

  it('plain HTTP is not served', async () => {
    const error = await open(broker, { transport, headers: { Upgrade: 'h2c' }, path: '/metrics' }).catch(
      refusal => refusal,
    );
    expect(error).toBeInstanceOf(Error);
  });
});

describe('settings', () => {
  const picky = useBroker({
    transports: ['tcp', 'ws'],
    set: { 'listeners.ws.path': '/broker', 'listeners.ws.origins': '["https://good.example"]' },
  });

  it('the path can be chosen', async () => {
    const headers = { Origin: 'https://good.example' };
    await connect(picky, { transport: 'ws', path: '/broker', headers });
    await expect(open(picky, { transport: 'ws', path: '/mqtt', headers })).rejects.toThrow();
  });

  it('only the origins listed are let in', async () => {
    const headers = { Origin: 'https://evil.example' };
    await expect(open(picky, { transport: 'ws', path: '/broker', headers })).rejects.toThrow();
  });
});
