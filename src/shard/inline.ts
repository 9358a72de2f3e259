import { assert } from '../base/assert.js';
import { createMesh, Mesh, type MeshOptions } from './mesh.js';
import { type Bell, FRAME_BYTES_MAX, type PeerFrameHandler, RING_BYTES } from './shard.js';

export interface InlineMeshOptions extends MeshOptions {
  /** Capacity of each ring in bytes, as in `createMesh`. */
  readonly ringBytes?: number | ((from: number, to: number) => number);
  readonly frameBytesMax?: number;
  /** Takes the frames that arrive at `shard`. */
  readonly handlerOf: (shard: number) => PeerFrameHandler;
  /** The end of a turn of `shard`, between poll and flush: where a thread writes what its connections gathered. */
  readonly onTurn?: (shard: number) => void;
}

/**
 * All meshes of a process in one thread, over the same rings, ports, sleep words and congestion as between real
 * threads; only the bell and the turns differ. `pump` runs the turns in the order of the shards, so a run
 * depends on nothing but the calls made.
 */
export class InlineMesh {
  private readonly meshes: Mesh[];
  private readonly armed: ((() => void) | undefined)[] = [];
  private readonly awake: boolean[];
  private readonly onTurn: ((shard: number) => void) | undefined;

  constructor(shardCount: number, options: InlineMeshOptions) {
    const memory = createMesh(
      shardCount,
      options.ringBytes ?? RING_BYTES,
      options.frameBytesMax ?? FRAME_BYTES_MAX,
    );
    this.onTurn = options.onTurn;
    this.awake = new Array<boolean>(shardCount).fill(true);
    this.meshes = this.awake.map((_, shard) => {
      const mesh = new Mesh(
        memory.part(shard),
        new InlineBell(shard, this.armed),
        options.handlerOf(shard),
        options,
      );
      mesh.onWake = () => this.schedule(shard);
      return mesh;
    });
  }

  mesh(shard: number): Mesh {
    return this.meshes[shard]!;
  }

  /** Gives `shard` a turn at the next pump; what a socket event does in a real thread. */
  schedule(shard: number): void {
    this.awake[shard] = true;
    this.meshes[shard]!.wake();
  }

  /** One turn of `shard`. */
  turn(shard: number): number {
    const mesh = this.meshes[shard]!;
    this.awake[shard] = false; // unless something asks for a further turn during this one
    const frames = mesh.poll();
    this.onTurn?.(shard);
    mesh.flush();
    if (frames > 0 || mesh.more || !mesh.sleep()) this.awake[shard] = true;
    return frames;
  }

  /** Gives every shard a turn, and more until all sleep; the frames handled. Asserts after `turnsMax` rounds. */
  pump(turnsMax = 100_000): number {
    let frames = 0;
    this.awake.fill(true);
    for (let turns = 0; this.awake.includes(true); turns++) {
      assert(turns < turnsMax, 'the shards keep each other awake');
      for (let shard = 0; shard < this.meshes.length; shard++) {
        if (this.awake[shard]) frames += this.turn(shard);
      }
    }
    return frames;
  }

  close(): void {
    for (const mesh of this.meshes) mesh.close();
  }
}

/** Rings at once: the sleeper's callback only marks it for its next turn. */
class InlineBell implements Bell {
  private readonly self: number;
  /** What each armed thread wants called. */
  private readonly armed: ((() => void) | undefined)[];

  constructor(self: number, armed: ((() => void) | undefined)[]) {
    this.self = self;
    this.armed = armed;
  }

  arm(onRing: () => void): boolean {
    this.armed[this.self] = onRing;
    return true;
  }

  ring(peer: number): void {
    const onRing = this.armed[peer];
    this.armed[peer] = undefined;
    onRing?.();
  }

  close(): void {
    this.armed[this.self] = undefined;
  }
}
