import { expect, it } from 'vitest';
import { ByteReader } from '../../src/base/bytes.js';
import { CounterBlock, DROP, DROPS } from '../../src/base/metrics.js';
import { Message, readMessage } from '../../src/contract/message.js';
import { SysTopics } from '../../src/node/sys-topics.js';

it('$SYS counts messages that were dropped for any reason', () => {
  const blocks = [new CounterBlock(), new CounterBlock()];
  for (const reason of Object.values(DROP)) {
    blocks[0]!.values[DROPS + reason]! += 1;
    blocks[1]!.values[DROPS + reason]! += 2;
  }
  const values = new Map<string, string>();
  new SysTopics('1', 0).publish(blocks, 1000, (bytes, end) => {
    const reader = new ByteReader(Buffer.from(bytes.subarray(0, end)));
    reader.position = 5;
    reader.text();
    const { topic, payload } = readMessage(reader, new Message());
    values.set(topic.toString(), payload.toString());
  });
  expect(values.get('$SYS/broker/publish/messages/dropped')).toBe(`${3 * Object.keys(DROP).length}`);
  expect(values.get('$SYS/broker/uptime')).toBe('1 seconds');
});
