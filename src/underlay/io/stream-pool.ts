import { isIP } from 'node:net';
import type { Address } from '../message.js';
import { parseAddress } from './address.js';
import { FRAME_HEADER_BYTES } from './frame-reader.js';
import type { NameCache } from './name-cache.js';
import { type LinkOwner, StreamLink } from './stream-link.js';
import type { StreamSecurity } from './stream-tls.js';

/** Outgoing connections at a time; above that, the idle one that was used earliest makes room. */
const LINKS_MAX = 1_024;

/** What waits or is under way to all addresses together. */
export const POOL_BYTES_MAX = 67_108_864;

/** One outgoing connection for each address, made when it is needed. */
export class StreamPool implements LinkOwner {
  security: StreamSecurity | undefined;
  private readonly names: NameCache;
  private readonly unreachable: (to: Address) => void;
  private readonly linksMax: number;
  private readonly links = new Map<Address, StreamLink>();
  private pendingBytes = 0;
  private isClosed = false;
  lost = 0;

  constructor(
    names: NameCache,
    security: StreamSecurity | undefined,
    unreachable: (to: Address) => void,
    linksMax = LINKS_MAX,
  ) {
    this.names = names;
    this.security = security;
    this.unreachable = unreachable;
    this.linksMax = linksMax;
  }

  get size(): number {
    return this.links.size;
  }

  get bytes(): number {
    return this.pendingBytes;
  }

  send(to: Address, bytes: Uint8Array): void {
    const nowMs = performance.now();
    const size = FRAME_HEADER_BYTES + bytes.length;
    const hasRoom = this.pendingBytes + size <= POOL_BYTES_MAX;
    const link = hasRoom ? (this.links.get(to) ?? this.link(to, nowMs)) : undefined;
    if (link === undefined) return this.lose(to, 1);
    // Counted first: the link may fail at once.
    this.pendingBytes += size;
    if (link.send(bytes, nowMs)) return;
    this.pendingBytes -= size;
    this.lose(to, 1);
  }

  sweep(nowMs: number): void {
    for (const link of this.links.values()) link.sweep(nowMs);
  }

  close(): void {
    this.isClosed = true;
    for (const link of this.links.values()) link.close();
  }

  acknowledged(bytes: number): void {
    this.pendingBytes -= bytes;
  }

  closed(link: StreamLink, lost: number): void {
    this.links.delete(link.to);
    if (lost > 0) this.lose(link.to, lost);
  }

  private lose(to: Address, packets: number): void {
    this.lost += packets;
    // Later, so that nobody is told of a failure from within a call of its own.
    process.nextTick(() => {
      if (!this.isClosed) this.unreachable(to);
    });
  }

  private link(to: Address, nowMs: number): StreamLink | undefined {
    const target = parseAddress(to);
    if (target === undefined || this.isClosed) return undefined;
    if (this.links.size >= this.linksMax && !this.closeIdle()) return undefined;
    const link = new StreamLink(to, this, nowMs);
    this.links.set(to, link);
    if (isIP(target.host) !== 0) link.open(target.host, target.port);
    else this.names.find(target.host, nowMs, ip => link.open(ip, target.port));
    return link;
  }

  private closeIdle(): boolean {
    let earliest: StreamLink | undefined;
    for (const link of this.links.values()) {
      if (link.isIdle && (earliest === undefined || link.usedMs < earliest.usedMs)) earliest = link;
    }
    earliest?.close();
    return earliest !== undefined;
  }
}
