import { describe, expect, it } from 'vitest';
import { alignedTable, findingsText, membersText } from '../../src/node/cluster-table.js';
import { LOAD, member, NOW_MS, report } from './cluster-rows.js';

describe('alignedTable', () => {
  it('lines up, numbers at their end', () => {
    const rows = [
      ['NAME', 'N'],
      ['a', '1'],
      ['longer', '100'],
    ];
    expect(alignedTable(rows, new Set([1])).split('\n')).toEqual([
      'NAME      N',
      'a         1',
      'longer  100',
    ]);
  });

  it('shortens what is endless and shows nothing that steers a terminal', () => {
    const [, line] = alignedTable(
      [
        ['A', 'B'],
        [`x\u001b[31m\n${'y'.repeat(300)}`, 'z'],
      ],
      new Set(),
    ).split('\n');
    expect(line).toBe(`x?[31m?${'y'.repeat(40)}…  z`);
  });
});

describe('membersText', () => {
  const HEADER = 'NAME,ADDRESS,STATE,INCARNATION,HEALTH,LOAD,CLIENTS,DELAY,ROUND TRIP,SINCE'.split(',');
  const columns = (line: string) => line.slice(3).split(/ {2,}/);

  it('shows all that is known of each, and marks the asked node', () => {
    const others = [
      member('node-b', { roundTripMs: 0.4567, incarnation: 12, health: 3, load: LOAD }),
      member('c', { state: 'suspect', oneWay: true, roundTripMs: null }),
    ];
    const lost = [{ id: 5, name: 'd', address: '10.0.0.100:4800', sinceMs: NOW_MS }];
    const lines = membersText(report(others, { lost })).split('\n');
    expect(columns(lines[0]!)).toEqual(HEADER);
    expect(lines[1]).toMatch(
      /^\* {2}a {7}10\.0\.0\.97:4800 +alive +0 +0 +- +- +- +- {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/,
    );
    expect(columns(lines[2]!).slice(0, 9)).toEqual([
      'node-b',
      '10.0.0.110:4800',
      'alive',
      '12',
      '3',
      '38 %',
      '1200',
      '7 ms',
      '0.5 ms',
    ]);
    expect(columns(lines[3]!).slice(0, 6)).toEqual([
      'c',
      '10.0.0.99:4800',
      'suspect, one-way',
      '0',
      '-',
      '-',
    ]);
    expect(lines[1]!.indexOf('-  20')).toBe(lines[4]!.indexOf('-  20'));
    expect(columns(lines[4]!).slice(0, 3)).toEqual(['d', '10.0.0.100:4800', 'lost']);
    expect(lines[5]).toBe('3 hosts in default, 1 lost and looked for; * is a, which was asked.');
    expect(new Set(lines.slice(1, 5).map(line => line.search(/\d{4}-\d\d-\d\d/))).size).toBe(1);
  });

  it('says when the asked node is alone', () => {
    expect(membersText(report([], { standing: 'left' }))).toMatch(/^1 host in default; .*\n.*has left/m);
    expect(membersText(report([], { standing: 'evicted' }))).toContain('was evicted');
  });
});

describe('findingsText', () => {
  it('is a paragraph for each, in lines that fit a terminal', () => {
    const what = 'Something that takes many words to be told in full '.repeat(4).trim();
    const text = findingsText('a', [
      { severity: 'wrong', what, remedy: 'Mend it.' },
      { severity: 'note', what: 'A thing.', remedy: 'Leave it.' },
    ]);
    expect(text.split('\n\n')).toHaveLength(2);
    expect(text).toMatch(/^✗ Something[\s\S]*\n {2}\S[\s\S]*\n→ Mend it\.\n\n· A thing\.\n→ Leave it\.$/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(90);
  });

  it('says so when nothing is wrong', () => {
    expect(findingsText('a', [])).toContain('Nothing looks wrong from a');
  });
});
