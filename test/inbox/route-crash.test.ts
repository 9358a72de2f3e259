import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { DATA, KIND } from '../../src/inbox/inbox-keys.js';
import { Session } from '../../src/inbox/session.js';
import { ordered53, SERVICE } from '../../src/kv/keys.js';
import { Broker, type HeldEngine } from '../mqtt/harness.js';
import type { TestClient } from '../mqtt/test-client.js';

/** `client filter options id`, of all subscriptions that persistent sessions have. */
function subscriptions({ inner }: HeldEngine): string[] {
  const clients = new Map<string, string>();
  const out: string[] = [];
  inner.scan(Uint8Array.of(SERVICE.INBOX), Uint8Array.of(SERVICE.INBOX + 1), (key, value) => {
    const kindAt = key.indexOf(0) + 1;
    if (key[kindAt] !== KIND.SESSION) return true;
    const clientId = Buffer.from(key.subarray(kindAt + 1)).toString();
    const { instance } = new Session('', clientId).read(new ByteReader(Buffer.from(value)));
    clients.set(ordered53(new ByteWriter(), instance).view().toString('hex'), clientId);
    return true;
  });
  inner.scan(Uint8Array.of(SERVICE.INBOX), Uint8Array.of(SERVICE.INBOX + 1), (key, value) => {
    const at = key.indexOf(0) + 2;
    if (key[at - 1] !== KIND.DATA || key[at + 7] !== DATA.FILTER) return true;
    const clientId = clients.get(Buffer.from(key.subarray(at, at + 7)).toString('hex'));
    const filter = Buffer.from(key.subarray(at + 8)).toString();
    if (clientId !== undefined) out.push(`${clientId} ${filter} ${value[0]} ${value[1]}`);
    return true;
  });
  return out.sort();
}

/** The same of all routes that lead to persistent sessions. */
function routes({ inner }: HeldEngine): string[] {
  const out: string[] = [];
  inner.scan(Uint8Array.of(SERVICE.DIST), Uint8Array.of(SERVICE.DIST + 1), (key, value) => {
    const bytes = Buffer.from(key);
    const filterAt = bytes.indexOf(0) + 2;
    const groupAt = bytes.indexOf(0, filterAt) + 1;
    const orderedAt = bytes.indexOf(0, groupAt) + 1;
    if (bytes[orderedAt + 1] !== 2) return true;
    const filter = bytes.toString('utf8', filterAt, groupAt - 1);
    const group = bytes.toString('utf8', groupAt, orderedAt - 1);
    const text = group === '' ? filter : `$share/${group}/${filter}`;
    out.push(`${bytes.toString('utf8', orderedAt + 2)} ${text} ${value[0]} ${value[1]}`);
    return true;
  });
  return out.sort();
}

const settled = ({ applyEngine, matchEngine }: Broker) =>
  expect(routes(matchEngine)).toEqual(subscriptions(applyEngine));

const FILTERS = ['a', 'b/+', '$share/g/a'];
const SHARDS = 2;
const OPTIONS = { shards: SHARDS, pollFramesMax: 1, ringBytes: 1 << 16 };

type Step =
  | { kind: 'connect'; client: number; shard: number; clean: boolean; expiry: number }
  | { kind: 'subscribe'; client: number; filter: number; qos: 1 | 2; id: number }
  | { kind: 'unsubscribe'; client: number; filter: number }
  | { kind: 'leave'; client: number; how: 'cut' | 'ends' | 'stays' }
  | { kind: 'turns'; peers: number[] }
  | { kind: 'time' }
  | { kind: 'crash'; thread: number };

const client = fc.nat(1);
const filter = fc.nat(FILTERS.length - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('connect' as const),
    client,
    shard: fc.nat(SHARDS - 1),
    clean: fc.boolean(),
    expiry: fc.constantFrom(0, 2, 1000, 1000),
  }),
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('subscribe' as const),
      client,
      filter,
      qos: fc.constantFrom(1 as const, 2 as const),
      id: fc.nat(1),
    }),
  },
  fc.record({ kind: fc.constant('unsubscribe' as const), client, filter }),
  fc.record({
    kind: fc.constant('leave' as const),
    client,
    how: fc.constantFrom('cut' as const, 'ends' as const, 'stays' as const),
  }),
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('turns' as const),
      peers: fc.array(fc.nat(SHARDS + 2), { minLength: 1, maxLength: 12 }),
    }),
  },
  fc.record({ kind: fc.constant('time' as const) }),
  fc.record({ kind: fc.constant('crash' as const), thread: fc.nat(SHARDS + 3) }),
);

/** Clients that come, subscribe and go while threads and the process die. */
class World {
  broker = new Broker(OPTIONS);
  private readonly clients: (TestClient | undefined)[] = [undefined, undefined];

  run(action: Step): void {
    const { broker, clients } = this;
    if (action.kind === 'turns') for (const peer of action.peers) broker.turn(peer);
    else if (action.kind === 'time') broker.advance(1500);
    else if (action.kind === 'crash') this.crash(action.thread);
    else if (action.kind === 'connect') {
      const { client, shard, clean, expiry } = action;
      clients[client] = broker.socket(shard);
      clients[client].sendConnect({ clientId: `c${client}`, clean, expiry });
    } else {
      const alive = clients[action.client];
      if (alive === undefined || alive.closed) return;
      if (action.kind === 'leave') this.leave(alive, action.how);
      else if (action.kind === 'unsubscribe') alive.sendUnsubscribe(FILTERS[action.filter]!);
      else
        alive.sendSubscribe(FILTERS[action.filter]!, {
          qos: action.qos,
          ...(action.id === 0 ? {} : { id: action.id }),
        });
    }
  }

  private leave(alive: TestClient, how: 'cut' | 'ends' | 'stays'): void {
    if (how === 'cut') alive.peer.cut();
    else
      alive.send({
        cmd: 'disconnect',
        ...(how === 'ends' ? { properties: { sessionExpiryInterval: 0 } } : {}),
      });
  }

  /** A thread dies and is replaced; above all threads, the process. */
  private crash(thread: number): void {
    const { broker } = this;
    if (thread > 0 && thread <= broker.applyPeer) {
      broker.kill(thread);
      broker.replace(thread);
      for (const peer of broker.open) if (thread === peer.shard + 1) peer.peer.closed = true;
      return;
    }
    this.broker = broker.crashed();
    this.clients.fill(undefined);
  }

  /** Time for what was left undone; then all is as it should be. */
  check(): void {
    this.broker.advance(3000);
    settled(this.broker);
    expect(this.broker.errors).toEqual([]);
  }
}

describe('the routes of persistent sessions', () => {
  const KEEP = { clientId: 'c0', expiry: 1000, clean: false } as const;

  /** Crashes the process before each single turn that `act` causes, and looks at what is made of it. */
  function crashAnywhere(
    prepare: (broker: Broker) => TestClient | undefined,
    act: (broker: Broker, client: TestClient | undefined) => void,
  ): void {
    for (let turns = 0, done = false; !done; turns++) {
      const broker = new Broker(OPTIONS);
      const client = prepare(broker);
      broker.pump();
      act(broker, client);
      for (let i = 0; i < turns; i++) broker.turn(broker.peers[i % broker.peers.length]!);
      done = turns === 120;
      const successor = broker.crashed();
      successor.advance(3000);
      expect(routes(successor.matchEngine), `after ${turns} turns`).toEqual(
        subscriptions(successor.applyEngine),
      );
    }
  }

  const subscribed = (broker: Broker) => {
    const client = broker.connect(KEEP);
    client.subscribe(FILTERS, { qos: 1 });
    return client;
  };

  it('are its subscriptions after a crash in a SUBSCRIBE', () => {
    crashAnywhere(
      broker => broker.connect(KEEP),
      (_, client) => client!.sendSubscribe(FILTERS, { qos: 1 }),
    );
  });

  it('are its subscriptions after a crash in a SUBSCRIBE that changes options', () => {
    crashAnywhere(subscribed, (_, client) => client!.sendSubscribe(FILTERS, { qos: 2, id: 3 }));
  });

  it('are its subscriptions after a crash in an UNSUBSCRIBE', () => {
    crashAnywhere(subscribed, (_, client) => client!.sendUnsubscribe(...FILTERS));
  });

  it('are gone after a crash while the session ends by DISCONNECT', () => {
    crashAnywhere(subscribed, (_, client) =>
      client!.send({ cmd: 'disconnect', properties: { sessionExpiryInterval: 0 } }),
    );
  });

  it('are gone after a crash in a clean start', () => {
    crashAnywhere(subscribed, broker => broker.socket(1).sendConnect({ ...KEEP, clean: true }));
  });

  it('are gone after a crash while it expires', () => {
    crashAnywhere(
      broker => {
        const client = broker.connect({ ...KEEP, expiry: 5 });
        client.subscribe(FILTERS, { qos: 1 });
        client.cut();
        broker.wallMs += 6000;
        return client;
      },
      broker => broker.apply.tick(broker.wallMs),
    );
  });

  it('are its subscriptions in the end, whatever dies when', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const world = new World();
        for (const action of steps) world.run(action);
        world.check();
        world.run({ kind: 'crash', thread: 0 });
        world.check();
      }),
      { numRuns: 400 },
    );
  });
});
