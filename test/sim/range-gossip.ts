import type { Random } from '../../src/base/env.js';
import type { AttemptAnswer } from '../../src/kv/remote/attempt-codec.js';
import type { Attempt } from '../../src/kv/route/client.js';
import type { SimNode } from './node.js';
import type { SeededRandom } from './random.js';

/** One key of the shared map, or a host's heartbeat: the higher version counts. */
export interface GossipEntry {
  readonly key: string;
  readonly version: number;
  readonly bytes: Uint8Array | undefined;
}

/** What goes between the processes of this world. */
export type Parcel =
  | { readonly kind: 'frame'; readonly from: number; readonly bytes: Uint8Array }
  | { readonly kind: 'gossip'; readonly entries: readonly GossipEntry[] }
  /** `hasCome`: by a stream it comes once, also where the network doubles packets. */
  | { readonly kind: 'attempt'; readonly attempt: Attempt; readonly client: SimNode; hasCome: boolean }
  | { readonly kind: 'answer'; readonly store: number; readonly answer: AttemptAnswer };

const HEART = 'heart/';
/** A host that was not heard of for this long is taken out of the view. */
const HOST_LOST_MS = 6000;

/**
 * What the overlay's shared map and the underlay's view are to a store, made as simply as can be: everybody tells
 * everything to somebody now and then. A key is written by one process only, so a counter is version enough.
 */
export class Gossip {
  /** The underlay's id of this process. */
  readonly host: number;
  readonly #entries = new Map<string, GossipEntry>();
  readonly #heardMs = new Map<number, { beat: number; ms: number }>();
  readonly #life: number;
  #version: number;
  onEntry: (key: string, bytes: Uint8Array | undefined) => void = () => undefined;

  constructor(_random: Random | SeededRandom, life: number, index: number) {
    this.#life = life;
    this.host = index * 1000 + life;
    this.#version = this.#life * 1_000_000;
  }

  put(key: string, bytes: Uint8Array | undefined): void {
    this.#entries.set(key, { key, version: ++this.#version, bytes });
  }

  /** An entry that nobody owns: whoever writes it says which version that is. */
  write(key: string, bytes: Uint8Array, version: number): void {
    this.hear([{ key, version, bytes }]);
  }

  beat(): void {
    this.put(`${HEART}${this.host}`, undefined);
  }

  all(): readonly GossipEntry[] {
    return [...this.#entries.values()];
  }

  hear(entries: readonly GossipEntry[]): void {
    for (const entry of entries) {
      const known = this.#entries.get(entry.key);
      if (known !== undefined && known.version >= entry.version) continue;
      this.#entries.set(entry.key, entry);
      if (!entry.key.startsWith(HEART)) this.onEntry(entry.key, entry.bytes);
    }
  }

  /** Hosts whose heart was heard to beat lately, this one included. */
  hostsAlive(nowMs: number): ReadonlySet<number> {
    const alive = new Set<number>([this.host]);
    for (const { key, version } of this.#entries.values()) {
      if (!key.startsWith(HEART)) continue;
      const host = Number(key.slice(HEART.length));
      const heard = this.#heardMs.get(host);
      if (heard?.beat !== version) this.#heardMs.set(host, { beat: version, ms: nowMs });
      if (nowMs - this.#heardMs.get(host)!.ms < HOST_LOST_MS) alive.add(host);
    }
    return alive;
  }
}
