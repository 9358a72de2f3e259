import { expect, it } from 'vitest';
import type { ReplicaId } from '../../../src/kv/raft/configuration.js';
import type { Message } from '../../../src/kv/raft/message.js';
import { Raft } from '../../../src/kv/raft/raft.js';
import { RAFT_LIMITS, RAFT_TIMING } from '../../../src/kv/raft/settings.js';
import { MemoryLog } from './stored-log.js';

it('elects, replicates, commits and comes back', () => {
  let nowMs = 0;
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  const env = {
    clock: { wallMs: () => 0, monotonicMs: () => nowMs },
    random: { u32: () => 0x8000_0000 },
    log: silent,
  };
  const configuration = { voters: [1, 2, 3], outgoing: [], learners: [] };
  const logs = new Map<ReplicaId, MemoryLog>();
  const rafts = new Map<ReplicaId, Raft>();
  const applied = new Map<ReplicaId, string[]>();
  for (const id of [1, 2, 3]) {
    const log = new MemoryLog(configuration);
    logs.set(id, log);
    rafts.set(id, new Raft({ id, log, timing: RAFT_TIMING, limits: RAFT_LIMITS, env }));
    applied.set(id, []);
  }
  const run = () => {
    const mail: Message[] = [];
    for (let i = 0; i < 100; i++) {
      for (const [id, raft] of rafts) {
        const ready = raft.ready();
        if (!ready) continue;
        const log = logs.get(id)!;
        mail.push(...ready.messages);
        log.write(ready.entries);
        if (ready.hardState) log.hardState = ready.hardState;
        mail.push(...ready.afterDurable);
        for (const entry of ready.committed) {
          if (entry.kind === 0) applied.get(id)!.push(Buffer.from(entry.data).toString());
          log.applied = entry.index;
        }
        raft.durable(ready.number);
        raft.applied(log.applied);
      }
      const batch = mail.splice(0);
      for (const message of batch) rafts.get(message.to)!.step(message);
    }
  };
  rafts.get(1)!.campaign();
  run();
  expect(rafts.get(1)!.isLeader).toBe(true);
  for (let i = 1; i <= 100; i++) rafts.get(i % 3 === 0 ? 2 : 1)!.propose(7, i, Buffer.from(`x${i}`));
  run();
  for (const id of [1, 2, 3]) expect(applied.get(id)).toHaveLength(100);
  expect(applied.get(2)).toEqual(applied.get(1));
  for (const id of [1, 2, 3])
    rafts.set(id, new Raft({ id, log: logs.get(id)!, timing: RAFT_TIMING, limits: RAFT_LIMITS, env }));
  nowMs = 5_000;
  rafts.get(3)!.tick();
  run();
  expect(rafts.get(3)!.isLeader).toBe(true);
  rafts.get(3)!.propose(7, 101, Buffer.from('last'));
  run();
  expect(applied.get(1)!.at(-1)).toBe('last');
});
