// One thread that accepts on a shared port, for shared-port.test.ts: tells each client which thread it got.
import { parentPort, workerData } from 'node:worker_threads';
import { listenTcp } from '../../../dist/src/mqtt/io/tcp.js';
import { ReceiveMemory } from '../../../dist/src/mqtt/receive-memory.js';

const { fd, name, options, implementation } = workerData;
const places = { take: () => 1, giveBack: () => {} };
const listener = await listenTcp(
  { ...options, places, fd },
  peer => {
    peer.write(Buffer.from(name));
    return {
      memory: new ReceiveMemory(),
      onData: (bytes, start, end) => peer.write(bytes.subarray(start, end)),
      onGathering: () => {},
      onDrain: () => {},
      onClose: () => {},
    };
  },
  implementation,
);
parentPort.postMessage({ port: listener.port });
parentPort.once('message', async message => {
  if (message === 'die') process.exit(1);
  await listener.destroy();
});
