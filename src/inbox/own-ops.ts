import { OWN_OP } from '../kv/service.js';

/** A request of the inbox service to itself. Body: a whole command. */
export const OWN_COMMAND = OWN_OP + 40;
/** Body: u53 nowMs, u32 n, n × (u53 instance, u32 connection): their thread died. */
export const OWN_DETACH = OWN_OP + 41;
