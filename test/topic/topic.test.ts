import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  checkTopicFilter,
  checkTopicName,
  isLimitFault,
  matches,
  PROTOCOL_TOPIC_LIMITS,
  parseFilter,
  TOPIC_FAULT,
  TOPIC_FAULT_TEXT,
  topicFilterFault,
  topicNameFault,
} from '../../src/topic/topic.js';
import { ADVERSARIAL_FILTERS, ADVERSARIAL_TOPICS } from './arbitrary.js';

const limits = { levelsMax: 4, levelBytesMax: 6, topicBytesMax: 12 };

function faultOf(check: ReturnType<typeof checkTopicName>): number {
  return check.kind === 'ok' ? TOPIC_FAULT.none : check.fault;
}

describe('topic names', () => {
  test.each([
    ['', TOPIC_FAULT.empty],
    ['a\0', TOPIC_FAULT.illFormed],
    ['a\ud800', TOPIC_FAULT.illFormed],
    ['\udc00\ud800', TOPIC_FAULT.illFormed],
    ['a/+', TOPIC_FAULT.wildcard],
    ['#', TOPIC_FAULT.wildcard],
    ['a#b', TOPIC_FAULT.wildcard],
    ['a/b/c/d', TOPIC_FAULT.none],
    ['////', TOPIC_FAULT.tooManyLevels],
    ['///', TOPIC_FAULT.none],
    ['1234567', TOPIC_FAULT.levelTooLong],
    ['1234567/a', TOPIC_FAULT.levelTooLong],
    ['éééé', TOPIC_FAULT.levelTooLong],
    ['123456/12345', TOPIC_FAULT.none],
    ['123456/123456', TOPIC_FAULT.tooLong],
  ])('%j is fault %i', (name, fault) => {
    expect(faultOf(checkTopicName(name, limits))).toBe(fault);
  });

  test('65,535 bytes are the end, whatever the settings say [MQTT-4.7.3-3]', () => {
    const endless = { levelsMax: 1e9, levelBytesMax: 1e9, topicBytesMax: 1e9 };
    expect(checkTopicName('x'.repeat(65_535), PROTOCOL_TOPIC_LIMITS).kind).toBe('ok');
    expect(checkTopicName('/'.repeat(65_535), PROTOCOL_TOPIC_LIMITS).kind).toBe('ok');
    expect(faultOf(checkTopicName('x'.repeat(65_536), endless))).toBe(TOPIC_FAULT.tooLong);
    expect(faultOf(checkTopicName('é'.repeat(32_768), endless))).toBe(TOPIC_FAULT.tooLong);
    expect(faultOf(checkTopicFilter('é'.repeat(32_768), endless))).toBe(TOPIC_FAULT.tooLong);
  });

  test('only the named range of the bytes is looked at', () => {
    const bytes = Buffer.from('#\0ab+');
    expect(topicNameFault(bytes, 2, 4, limits)).toBe(TOPIC_FAULT.none);
    expect(topicNameFault(bytes, 2, 5, limits)).toBe(TOPIC_FAULT.wildcard);
    expect(topicNameFault(bytes, 2, 2, limits)).toBe(TOPIC_FAULT.empty);
    expect(topicFilterFault(bytes, 1, 4, limits)).toBe(TOPIC_FAULT.illFormed);
  });

  test('every fault has its text, and says whether it is a limit', () => {
    expect(TOPIC_FAULT_TEXT).toHaveLength(Object.keys(TOPIC_FAULT).length);
    const limited = Object.entries(TOPIC_FAULT)
      .filter(([, fault]) => isLimitFault(fault))
      .map(([name]) => name);
    expect(limited).toEqual(['tooLong', 'tooManyLevels', 'levelTooLong']);
    expect(checkTopicName('a/#')).toMatchObject({
      kind: 'invalid',
      why: expect.stringContaining('MQTT-3.3.2-2'),
    });
  });
});

describe('topic filters', () => {
  test.each(['a#', '#/', '#/a', 'a/#/b', 'a/b#', '##', '/##'])('%j misplaces # [MQTT-4.7.1-1]', filter => {
    expect(faultOf(checkTopicFilter(filter))).toBe(TOPIC_FAULT.poundMisplaced);
  });

  test.each(['a+', '+a', 'a/+b', 'a/b+', '++', 'a/++/b', '+#'])('%j misplaces + [MQTT-4.7.1-2]', filter => {
    expect(faultOf(checkTopicFilter(filter))).toBe(TOPIC_FAULT.plusMisplaced);
  });

  test('all awkward filters are valid, and all awkward topics', () => {
    for (const filter of ADVERSARIAL_FILTERS)
      expect(faultOf(checkTopicFilter(filter)), filter).toBe(TOPIC_FAULT.none);
    for (const topic of ADVERSARIAL_TOPICS)
      expect(faultOf(checkTopicName(topic)), topic).toBe(TOPIC_FAULT.none);
  });

  test('a filter is valid if and only if the specification in words says so', () => {
    const text = fc.string({ unit: fc.constantFrom('a', '/', '+', '#', 'é'), minLength: 1, maxLength: 8 });
    const inWords = (filter: string): boolean =>
      filter
        .split('/')
        .every((level, i, levels) =>
          level.includes('#')
            ? level === '#' && i === levels.length - 1
            : !level.includes('+') || level === '+',
        );
    fc.assert(
      fc.property(text, filter => {
        expect(checkTopicFilter(filter).kind === 'ok').toBe(inWords(filter));
        expect(checkTopicName(filter).kind === 'ok').toBe(!/[+#]/.test(filter));
      }),
    );
  });
});

describe('shared subscriptions', () => {
  test('the share prefix comes off', () => {
    expect(parseFilter('$share/g/a/+')).toEqual({
      kind: 'shared',
      group: 'g',
      ordered: false,
      filter: 'a/+',
    });
    expect(parseFilter('$oshare/g 1/#')).toEqual({
      kind: 'shared',
      group: 'g 1',
      ordered: true,
      filter: '#',
    });
    expect(parseFilter('$share/g//')).toEqual({ kind: 'shared', group: 'g', ordered: false, filter: '/' });
    expect(parseFilter('$share/g/$share/h/x')).toMatchObject({
      kind: 'shared',
      group: 'g',
      filter: '$share/h/x',
    });
  });

  test.each([
    ['$share/', TOPIC_FAULT.shareGroup],
    ['$share//a', TOPIC_FAULT.shareGroup],
    ['$share/+/a', TOPIC_FAULT.shareGroup],
    ['$share/g#/a', TOPIC_FAULT.shareGroup],
    ['$oshare//a', TOPIC_FAULT.shareGroup],
    ['$share/g', TOPIC_FAULT.shareFilter],
    ['$share/g/', TOPIC_FAULT.shareFilter],
    ['$oshare/g/', TOPIC_FAULT.shareFilter],
    ['$share/g/a#', TOPIC_FAULT.poundMisplaced],
    ['$share/g\0/a', TOPIC_FAULT.illFormed],
    ['$share/1234567/a', TOPIC_FAULT.levelTooLong],
    ['', TOPIC_FAULT.empty],
    ['a+', TOPIC_FAULT.plusMisplaced],
  ])('%j is refused with fault %i [MQTT-4.8.2-1] [MQTT-4.8.2-2]', (text, fault) => {
    expect(parseFilter(text, limits)).toMatchObject({ kind: 'invalid', fault });
  });

  test('what only looks like it is a plain filter', () => {
    for (const filter of ['$share', '$shared/g/a', '$SHARE/g/a', '/$share/g/a', '$oshare']) {
      expect(parseFilter(filter)).toEqual({ kind: 'plain', filter });
    }
  });

  test('limits hold for the filter without its prefix', () => {
    expect(parseFilter('$share/g/a/b/c/d', limits).kind).toBe('shared');
    expect(parseFilter('$share/g/a/b/c/d/e', limits)).toMatchObject({ fault: TOPIC_FAULT.tooManyLevels });
  });
});

// Examples of MQTT 5.0, sections 4.7.1 and 4.7.2, and what follows from them.
test.each([
  ['sport/tennis/player1/#', 'sport/tennis/player1', true],
  ['sport/tennis/player1/#', 'sport/tennis/player1/score/wimbledon', true],
  ['sport/#', 'sport', true],
  ['sport/#', 'sports', false],
  ['#', 'a/b', true],
  ['sport/tennis/+', 'sport/tennis/player1', true],
  ['sport/tennis/+', 'sport/tennis/player1/ranking', false],
  ['sport/+', 'sport', false],
  ['sport/+', 'sport/', true],
  ['+/+', '/finance', true],
  ['/+', '/finance', true],
  ['+', '/finance', false],
  ['#', '$SYS/x', false],
  ['+/monitor/Clients', '$SYS/monitor/Clients', false],
  ['$SYS/#', '$SYS/x', true],
  ['$SYS/monitor/+', '$SYS/monitor/Clients', true],
  ['ACCOUNTS', 'Accounts', false],
])('matches(%j, %j) is %j', (filter, topic, expected) => {
  expect(matches(filter, topic)).toBe(expected);
});
