import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Board, type Publication } from '../../src/kv/balance/board.js';
import { encodeSteering, RULES_KEY, type Steering } from '../../src/kv/balance/rules-entry.js';
import { RulesKeeper } from '../../src/node/kv-rules.js';
import { QUIET_LOG } from '../kv/replicated/cluster.js';

const FIVE: Steering = { changes: { voters: 5 }, stopped: [], atMs: 100 };

let directory: string;
let keepers: RulesKeeper[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-rules-'));
  keepers = [];
});
afterEach(() => {
  for (const keeper of keepers) keeper.close();
  rmSync(directory, { recursive: true });
});

/** A process on that directory, with a map of its own. */
function begin(warnings: string[] = []) {
  const board = new Board({ wallMs: () => 1, monotonicMs: () => 1 });
  const told: Publication[] = [];
  const publish = (changes: readonly Publication[]) => {
    told.push(...changes);
    for (const { key, bytes } of changes) board.hear(key, bytes);
  };
  const log = { ...QUIET_LOG, warn: (_: object, words: string) => void warnings.push(words) };
  const keeper = new RulesKeeper(directory, { board, publish }, log, () => true);
  keepers.push(keeper);
  return { board, told, keeper };
}

describe('rules', () => {
  it('outlive all nodes, and are told the map that does not know them', () => {
    const first = begin();
    first.board.hear(RULES_KEY, encodeSteering(FIVE));
    first.keeper.look();
    expect(first.told).toEqual([]);
    const second = begin();
    expect(second.board.steering).toEqual(FIVE);
    second.keeper.look();
    second.keeper.look();
    expect(second.told).toEqual([{ key: RULES_KEY, bytes: encodeSteering(FIVE) }]);
  });

  it('that were changed while a node was away are the ones that it keeps', () => {
    const first = begin();
    first.board.hear(RULES_KEY, encodeSteering(FIVE));
    first.keeper.look();
    const second = begin();
    const later = { changes: {}, stopped: ['merge'], atMs: 200 };
    second.board.hear(RULES_KEY, encodeSteering(later));
    second.keeper.look();
    expect(second.told).toEqual([]);
    expect(begin().board.steering).toEqual(later);
  });

  it('are told again when somebody tells older ones', () => {
    const { board, told, keeper } = begin();
    board.hear(RULES_KEY, encodeSteering(FIVE));
    board.hear(RULES_KEY, encodeSteering({ ...FIVE, atMs: 50, changes: {} }));
    keeper.look();
    expect(told).toEqual([{ key: RULES_KEY, bytes: encodeSteering(FIVE) }]);
  });

  it('that cannot be read are left alone, and told of', () => {
    const warnings: string[] = [];
    writeFileSync(join(directory, 'kv-rules.json'), '{"version":2}');
    const { board, keeper } = begin(warnings);
    keeper.look();
    expect([board.steering.atMs, warnings.length]).toEqual([0, 1]);
    expect(readFileSync(join(directory, 'kv-rules.json'), 'utf8')).toBe('{"version":2}');
    expect(readdirSync(directory)).toEqual(['kv-rules.json']);
  });
});
