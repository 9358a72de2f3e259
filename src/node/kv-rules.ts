import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import type { Board, Publication } from '../kv/balance/board.js';
import { decodeSteering, encodeSteering, NO_STEERING, RULES_KEY } from '../kv/balance/rules-entry.js';

/** Where the rules of a cluster are heard and told. */
export interface RulesSource {
  readonly board: Board;
  publish(changes: readonly Publication[]): void;
}

const FILE = 'kv-rules.json';
const LOOK_MS = 1_000;

/**
 * Keeps what operators have changed of the rules beside the node's data, since the shared map is nobody's when all nodes
 * have stopped; and tells the map again when it does not know it. A file that cannot be written is told in the log: the
 * rules are in effect, but may be forgotten.
 */
export class RulesKeeper implements Closable {
  private readonly file: string;
  private readonly kv: RulesSource;
  private readonly log: Log;
  private kept = NO_STEERING;
  private readonly timer: NodeJS.Timeout;

  /** `isTold`: whether there is a map to be told, or none to come. */
  constructor(dataDir: string, kv: RulesSource, log: Log, isTold: () => boolean) {
    this.file = join(dataDir, FILE);
    this.kv = kv;
    this.log = log;
    this.read();
    this.timer = setInterval(() => {
      if (isTold()) this.look();
    }, LOOK_MS);
  }

  private read(): void {
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(this.file);
    } catch {
      return;
    }
    const steering = decodeSteering(bytes);
    if (steering === undefined)
      this.log.warn({ file: this.file }, 'these are no rules that this version knows; they are left alone');
    else if (this.kv.board.recall(steering)) this.kept = steering;
  }

  look(): void {
    const { board } = this.kv;
    if (board.steering.atMs > this.kept.atMs) this.write();
    if (board.isSteeringLost) this.kv.publish([{ key: RULES_KEY, bytes: encodeSteering(board.steering) }]);
  }

  private write(): void {
    const { steering } = this.kv.board;
    this.kept = steering;
    try {
      writeFileSync(`${this.file}.new`, encodeSteering(steering));
      renameSync(`${this.file}.new`, this.file);
    } catch (error) {
      this.log.error({ file: this.file, err: error }, 'the rules of the replicated storage cannot be kept');
    }
  }

  close(): void {
    clearInterval(this.timer);
  }
}
