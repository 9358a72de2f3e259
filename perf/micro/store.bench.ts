import Benchmark from 'benchmark';
import { ByteWriter } from '../../src/base/bytes.js';
import { OP } from '../../src/contract/contract.js';
import { writeMessage } from '../../src/contract/message.js';
import {
  message,
  readAttached,
  StoreHarness,
  shardRoute,
  TENANT,
  writeAttach,
  writeInsert,
  writeRoutes,
} from '../../test/kv/store-harness.js';

const ROUTES = 200_000;
const RETAINED = 100_000;

/** What requests cost in the store without a disk: routes, sessions, retained messages. */
export function suite(): Benchmark.Suite {
  const store = new StoreHarness({
    mqttPeers: [1],
    inbox: { queueMessagesMax: 1_000_000, queueBytesMax: 2 ** 40 },
  });
  const benchmarks = new Benchmark.Suite('store');
  const frame = new ByteWriter();
  const ask = (op: number, fill: (writer: ByteWriter) => void) => {
    fill(frame.reset().u8(op).u32(0));
    store.store.handleFrame(1, frame.bytes, 0, frame.length);
  };
  const route = (i: number) => shardRoute(`device/${i}/commands/${i % 7}`, 0);
  const topic = (i: number) => `site/${i % 1000}/device/${i}/temperature`;
  for (let i = 0; i < ROUTES; i++) ask(OP.DIST_ADD, writer => writeRoutes(writer, [route(i)]));
  for (let i = 0; i < RETAINED; i++)
    ask(OP.RETAIN_SET, writer => writeMessage(writer.text(TENANT).u53(0), message(topic(i), '21.5')));
  store.finish();
  const attached = store.call(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
  const { instance } = readAttached(attached);
  ask(OP.INBOX_PULL, writer => writer.u53(instance).u53(1).u32(0xffff_ffff));
  store.sent.length = 0;

  const text = message('sensors/a/b', 'x'.repeat(64));
  let next = 0;
  let seq = 1;
  benchmarks.add('64 messages inserted, pushed and acknowledged', () => {
    for (let i = 0; i < 64; i++)
      ask(OP.INBOX_INSERT, writer => writeInsert(writer, text, [{ clientId: 'c' }]));
    store.store.endTurn();
    ask(OP.INBOX_ACKED, writer => {
      writer.u53(instance).u32(64);
      for (let i = 0; i < 64; i++) writer.u53(seq++);
    });
    store.sent.length = 0;
  });
  benchmarks.add(`64 routes added among ${ROUTES}`, () => {
    for (let i = 0; i < 64; i++)
      ask(OP.DIST_ADD, writer => writeRoutes(writer, [route(ROUTES + (next++ % ROUTES))]));
    store.store.endTurn();
    store.sent.length = 0;
  });
  benchmarks.add(`a topic matched among ${ROUTES} routes`, () => {
    ask(OP.DIST_MATCH, writer => writer.text(TENANT).text(`device/${next++ % ROUTES}/commands/0`));
    store.sent.length = 0;
  });
  for (const filter of [
    '#',
    'site/+/device/+/temperature',
    'site/7/#',
    'site/+/device/77/temperature',
    'site/+/x',
  ])
    benchmarks.add(`one call of a scan of ${RETAINED} retained topics for ${filter}`, () => {
      store.call(1, OP.RETAIN_SCAN, writer =>
        writer
          .text(TENANT)
          .text(filter)
          .u53(0)
          .u32(1000)
          .u32(1 << 20)
          .u32(0),
      );
    });
  return benchmarks;
}
