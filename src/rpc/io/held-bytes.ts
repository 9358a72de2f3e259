/**
 * What all calls together may make a server hold: requests of which a part has come, and answers that the caller does
 * not take. Above that, the connection with most of it is closed.
 */
export const HELD_BYTES_MAX = 268_435_456;

/** How often it is looked at; what a fast network brings in between comes on top. */
export const HELD_LOOK_MS = 250;

/** A call as far as it matters here. */
export interface Holder {
  readonly heldBytes: number;
  /** Address and port of its caller. */
  readonly peer: string;
}

/**
 * The connection to be closed, if any. Only the sum is bounded, since each of many calls may be about to receive or to
 * answer the largest message, and a caller in good order never has many of them at that point for long.
 */
export function heaviestConnection(calls: Iterable<Holder>, bytesMax = HELD_BYTES_MAX): string | undefined {
  const byPeer = new Map<string, number>();
  let sum = 0;
  for (const { heldBytes, peer } of calls) {
    if (heldBytes === 0) continue;
    sum += heldBytes;
    byPeer.set(peer, (byPeer.get(peer) ?? 0) + heldBytes);
  }
  if (sum <= bytesMax) return undefined;
  let heaviest: string | undefined;
  let most = 0;
  for (const [peer, bytes] of byPeer) {
    if (bytes <= most) continue;
    most = bytes;
    heaviest = peer;
  }
  return heaviest;
}
