/** Partial comparison of packets, and their short form for messages. */

/** True when all that `want` names is so in `have`; a string matches a buffer with the same text. */
export function matches(have: unknown, want: unknown): boolean {
  if (Buffer.isBuffer(have)) {
    if (Buffer.isBuffer(want)) return have.equals(want);
    return typeof want === 'string' && have.toString() === want;
  }
  if (Array.isArray(want)) {
    if (!Array.isArray(have) || have.length !== want.length) return false;
    return want.every((item, index) => matches(have[index], item));
  }
  if (want !== null && typeof want === 'object') {
    if (have === null || typeof have !== 'object') return false;
    return Object.entries(want).every(([key, value]) =>
      matches((have as Record<string, unknown>)[key], value),
    );
  }
  return Object.is(have, want);
}

const TEXT_MAX = 60;

function short(value: unknown): unknown {
  if (!Buffer.isBuffer(value)) return value;
  const text = value.toString();
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}… (${value.length} bytes)` : text;
}

/** One line for a packet; what is noise in a message is left out. */
export function describePacket(packet: object): string {
  const { cmd, raw, length, payload, ...rest } = packet as Record<string, unknown>;
  const shown: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest))
    if (value !== undefined && value !== null) shown[key] = value;
  if (cmd === 'publish') shown.payload = short(payload);
  else {
    delete shown.qos;
    delete shown.dup;
    delete shown.retain;
    delete shown.topic;
  }
  const body = JSON.stringify(shown, (_key, value) =>
    value?.type === 'Buffer' ? `0x${Buffer.from(value.data).toString('hex')}` : value,
  );
  return `${String(cmd)} ${body}`;
}
