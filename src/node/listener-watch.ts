import type { Log } from '../base/env.js';
import { type CounterBlock, LISTENER_EVENTS, TRANSPORT_INDEX } from '../base/metrics.js';
import type { Admission } from '../mqtt/admission.js';
import type { Listener } from '../mqtt/transport.js';
import { DESCRIPTORS_REMEDY } from './descriptors.js';
import type { AdmissionInput } from './mqtt-worker.js';

const LOG_MS = 60_000;
/** Values of the `event` label. */
const EVENTS = 4;

/** Copies what a thread's listeners have counted into its block, and says once a minute that clients are refused. */
export class ListenerWatch {
  private readonly admission: Admission;
  private readonly input: AdmissionInput;
  private readonly log: Log;
  private reported = 0;
  private reportedAtMs = Number.NEGATIVE_INFINITY;

  constructor(admission: Admission, input: AdmissionInput, log: Log) {
    this.admission = admission;
    this.input = input;
    this.log = log;
  }

  look(listeners: readonly Listener[], { values }: CounterBlock, nowMs: number): void {
    for (const { transport, counters } of listeners) {
      const base = LISTENER_EVENTS + TRANSPORT_INDEX[transport] * EVENTS;
      values[base] = counters.accepted;
      values[base + 1] = counters.refusedAtLimit;
      values[base + 2] = counters.handshakeFailed;
      values[base + 3] = counters.acceptErrors;
    }
    const refused = this.admission.refused - this.reported;
    if (refused === 0 || nowMs - this.reportedAtMs < LOG_MS) return;
    this.reported = this.admission.refused;
    this.reportedAtMs = nowMs;
    const { connectionsMax, descriptorsAreFewer } = this.input;
    const remedy = descriptorsAreFewer ? DESCRIPTORS_REMEDY : 'raise limits.connectionsMax';
    const why = descriptorsAreFewer
      ? 'open files leave room for no more'
      : 'limits.connectionsMax is reached';
    this.log.warn({ refused, connectionsMax }, `connections are refused, ${why}: ${remedy}`);
  }
}
