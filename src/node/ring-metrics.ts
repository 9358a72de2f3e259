import {
  type CounterBlock,
  RING_BELLS,
  RING_BYTES_SENT,
  RING_DEPTH_BYTES,
  RING_FRAMES_RECEIVED,
  RING_FRAMES_SENT,
  RING_STALLS,
} from '../base/metrics.js';
import type { Mesh } from '../shard/mesh.js';

/** Copies what a thread's ports have counted into its block; called about once a second. */
export function sampleRings(mesh: Mesh, { values }: CounterBlock): void {
  let framesSent = 0;
  let bytesSent = 0;
  let framesReceived = 0;
  let depth = 0;
  let stalls = 0;
  for (let peer = 0; peer < mesh.shardCount; peer++) {
    const port = mesh.port(peer);
    if (port === undefined) continue;
    framesSent += port.framesOut;
    bytesSent += port.bytesOut;
    framesReceived += port.framesIn;
    depth += port.incomingBytes;
    stalls += port.fullStalls;
  }
  values[RING_FRAMES_SENT] = framesSent;
  values[RING_BYTES_SENT] = bytesSent;
  values[RING_FRAMES_RECEIVED] = framesReceived;
  values[RING_DEPTH_BYTES] = depth;
  values[RING_STALLS] = stalls;
  values[RING_BELLS] = mesh.rings;
}
