/**
 * The PROXY protocol's header, versions 1 and 2, as sent by a load balancer ahead of the client's own bytes
 * (the specification is HAProxy's proxy-protocol.txt, 2.1 and 2.2).
 *
 * A pure incremental parser: bytes in, in whatever pieces, one answer out. Which version comes is told by the
 * first bytes, so one setting serves both. It is bounded: a version 1 line has at most 107 bytes, a version 2
 * header at most 16 + {@link V2_BODY_BYTES_MAX}; anything longer is malformed. A client that does not speak it is
 * malformed at the first byte that differs, so the header cannot be left out to hide where one comes from.
 * TLVs of version 2 are skipped. LOCAL (health checks of the balancer) and UNKNOWN or UNSPEC keep the socket's
 * own address, as does AF_UNIX, which has no address to show.
 */

/** The longest version 1 line with its CRLF (2.1). */
const V1_BYTES_MAX = 107;
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const V1_SIGNATURE = Buffer.from('PROXY ', 'latin1');
const V2_FIXED_BYTES = 16;
/** Addresses take at most 216 bytes (AF_UNIX), the rest is TLVs. */
const V2_BODY_BYTES_MAX = 2048;

export interface ProxySource {
  readonly address: string;
  readonly port: number;
}

export type ProxyHeader =
  | { readonly kind: 'more' }
  | { readonly kind: 'malformed'; readonly reason: string }
  /** `source` undefined: use the socket's own address. `rest` is what followed the header, often empty. */
  | { readonly kind: 'header'; readonly source: ProxySource | undefined; readonly rest: Buffer };

const MORE: ProxyHeader = { kind: 'more' };

/** One connection's header; after a `header` or `malformed` answer it must not be used again. */
export class ProxyHeaderParser {
  #bytes: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): ProxyHeader {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const bytes = this.#bytes;
    if (bytes.length === 0) return MORE;
    const isV2 = bytes[0] === V2_SIGNATURE[0];
    const signature = isV2 ? V2_SIGNATURE : V1_SIGNATURE;
    const known = Math.min(bytes.length, signature.length);
    if (bytes.compare(signature, 0, known, 0, known) !== 0) return malformed('no PROXY header');
    if (known < signature.length) return MORE;
    return isV2 ? parseV2(bytes) : parseV1(bytes);
  }
}

function malformed(reason: string): ProxyHeader {
  return { kind: 'malformed', reason };
}

function parseV1(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, V1_BYTES_MAX).indexOf('\r\n', 0, 'latin1');
  if (end < 0) return bytes.length >= V1_BYTES_MAX ? malformed('PROXY v1 line too long') : MORE;
  const words = bytes.toString('latin1', V1_SIGNATURE.length, end).split(' ');
  const rest = bytes.subarray(end + 2);
  if (words[0] === 'UNKNOWN') return { kind: 'header', source: undefined, rest };
  const isAddress = words[0] === 'TCP4' ? isIpv4 : words[0] === 'TCP6' ? isIpv6 : undefined;
  if (isAddress === undefined) return malformed('PROXY v1 with an unknown protocol');
  if (words.length !== 5 || !isAddress(words[1]!) || !isAddress(words[2]!)) {
    return malformed('PROXY v1 with a bad address');
  }
  const port = v1Port(words[3]!);
  if (port < 0 || v1Port(words[4]!) < 0) return malformed('PROXY v1 with a bad port');
  return { kind: 'header', source: { address: words[1]!, port }, rest };
}

function v1Port(text: string): number {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65535 ? Number(text) : -1;
}

function isIpv4(text: string): boolean {
  const parts = text.split('.');
  return parts.length === 4 && parts.every(part => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function isIpv6(text: string): boolean {
  if (!/^[0-9a-fA-F:.]{2,45}$/.test(text)) return false;
  const halves = text.split('::');
  if (halves.length > 2) return false;
  const groups = halves.flatMap(half => (half === '' ? [] : half.split(':')));
  const last = groups.at(-1);
  const hasIpv4 = last?.includes('.') === true;
  if (hasIpv4 && !isIpv4(last)) return false;
  const hex = hasIpv4 ? groups.slice(0, -1) : groups;
  if (!hex.every(group => /^[0-9a-fA-F]{1,4}$/.test(group))) return false;
  const count = hex.length + (hasIpv4 ? 2 : 0);
  return halves.length === 2 ? count <= 7 : count === 8;
}

function parseV2(bytes: Buffer): ProxyHeader {
  if (bytes.length < V2_FIXED_BYTES) return MORE;
  const version = bytes[12]! >> 4;
  const command = bytes[12]! & 15;
  const family = bytes[13]! >> 4;
  const bodyLength = bytes.readUInt16BE(14);
  if (version !== 2) return malformed('PROXY v2 with an unknown version');
  if (command > 1) return malformed('PROXY v2 with an unknown command');
  if (bodyLength > V2_BODY_BYTES_MAX) return malformed('PROXY v2 header too long');
  const end = V2_FIXED_BYTES + bodyLength;
  if (bytes.length < end) return MORE;
  const rest = bytes.subarray(end);
  if (command === 0) return { kind: 'header', source: undefined, rest };
  if (family === 1) {
    if (bodyLength < 12) return malformed('PROXY v2 with a short address');
    const address = `${bytes[16]}.${bytes[17]}.${bytes[18]}.${bytes[19]}`;
    return { kind: 'header', source: { address, port: bytes.readUInt16BE(24) }, rest };
  }
  if (family === 2) {
    if (bodyLength < 36) return malformed('PROXY v2 with a short address');
    return { kind: 'header', source: { address: ipv6Text(bytes, 16), port: bytes.readUInt16BE(48) }, rest };
  }
  // UNSPEC and AF_UNIX; other families are reserved, and the specification has the receiver ignore the address.
  return { kind: 'header', source: undefined, rest };
}

/** RFC 5952 text of 16 bytes: the longest run of two or more zero groups is cut, mapped IPv4 shown as such. */
export function ipv6Text(bytes: Uint8Array, offset: number): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[offset + i]! << 8) | bytes[offset + i + 1]!);
  if (groups.slice(0, 5).every(group => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${bytes[offset + 12]}.${bytes[offset + 13]}.${bytes[offset + 14]}.${bytes[offset + 15]}`;
  }
  let runStart = -1;
  let runLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > runLength) {
      runStart = i;
      runLength = length;
    }
    i += length;
  }
  const text = groups.map(group => group.toString(16));
  if (runStart < 0) return text.join(':');
  return `${text.slice(0, runStart).join(':')}::${text.slice(runStart + runLength).join(':')}`;
}
