import { beforeEach, describe, expect, it } from 'vitest';
import { Board } from '../../src/kv/balance/board.js';
import { DEFAULT_RULES } from '../../src/kv/balance/rules.js';
import type { Answer, Routes } from '../../src/node/admin-server.js';
import { type BalancersReport, type KvSource, kvRoutes } from '../../src/node/kv-routes.js';
import type { RangesReport, StoresReport } from '../../src/node/kv-view.js';
import { rpcFailure } from '../../src/rpc/failure.js';
import { Stewards } from '../kv/balance/stewards.js';

const RANGE = 40;

/** Real stores and their stewards, as main of some node sees them: whatever is ordered, time passes then. */
class Operated implements KvSource {
  readonly world = new Stewards(4);
  readonly board: Board;
  readonly access = undefined;
  readonly begunServices = new Set<number>();
  /** Stores that do not answer. */
  readonly mute = new Set<number>();
  steered = 0;
  /** What each order is followed by. */
  afterwards = () => this.pass();

  constructor() {
    const { world } = this;
    this.board = new Board(world.cluster.env.clock);
    for (const [key, bytes] of world.map) this.board.hear(key, bytes);
    world.listeners.push((key, bytes) => this.board.hear(key, bytes));
    world.cluster.found(RANGE, '', '\x7f', world.cluster.hosts.slice(0, 3));
    this.pass();
  }

  get ownStores(): readonly number[] {
    return [this.world.idOf(0)];
  }

  pass(): void {
    for (let i = 0; i < 40; i++) {
      this.world.cluster.run(100);
      this.look();
    }
  }

  look(): void {
    const { world, board } = this;
    world.look();
    board.hostsAre(
      new Set(world.stewards.flatMap((_, index) => (world.lost.has(index) ? [] : [100 + index]))),
    );
  }

  async steer(store: number, order: Uint8Array) {
    this.steered++;
    if (this.mute.has(store)) return rpcFailure('unavailable', 'no answer');
    const index = this.world.cluster.hosts.findIndex(host => host.store.id === store);
    const value = this.world.stewards[index]!.order(order);
    this.afterwards();
    return { kind: 'ok', value } as const;
  }

  publish(changes: Parameters<KvSource['publish']>[0]): void {
    for (const { key, bytes } of changes) this.world.put(key, bytes);
  }
}

let kv: Operated;
let routes: Routes;
let nowMs: number;

beforeEach(() => {
  kv = new Operated();
  nowMs = 0;
  // Whoever waits for something to be seen looks at the clock each time.
  routes = kvRoutes(kv, { monotonicMs: () => (nowMs += 1_000), wallMs: () => 5 });
});

async function ask(route: string, body?: object): Promise<Answer> {
  return await routes.get(route)!(body);
}

async function refusal(route: string, body: object): Promise<readonly [number, string]> {
  const { status, body: answer } = await ask(route, body);
  return [status, (answer as { error: string }).error];
}

async function ranges(): Promise<RangesReport['ranges']> {
  return ((await ask('GET /kv/ranges')).body as RangesReport).ranges;
}

const range = RANGE.toString(36);

describe('orders', () => {
  it('are given to the leader, and are done when the landscape shows it', async () => {
    const [row] = await ranges();
    const heir = row!.members.find(({ name }) => name !== row!.leader!.name)!;
    expect(await ask('POST /kv/transfer', { range, to: heir.name })).toEqual({
      status: 200,
      body: { state: 'done' },
    });
    expect((await ranges())[0]!.leader).toEqual({ id: heir.id, name: heir.name });
    expect(await ask('POST /kv/split', { range, key: 'm' })).toMatchObject({ body: { state: 'done' } });
    expect((await ranges()).map(({ from, to }) => [from, to])).toEqual([
      ['', 'm'],
      ['m', '0x7f'],
    ]);
    const gone = (await ranges())[0]!.members.find(({ name }) => name !== heir.name)!.name;
    const move = { range, from: gone, to: 'apply-0@d' };
    expect(await ask('POST /kv/move', move)).toMatchObject({ body: { state: 'done' } });
    expect((await ranges())[0]!.members.map(({ name }) => name)).toContain('apply-0@d');
    expect(await refusal('POST /kv/merge', { range })).toEqual([
      409,
      expect.stringContaining('has other stores'),
    ]);
  });

  it('are only begun where nothing is seen of them', async () => {
    const [row] = await ranges();
    const heir = row!.members.find(({ name }) => name !== row!.leader!.name)!;
    kv.afterwards = () => undefined;
    expect(await ask('POST /kv/transfer', { range, to: heir.id })).toMatchObject({
      body: { state: 'begun' },
    });
  });

  it('have the balancers of all stores stand back first', async () => {
    await ask('POST /kv/transfer', { range, to: (await ranges())[0]!.members[0]!.name });
    const { balancers } = (await ask('GET /kv/balancers')).body as BalancersReport;
    const resting = balancers.filter(row => row.resting.length === 4).map(({ name }) => name);
    expect(resting).toEqual(['split', 'merge', 'leader-spread', 'placement']);
  });

  it('say what is wrong with them', async () => {
    expect(await refusal('POST /kv/transfer', {})).toEqual([
      400,
      expect.stringContaining('{"range": TEXT, "to": STORE}'),
    ]);
    expect(await refusal('POST /kv/transfer', { range })).toEqual([400, expect.any(String)]);
    expect(await refusal('POST /kv/merge', { range: 7 })).toEqual([400, expect.any(String)]);
    expect(await refusal('POST /kv/merge', { range: 'zz' })).toEqual([
      404,
      expect.stringContaining('no range zz'),
    ]);
    expect(await refusal('POST /kv/transfer', { range, to: 'x\u001b' })).toEqual([
      404,
      expect.stringContaining('no store is called x?'),
    ]);
    expect(await refusal('POST /kv/split', { range, key: '' })).toEqual([400, expect.any(String)]);
    expect(await refusal('POST /kv/split', { range, key: 'k'.repeat(4096) })).toEqual([
      400,
      expect.stringContaining('4096 bytes'),
    ]);
    expect(await refusal('POST /kv/split', { range })).toEqual([409, expect.stringContaining('too little')]);
    expect(await refusal('POST /kv/recover', { range, store: 'apply-0@a', forced: 'yes' })).toEqual([
      400,
      expect.any(String),
    ]);
    expect(await refusal('POST /kv/recover', { range, store: 'apply-0@a' })).toEqual([
      409,
      expect.stringContaining('nothing is to be recovered'),
    ]);
  });

  it('find nobody while a range has no leader, and recover it at the one that is named', async () => {
    for (const index of [1, 2, 3]) kv.world.lose(index);
    kv.pass();
    expect(await refusal('POST /kv/merge', { range })).toEqual([
      409,
      expect.stringContaining('has no leader now'),
    ]);
    expect(await refusal('POST /kv/recover', { range, store: 'apply-0@b' })).toEqual([
      409,
      expect.stringContaining('is lost'),
    ]);
    expect(await ask('POST /kv/recover', { range, store: 'apply-0@a' })).toMatchObject({
      body: { state: 'done' },
    });
    expect((await ranges())[0]).toMatchObject({ state: 'well', members: [{ name: 'apply-0@a' }] });
  });

  it('that nobody answers are told so', async () => {
    const leader = kv.world.idOf(kv.world.leader(RANGE));
    kv.mute.add(leader);
    expect(await refusal('POST /kv/merge', { range })).toEqual([
      504,
      expect.stringContaining('did not answer (unavailable)'),
    ]);
    const { silent } = (await ask('GET /kv/balancers')).body as BalancersReport;
    expect(silent).toEqual([expect.stringMatching(/^apply-0@[abc]$/)]);
  });
});

describe('a store that is gone', () => {
  it('is forgotten, if it is lost', async () => {
    expect(await refusal('POST /kv/forget', {})).toEqual([400, expect.any(String)]);
    expect(await refusal('POST /kv/forget', { store: 'apply-0@d' })).toEqual([
      409,
      expect.stringContaining('lives'),
    ]);
    kv.world.lose(3);
    kv.look();
    expect(await ask('POST /kv/forget', { store: 'apply-0@d' })).toMatchObject({
      status: 200,
      body: { forgotten: { name: 'apply-0@d' } },
    });
    const { stores } = (await ask('GET /kv/stores')).body as StoresReport;
    expect(stores.map(({ name, isOwn }) => [name, isOwn])).toEqual([
      ['apply-0@a', true],
      ['apply-0@b', false],
      ['apply-0@c', false],
    ]);
  });
});

describe('balancers and rules', () => {
  it('are stopped and started on all nodes, by name', async () => {
    expect(await refusal('POST /kv/balancers', { name: 'merge' })).toEqual([400, expect.any(String)]);
    expect(await refusal('POST /kv/balancers', { name: 'marge', running: false })).toEqual([
      404,
      expect.stringContaining('there are bootstrap, '),
    ]);
    const stopped = () => kv.world.stewards.map(({ board }) => board.steering.stopped.join());
    await ask('POST /kv/balancers', { name: 'split', running: false });
    await ask('POST /kv/balancers', { name: 'merge', running: false });
    await ask('POST /kv/balancers', { name: 'merge', running: false });
    expect(stopped()).toEqual(Array(4).fill('merge,split'));
    const { balancers } = (await ask('GET /kv/balancers')).body as BalancersReport;
    expect(balancers.filter(({ running }) => !running).map(({ name }) => name)).toEqual(['split', 'merge']);
    await ask('POST /kv/balancers', { name: 'split', running: true });
    await ask('POST /kv/balancers', { name: 'merge', running: true });
    expect(kv.board.steering).toMatchObject({ changes: {}, stopped: [] });
  });

  it('are changed together or not at all, and told by what differs', async () => {
    expect(await refusal('POST /kv/rules', { set: { voters: 4 } })).toEqual([
      400,
      expect.stringContaining('odd number'),
    ]);
    expect(await refusal('POST /kv/rules', { set: { voters: 5, speed: 1 } })).toEqual([
      400,
      expect.stringContaining('no rule is called speed'),
    ]);
    expect(await refusal('POST /kv/rules', { unset: ['speed'] })).toEqual([
      404,
      expect.stringContaining('there are voters, '),
    ]);
    expect(await refusal('POST /kv/rules', { set: [1] })).toEqual([400, expect.any(String)]);
    await ask('POST /kv/rules', { set: { voters: 5, settleMs: 5000, learners: DEFAULT_RULES.learners } });
    expect(kv.board.steering.changes).toEqual({ voters: 5, settleMs: 5000 });
    await ask('POST /kv/rules', { unset: ['settleMs'], set: { deadAfterMs: 9000 } });
    expect(kv.world.stewards[3]!.board.steering.changes).toEqual({ voters: 5, deadAfterMs: 9000 });
    const { rules } = (await ask('GET /kv/rules')).body as {
      rules: { name: string; value: number; initial: number }[];
    };
    expect(rules[0]).toEqual({ name: 'voters', value: 5, initial: 3 });
    await ask('POST /kv/rules', { unset: ['voters', 'deadAfterMs'] });
    expect(kv.board.steering).toMatchObject({ changes: {}, stopped: [] });
  });
});

describe('the map of a node without a cluster', () => {
  it('is refused, and says what it wants', async () => {
    for (const word of ['get', 'put', 'delete', 'list'])
      expect(await refusal(`POST /kv/map/${word}`, { key: 'a' })).toEqual([
        409,
        expect.stringContaining('cluster.seeds'),
      ]);
  });
});
