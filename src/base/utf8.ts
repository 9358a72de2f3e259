/**
 * Whether `bytes[start, end)` may be an MQTT UTF-8 encoded string: well-formed UTF-8 (no overlong form, nothing
 * above U+10FFFF, no surrogate D800 to DFFF) [MQTT-1.5.4-1] and no U+0000 [MQTT-1.5.4-2]. Allocates nothing.
 * Control and non-characters, which a server only SHOULD refuse, pass.
 */
export function isValidMqttUtf8(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    const lead = bytes[at]!;
    if (lead < 0x80) {
      if (lead === 0) return false;
      at++;
      continue;
    }
    const count = sequenceBytes(bytes, at, lead, end);
    if (count === 0) return false;
    at += count;
  }
  return true;
}

/** Length of the multi-byte sequence at `at`, 0 if it is ill-formed (table 3-7 of the Unicode standard). */
function sequenceBytes(bytes: Uint8Array, at: number, lead: number, end: number): number {
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const count = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (at + count > end) return 0;
  const second = bytes[at + 1]!;
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  if (count > 2 && (bytes[at + 2]! & 0xc0) !== 0x80) return 0;
  if (count > 3 && (bytes[at + 3]! & 0xc0) !== 0x80) return 0;
  return count;
}
