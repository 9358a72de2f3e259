/** Requests that have begun to arrive, of all connections together; above that, the connection with most is closed. */
export const PARTIAL_BYTES_MAX = 134_217_728;

/** How often it is looked at; what a fast network brings in between comes on top. */
export const PARTIAL_LOOK_MS = 250;

/** A call as far as it matters here. */
export interface Arriving {
  /** Bytes of a message that is not complete. */
  readonly partialBytes: number;
  /** Address and port of its caller. */
  readonly peer: string;
}

/**
 * The connection to be closed, if any. Only the sum is bounded, since each of many streams may be about to receive a
 * message of the largest size, and a caller in good order is never at that point with many of them for long.
 */
export function heaviestConnection(
  calls: Iterable<Arriving>,
  bytesMax = PARTIAL_BYTES_MAX,
): string | undefined {
  const byPeer = new Map<string, number>();
  let sum = 0;
  for (const { partialBytes, peer } of calls) {
    if (partialBytes === 0) continue;
    sum += partialBytes;
    byPeer.set(peer, (byPeer.get(peer) ?? 0) + partialBytes);
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
