import { runMqttWorker } from '../src/node/mqtt-worker.js';
import { asTask } from '../src/node/task.js';

/** A thread that owns connections, as a Piscina task: ends when it is told to stop. Input: `MqttWorkerInput`. */
export default asTask(runMqttWorker);
