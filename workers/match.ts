import { runStoreWorker } from '../src/node/store-worker.js';
import { asTask } from '../src/node/task.js';

/** A thread that owns routes, as a Piscina task: ends when it is told to stop. Input: `StoreWorkerInput`. */
export default asTask(runStoreWorker);
