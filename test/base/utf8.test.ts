import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isValidMqttUtf8 } from '../../src/base/utf8.js';

function valid(bytes: Uint8Array): boolean {
  return isValidMqttUtf8(bytes, 0, bytes.length);
}

/** Node's own check, and no U+0000. */
function expected(bytes: Uint8Array): boolean {
  return isUtf8(bytes) && !bytes.includes(0);
}

test('agrees with Node on every sequence of one and two bytes, and on all edges of three and four', () => {
  for (let lead = 0; lead < 256; lead++) {
    const one = Uint8Array.of(lead);
    if (valid(one) !== expected(one)) expect.fail(`byte ${lead}`);
    for (let second = 0; second < 256; second++) {
      const two = Uint8Array.of(lead, second);
      if (valid(two) !== expected(two)) expect.fail(`bytes ${two}`);
      if (lead < 0xc0) continue;
      for (const third of [0, 0x41, 0x7f, 0x80, 0xbf, 0xc0, 0xff]) {
        const three = Uint8Array.of(lead, second, third);
        if (valid(three) !== expected(three)) expect.fail(`bytes ${three}`);
        for (const fourth of [0x41, 0x7f, 0x80, 0xbf, 0xc0]) {
          const four = Uint8Array.of(lead, second, third, fourth);
          if (valid(four) !== expected(four)) expect.fail(`bytes ${four}`);
        }
      }
    }
  }
});

test('agrees with Node on text with random damage', () => {
  const damaged = fc
    .tuple(fc.string({ unit: 'binary' }), fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 2 }))
    .map(([text, hits]) => {
      const bytes = Buffer.from(text);
      for (const [at, byte] of hits) if (at < bytes.length) bytes[at] = byte;
      return bytes;
    });
  fc.assert(
    fc.property(damaged, bytes => valid(bytes) === expected(bytes)),
    { numRuns: 2000 },
  );
});

test('surrogates, overlong forms and U+0000 are refused [MQTT-1.5.4-1] [MQTT-1.5.4-2]', () => {
  expect(valid(Buffer.from('eda080', 'hex'))).toBe(false);
  expect(valid(Buffer.from('c080', 'hex'))).toBe(false);
  expect(valid(Buffer.from('f4908080', 'hex'))).toBe(false);
  expect(valid(Buffer.from('a\0b'))).toBe(false);
  expect(valid(Buffer.from('\ufeff\u0001\uffff😀'))).toBe(true);
  expect(valid(Buffer.alloc(0))).toBe(true);
});

test('a sequence cut by the end of the range is refused, bytes outside it do not matter', () => {
  const bytes = Buffer.from('\0é\0');
  expect(isValidMqttUtf8(bytes, 1, 3)).toBe(true);
  expect(isValidMqttUtf8(bytes, 1, 2)).toBe(false);
  expect(isValidMqttUtf8(bytes, 2, 3)).toBe(false);
  expect(isValidMqttUtf8(bytes, 1, 4)).toBe(false);
});
