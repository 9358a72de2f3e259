import { describe, expect, it } from 'vitest';
import { judgeRpc, type RpcMeasurement, rpcText } from '../../perf/rpc.js';
import { RPC_ROWS, type RpcLoad, type RpcTarget } from '../../perf/rpc-scenarios.js';

function measured(row: RpcLoad, target: RpcTarget, perSecond: number): RpcMeasurement {
  return { kind: 'measured', row, target, perSecond, cpuUsPerCall: 1 };
}

function verdicts(all: readonly RpcMeasurement[]): Record<string, string> {
  return Object.fromEntries(judgeRpc(RPC_ROWS, all).map(({ row, verdict }) => [row.name, verdict]));
}

describe('the judgement of calls', () => {
  it('compares medians, with plain unary calls or with a number', () => {
    const all = [
      ...[70, 80, 2_000].map(value => measured('unary', 'ours', value)),
      ...[1, 100, 100].map(value => measured('unary', 'plain', value)),
      measured('pipelined', 'ours', 799),
      measured('in-process', 'ours', 1_000_000),
    ];
    expect(verdicts(all)).toEqual({
      unary: 'met',
      pipelined: 'missed',
      'in-process': 'met',
      'chunks-up': 'open',
      'chunks-down': 'open',
    });
  });

  it('counts a run of ours that failed as missed, and says why', () => {
    const failure: RpcMeasurement = { kind: 'failed', row: 'chunks-up', target: 'ours', reason: 'gone' };
    const all = [measured('chunks-up', 'ours', 900), failure];
    expect(verdicts(all)['chunks-up']).toBe('missed');
    const machine = { cpu: 'c', cores: 2, memoryGib: 1, kernel: 'k', system: 's', node: 'v', loadAtStart: 0 };
    const setting = { machine, date: '2026-01-01', rounds: 1, seconds: 1, warmup: 1 };
    expect(rpcText(setting, judgeRpc(RPC_ROWS, all))).toContain('chunks-up: ours: gone');
  });
});
