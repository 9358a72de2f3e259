import { runStoreWorker } from '../src/node/store-worker.js';

/** A thread that owns sessions and retained messages, as a Piscina task. Input: `StoreWorkerInput`. */
export default runStoreWorker;
