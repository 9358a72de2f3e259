// One thread that accepts WebSockets, for ws.test.ts: tells each client its name, and ends as it is told.
import { parentPort, workerData } from 'node:worker_threads';
import { listenWs } from '../../../dist/src/mqtt/io/ws.js';

const { options, name } = workerData;
const places = { take: () => 1, giveBack: () => {} };
const listener = await listenWs({ ...options, places }, peer => {
  peer.write(Buffer.from(name));
  return {
    onData: chunk => {
      if (chunk.toString() === 'throw') throw new Error('thrown on purpose');
      if (chunk.toString() === 'exit') process.exit(3);
    },
    onDrain: () => {},
    onClose: () => {},
  };
});
parentPort.postMessage({ port: listener.port });
parentPort.once('message', () => listener.destroy());
