import { describe, expect, it } from 'vitest';
import type { Measurement } from '../../perf/measurement.js';
import { alignedTable, formatNumber, judgeAll, markdownReport } from '../../perf/report.js';
import { type Goal, ROWS, type Row, type TargetName } from '../../perf/scenarios.js';

const ratio: Goal = {
  metric: 'deliveriesPerSecond',
  label: 'deliveries/s',
  against: { kind: 'target', target: 'mosquitto' },
  bound: 'at-least',
  value: 10,
};

function row(name: string, ...goals: Goal[]): Row {
  return { name, title: name, load: [], transport: 'tcp', targets: ['shoalmq', 'mosquitto'], goals };
}

function measured(name: string, target: TargetName, perSecond: number, lost = 0): Measurement {
  const result = { deliveriesPerSecond: perSecond, latencyUs: { p99: perSecond }, accounts: { lost } };
  return { kind: 'measured', row: name, target, result };
}

describe('judgement', () => {
  it('compares medians with the target of the same row', () => {
    const runs = [90, 110, 100, 1].map(v => measured('a', 'shoalmq', v));
    const others = [9, 9.5, 40].map(v => measured('a', 'mosquitto', v));
    const [line] = judgeAll([row('a', ratio)], [...runs, ...others, measured('b', 'mosquitto', 1)]);
    expect(line!.medians).toEqual({ shoalmq: 95, mosquitto: 9.5, floor: Number.NaN });
    expect(line!.toMosquitto).toBe(10);
    expect(line!.toFloor).toBeNaN();
    expect(line!.verdict).toBe('met');
  });

  it('is missed below the bound, and open where one side is not measured', () => {
    const own = measured('a', 'shoalmq', 99);
    expect(judgeAll([row('a', ratio)], [own, measured('a', 'mosquitto', 10)])[0]!.verdict).toBe('missed');
    expect(judgeAll([row('a', ratio)], [own])[0]!.verdict).toBe('open');
  });

  it('is missed with a single lost message of ours, but not for those of others', () => {
    const runs = (own: number, other: number) => [
      measured('a', 'shoalmq', 500, own),
      measured('a', 'mosquitto', 10, other),
    ];
    expect(judgeAll([row('a', ratio)], runs(0, 7))[0]!.verdict).toBe('met');
    const [line] = judgeAll([row('a', ratio)], runs(1, 0));
    expect(line!.verdict).toBe('missed');
    expect(line!.faults).toBe(1);
  });

  it('knows an upper bound, another row and a plain number', () => {
    const atMost: Goal = { ...ratio, metric: 'latencyUs.p99', bound: 'at-most', value: 1.2 };
    const otherRow: Goal = { ...ratio, against: { kind: 'row', row: 'b' }, value: 1 };
    const plain: Goal = { ...ratio, against: { kind: 'number' }, value: 12 };
    const runs = [measured('a', 'shoalmq', 12), measured('a', 'mosquitto', 10), measured('b', 'shoalmq', 13)];
    const lines = judgeAll([row('a', atMost, otherRow, plain)], runs);
    expect(lines.map(line => line.verdict)).toEqual(['met', 'missed', 'met']);
    expect(lines.map(line => line.wanted)).toEqual(['≤ 1.2 × mosquitto', '≥ 1 × b', '≥ 12']);
  });

  it('says why a run failed', () => {
    const failed: Measurement = { kind: 'failed', row: 'a', target: 'shoalmq', reason: 'no start' };
    const [line] = judgeAll([row('a', ratio)], [failed, measured('a', 'mosquitto', 10)]);
    expect(line!.failures).toEqual(['shoalmq: no start']);
    expect(line!.verdict).toBe('open');
  });
});

describe('tables', () => {
  it('write numbers to three digits', () => {
    const shown = [0.12345, 12.345, 123.45, 1234.5, 5_400_000, Number.NaN].map(formatNumber);
    expect(shown).toEqual(['0.123', '12.3', '123', '1,235', '5,400,000', '-']);
  });

  it('align text to the left and figures to the right', () => {
    const table = alignedTable(
      ['name', 'n'],
      [0],
      [
        ['a', '100'],
        ['longer', '7'],
      ],
    );
    expect(table.split('\n')).toEqual(['name      n', '------  ---', 'a       100', 'longer    7']);
  });

  it('have a markdown twin that names the machine', () => {
    const machine = {
      cpu: 'X',
      cores: 2,
      memoryGib: 4,
      kernel: '6.1',
      system: 'Debian',
      node: 'v20',
      loadAtStart: 0.1,
    };
    const setting = { machine, versions: { floor: '1' }, rounds: 3, seconds: 4, warmupSeconds: 2, date: 'd' };
    const text = markdownReport(setting, judgeAll([row('a', ratio)], [measured('a', 'shoalmq', 99)]));
    expect(text).toContain('X, 2 cores, 4 GiB');
    const columns = text
      .split('\n')
      .filter(line => line.startsWith('|'))
      .map(line => line.split('|').length);
    expect(new Set(columns).size).toBe(1);
    expect(columns.length).toBe(3);
  });
});

describe('rows', () => {
  it('have names of their own, and goals that refer to rows and targets they have', () => {
    const names = ROWS.map(one => one.name);
    expect(new Set(names).size).toBe(names.length);
    for (const one of ROWS) {
      expect(one.goals.length).toBeGreaterThan(0);
      for (const { against } of one.goals) {
        if (against.kind === 'row') expect(names).toContain(against.row);
        if (against.kind === 'target') expect(one.targets).toContain(against.target);
      }
    }
  });
});
