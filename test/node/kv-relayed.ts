import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import type { Env } from '../../src/base/env.js';
import { OP } from '../../src/contract/contract.js';
import { KvRelay, LONE_STANDING } from '../../src/node/kv-relay.js';
import { type Node, World } from '../rpc/world.js';

/** What main has sent a store thread, by op and number of the call. */
export interface Sent {
  readonly op: number;
  readonly callId: number;
  readonly body: Buffer;
}

/** A node's relay, and its store threads as far as main can tell. */
export class Relayed {
  readonly relay: KvRelay;
  readonly node: Node | undefined;
  readonly sent = new Map<number, Sent[]>();
  readonly congested = new Set<number>();
  depthBytes = 0;

  constructor(world: World, isClustered = true) {
    const env: Env = { ...silentEnv, random: world.random };
    const wire = {
      send: (peer: number, bytes: Uint8Array, start: number, end: number) => {
        const body = Buffer.from(bytes.subarray(start + 5, end));
        const callId = Buffer.from(bytes).readUInt32LE(start + 1);
        this.at(peer).push({ op: bytes[start]!, callId, body });
      },
      congested: (peer: number) => this.congested.has(peer),
      depthBytes: () => this.depthBytes,
    };
    this.relay = new KvRelay(env, wire, isClustered ? undefined : LONE_STANDING);
    opened.push(this.relay);
    if (!isClustered) return;
    this.node = world.addNode();
    const { rpc } = this.node;
    const tell = rpc.onAgentOutputs.bind(rpc);
    rpc.onAgentOutputs = outputs => {
      tell(outputs);
      for (const output of outputs) this.relay.onAgentOutput(output);
    };
    this.relay.join({ rpc, overlay: world.landscape.hostOf(this.node), overlayUsed: ignore });
  }

  at(peer: number): Sent[] {
    let sent = this.sent.get(peer);
    if (sent === undefined) this.sent.set(peer, (sent = []));
    return sent;
  }

  /** Takes what was sent under one op. */
  take(peer: number, op: number): Sent[] {
    const all = this.at(peer);
    this.sent.set(
      peer,
      all.filter(sent => sent.op !== op),
    );
    return all.filter(sent => sent.op === op);
  }

  /** A frame of a store thread. */
  say(peer: number, op: number, fill: (writer: ByteWriter) => void, callId = 0): void {
    const writer = new ByteWriter(16).u8(op).u32(callId);
    fill(writer);
    this.relay.onFrame(peer, writer.bytes, 0, writer.length);
  }

  open(peer: number, store: number): void {
    this.say(peer, OP.KV_OPEN, writer => writer.f64(store).u8(0));
  }

  publish(peer: number, entries: Readonly<Record<string, string | undefined>>): void {
    this.say(peer, OP.KV_PUBLISH, writer => {
      const all = Object.entries(entries);
      writer.u32(all.length);
      for (const [key, value] of all)
        writer
          .text(key)
          .u8(value === undefined ? 0 : 1)
          .blob(Buffer.from(value ?? ''));
    });
  }

  /** What a thread has heard of the map, in order. */
  heard(peer: number): string[] {
    return this.take(peer, OP.KV_HEARD).flatMap(({ body }) => {
      const reader = new ByteReader(body);
      return Array.from({ length: reader.u32() }, () => {
        const key = reader.text();
        const isThere = reader.u8() === 1;
        const value = Buffer.from(reader.blob()).toString();
        return isThere ? `${key}=${value}` : `${key} is gone`;
      });
    });
  }

  drain(peer: number): void {
    this.congested.delete(peer);
    this.relay.drained(peer);
  }
}

const ignore = () => undefined;
export const silentEnv = {
  clock: { monotonicMs: () => performance.now(), wallMs: () => Date.now() },
  log: { debug: ignore, info: ignore, warn: ignore, error: ignore },
};
const opened: KvRelay[] = [];

/** After each test. */
export function closeRelays(): void {
  for (const relay of opened.splice(0)) relay.close();
}

/** Mesh indices. */
export const APPLY = 3;
export const MATCH = 2;

/** Two nodes with a store each, 11 and 22. */
export function two(): { world: World; one: Relayed; other: Relayed } {
  const world = new World(7);
  const one = new Relayed(world);
  const other = new Relayed(world);
  one.open(APPLY, 11);
  other.open(APPLY, 22);
  world.run(500);
  return { world, one, other };
}
