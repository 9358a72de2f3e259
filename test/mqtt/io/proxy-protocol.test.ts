import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { ipv6Text, type ProxyHeader, ProxyHeaderParser } from '../../../src/mqtt/io/proxy-protocol.js';
import { listenTcpHandle } from '../../../src/mqtt/io/tcp-handle.js';
import { listenTcpNet } from '../../../src/mqtt/io/tcp-net.js';
import type { Listener } from '../../../src/mqtt/transport.js';
import { pause, Recorder, until } from '../../contract/transport.contract.js';
import { type ByteClient, connectBytes } from './byte-client.js';
import { tcpOptions } from './options.js';

/** Feeds the bytes in pieces of the given sizes, repeating the last. */
function parse(bytes: Buffer, sizes: readonly number[] = [bytes.length]): ProxyHeader {
  const parser = new ProxyHeaderParser();
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = Math.max(1, sizes[Math.min(i, sizes.length - 1)] ?? 1);
    const result = parser.push(bytes.subarray(at, at + size));
    at += size;
    if (result.kind === 'header') {
      return { ...result, rest: Buffer.concat([result.rest, bytes.subarray(Math.min(at, bytes.length))]) };
    }
    if (result.kind === 'malformed') return result;
  }
  return { kind: 'more' };
}

function v2(command: number, family: number, body: Buffer, rest = Buffer.alloc(0)): Buffer {
  const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
  const length = Buffer.from([body.length >> 8, body.length & 255]);
  return Buffer.concat([head, Buffer.from([command, family]), length, body, rest]);
}

const port = fc.integer({ min: 0, max: 65535 });
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 });
const rest = fc.uint8Array({ maxLength: 50 }).map(bytes => Buffer.from(bytes));

describe('the PROXY header', () => {
  it('version 1 gives the client, in whatever pieces it comes', () => {
    const source = fc.oneof(
      fc.record({ name: fc.constant('TCP4'), address: fc.ipV4() }),
      fc.record({ name: fc.constant('TCP6'), address: fc.ipV6() }),
    );
    fc.assert(
      fc.property(source, port, sizes, rest, ({ name, address }, number, pieces, after) => {
        const other = name === 'TCP4' ? '10.0.0.1' : '::1';
        const line = Buffer.from(`PROXY ${name} ${address} ${other} ${number} 1883\r\n`);
        fc.pre(line.length <= 107);
        const result = parse(Buffer.concat([line, after]), pieces);
        expect(result).toEqual({ kind: 'header', source: { address, port: number }, rest: after });
      }),
    );
  });

  it('version 2 gives the client, in whatever pieces it comes, and skips what it does not know', () => {
    const source = fc.oneof(
      fc.tuple(fc.constant(0x11), fc.uint8Array({ minLength: 4, maxLength: 4 })),
      fc.tuple(fc.constant(0x21), fc.uint8Array({ minLength: 16, maxLength: 16 })),
    );
    const tlvs = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(source, port, tlvs, sizes, rest, ([family, address], number, extra, pieces, after) => {
        const ports = Buffer.from([number >> 8, number & 255, 7, 91]);
        const body = Buffer.concat([address, Buffer.alloc(address.length), ports, extra]);
        const text = family === 0x11 ? address.join('.') : ipv6Text(address, 0);
        expect(parse(v2(0x21, family, body, after), pieces)).toEqual({
          kind: 'header',
          source: { address: text, port: number },
          rest: after,
        });
      }),
    );
  });

  it('keeps the own address for UNKNOWN, LOCAL, UNSPEC and AF_UNIX', () => {
    const after = Buffer.from('x');
    const own = { kind: 'header', source: undefined, rest: after };
    expect(parse(Buffer.from('PROXY UNKNOWN\r\nx'))).toEqual(own);
    expect(parse(Buffer.from('PROXY UNKNOWN ::1 ::1 1 2\r\nx'))).toEqual(own);
    expect(parse(v2(0x20, 0x11, Buffer.alloc(12), after))).toEqual(own);
    expect(parse(v2(0x21, 0x00, Buffer.alloc(0), after))).toEqual(own);
    expect(parse(v2(0x21, 0x31, Buffer.alloc(216), after))).toEqual(own);
  });

  it.each([
    'GET / HTTP/1.1\r\n',
    '\x10\x0c\0\x04MQTT',
    'PROXY',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n',
    'PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n',
    'PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n',
    'PROXY TCP4 ::1 ::1 1 2\r\n',
    'PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n',
    'PROXY TCP6 :::1 ::1 1 2\r\n',
    'PROXY TCP6 1:2:3 ::1 1 2\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1 +2\r\n',
    'PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n',
    'PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n',
    `PROXY UNKNOWN ${'x'.repeat(107)}\r\n`,
    '\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c123456789012',
    '\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c123456789012',
    '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b12345678901',
    '\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x23',
    '\r\n\r\n\0\r\nQUIT\n\x21\x11\x08\x01',
  ])('takes %j for no header', text => {
    const bytes = Buffer.from(text, 'latin1');
    const result = parse(bytes);
    if (result.kind === 'more') {
      // Not wrong yet, but it never becomes right.
      const filled = Buffer.concat([bytes, Buffer.alloc(5000, 'x')]);
      expect(parse(filled).kind).toBe('malformed');
    } else expect(result.kind).toBe('malformed');
  });

  it('answers any bytes, the same however they are cut, within its bounds', () => {
    const seeds = [
      Buffer.from('PROXY TCP4 192.168.0.1 10.0.0.1 56324 443\r\n'),
      Buffer.from('PROXY TCP6 2001:db8::1 ::1 1 2\r\n'),
      v2(0x21, 0x11, Buffer.alloc(30, 7)),
      v2(0x21, 0x21, Buffer.alloc(40, 9)),
    ];
    const damaged = fc
      .tuple(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 3 }),
        fc.nat(60),
      )
      .map(([seed, flips, cut]) => {
        const bytes = Buffer.concat([seed, Buffer.alloc(20, 'z')]);
        for (const [at, value] of flips) if (at < bytes.length) bytes[at] = value;
        return bytes.subarray(0, bytes.length - (cut % bytes.length));
      });
    const wild = fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.oneof(damaged, wild), sizes, (bytes, pieces) => {
        const whole = parse(bytes);
        const cut = parse(bytes, pieces);
        expect(cut.kind).toBe(whole.kind);
        if (whole.kind === 'header') expect(cut).toEqual(whole);
        const filled = parse(Buffer.concat([bytes, Buffer.alloc(2100 + 107)]));
        expect(filled.kind).not.toBe('more');
      }),
      { numRuns: 2000 },
    );
  });

  it('writes IPv6 addresses as RFC 5952 does', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(65535), (bytes, zeros) => {
        for (let i = 0; i < 16; i++) if ((zeros >> i) & 1) bytes[i] = 0;
        const text = ipv6Text(bytes, 0);
        expect(isIPv6(text)).toBe(true);
        expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
      }),
    );
    const mapped = Buffer.from('00000000000000000000ffff0a000001', 'hex');
    expect(ipv6Text(mapped, 0)).toBe('::ffff:10.0.0.1');
  });
});

for (const [name, listen] of [
  ['tcp-handle', listenTcpHandle],
  ['tcp-net', listenTcpNet],
] as const) {
  describe(`${name} behind a proxy`, () => {
    let listener: Listener;
    let recorders: Recorder[] = [];
    const clients: ByteClient[] = [];
    const open = async (onAccept: (recorder: Recorder) => void = () => {}) => {
      recorders = [];
      const options = { ...tcpOptions(), proxyProtocol: true, handshakeTimeoutMs: 100 };
      listener = await listen(options, peer => {
        const recorder = new Recorder(peer);
        recorders.push(recorder);
        onAccept(recorder);
        return recorder;
      });
    };
    const connect = async (prologue?: Buffer) => {
      const client = await connectBytes({
        port: listener.port,
        ...(prologue === undefined ? {} : { prologue }),
      });
      clients.push(client);
      return client;
    };
    const HEADER = Buffer.from('PROXY TCP4 203.0.113.9 10.0.0.1 4711 1883\r\n');

    afterEach(async () => {
      for (const client of clients.splice(0)) client.socket.destroy();
      await listener.destroy();
      for (const recorder of recorders) expect(recorder.closes).toBe(1);
    });

    it('shows the real client, and passes on what follows the header', async () => {
      await open();
      const client = await connect(Buffer.concat([HEADER, Buffer.from('abc')]));
      await until(() => recorders[0]?.receivedBytes === 3, 'what follows');
      const { peer } = recorders[0]!;
      expect([peer.remoteAddress, peer.remotePort]).toEqual(['203.0.113.9', 4711]);
      client.send(Buffer.from('def'));
      await until(() => recorders[0]!.receivedBytes === 6, 'more');
      expect(recorders[0]!.bytes().toString()).toBe('abcdef');
      peer.write(Buffer.from('hi'));
      await client.untilReceived(2);
    });

    it('takes the header byte by byte, and no peer comes before it is whole', async () => {
      await open();
      const client = await connect();
      for (const byte of HEADER.subarray(0, HEADER.length - 1)) client.send(Buffer.from([byte]));
      await pause(20);
      expect(recorders.length).toBe(0);
      client.send(HEADER.subarray(HEADER.length - 1));
      await until(() => recorders.length === 1, 'the peer');
    });

    it('holds what follows the header while paused from the start', async () => {
      await open(recorder => recorder.call(peer => peer.pause()));
      const client = await connect(Buffer.concat([HEADER, Buffer.from('abc')]));
      client.send(Buffer.from('def'));
      await until(() => recorders.length === 1, 'the peer');
      await pause(20);
      expect(recorders[0]!.receivedBytes).toBe(0);
      recorders[0]!.call(peer => peer.resume());
      await until(() => recorders[0]!.receivedBytes === 6, 'all of it');
      expect(recorders[0]!.bytes().toString()).toBe('abcdef');
      expect(recorders[0]!.reentered).toBe(0);
    });

    it('closes who sends something else, nothing, or goes', async () => {
      await open();
      const wrong = await connect(Buffer.from('\x10\x0c'));
      await wrong.until(() => wrong.ended || wrong.socket.destroyed, 'the refusal');
      const silent = await connect();
      await silent.until(() => silent.ended || silent.socket.destroyed, 'the time limit');
      const leaver = await connect(HEADER.subarray(0, 10));
      leaver.socket.end();
      await until(() => listener.connections === 0, 'all to go');
      expect(listener.counters.handshakeFailed).toBe(3);
      expect(recorders.length).toBe(0);
    });
  });
}
