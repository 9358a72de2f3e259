// One thread that accepts WebSockets, for ws.test.ts: tells each client its name, and ends as it is told.
import { parentPort, workerData } from 'node:worker_threads';
import { listenWs } from '../../../dist/src/mqtt/io/ws.js';
import { ReceiveMemory } from '../../../dist/src/mqtt/receive-memory.js';

const { options, name } = workerData;
const places = { take: () => 1, giveBack: () => {} };
const listener = await listenWs({ ...options, places }, peer => {
  peer.write(Buffer.from(name));
  return {
    memory: new ReceiveMemory(),
    onData: (bytes, start, end) => {
      const text = bytes.toString('utf8', start, end);
      if (text === 'throw') throw new Error('thrown on purpose');
      if (text === 'exit') process.exit(3);
    },
    onGathering: gatherer => setImmediate(() => gatherer.deliverGathered()),
    onDrain: () => {},
    onClose: () => {},
  };
});
parentPort.postMessage({ port: listener.port });
parentPort.once('message', () => listener.destroy());
