import type { Mesh } from '../mesh.js';

/**
 * The turns of one thread: whatever brings work (a socket's bytes, a peer's bell) calls `schedule`, and when the
 * event loop has handed out all that was ready, the turn ends once: frames from peers are handled, `flushTurn`
 * writes what connections gathered, the rings are published. A turn that brought nothing from any peer lets the
 * thread sleep; otherwise the next follows at once, after a look at the sockets.
 */
export class TurnLoop {
  private readonly mesh: Mesh;
  private readonly flushTurn: () => void;
  private immediate: NodeJS.Immediate | undefined;
  private closed = false;

  constructor(mesh: Mesh, flushTurn: () => void) {
    this.mesh = mesh;
    this.flushTurn = flushTurn;
    mesh.onWake = this.schedule;
    this.schedule();
  }

  /** Has the turn end after the events at hand; as often as one likes. */
  readonly schedule = (): void => {
    if (this.immediate !== undefined || this.closed) return;
    this.mesh.wake();
    this.immediate = setImmediate(this.endTurn);
  };

  /** Stops turning; does not close the mesh. */
  close(): void {
    this.closed = true;
    clearImmediate(this.immediate);
    this.immediate = undefined;
  }

  private readonly endTurn = (): void => {
    this.immediate = undefined;
    const frames = this.mesh.poll();
    this.flushTurn();
    this.mesh.flush();
    if (frames > 0 || this.mesh.more || !this.mesh.sleep()) this.schedule();
  };
}
