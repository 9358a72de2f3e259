/**
 * Main and the stores of its node: main has the cluster and calls, a store thread has the ranges. What other nodes send
 * to a store, and what it sends them, goes through main as opaque bytes. Any frame of a store to another may be lost.
 *
 * KV_OPEN          store → main, once when the thread serves: f64 store, u8 n, n × u8 service that it takes ranges of
 * KV_STANDING      main → store, at first and after each change: u8 settled, f64 own host, u32 n, n × f64 host,
 *                  u8 n, n × u8 service that nothing may begin of
 *                  (the underlay's view; settled: the cluster was found, or there is none to be found)
 * KV_HEARD         main → store: u32 n, n × (text key, u8 present, blob): entries of the shared map are now so
 * KV_PUBLISH       store → main: the same layout: these entries are to be made so
 * KV_FRAME         main → store: the frame of another store
 *                  store → main: f64 store, the frame for it
 * KV_CALL          main → store: u32 caller, one message of its stream of attempts; the first one of a caller opens it
 * KV_CALL_EVENT    main → store: u32 caller, u8 CALL_EVENT
 * KV_ANSWERS       store → main: u32 caller, one message of answers for it
 * KV_CALLER        store → main: u32 caller, u8 CALLER_WANTS
 * KV_STEER         main → store, with a callId: an order of kv/balance; reply: u8 STATUS, its answer
 *
 * Numbers of callers are main's own and never used again. A store thread that starts again has no callers; main fails
 * those that it had.
 */
export const CALL_EVENT = { ENDED: 0, CLOSED: 1 } as const;
export const CALLER_WANTS = { PAUSE: 0, RESUME: 1, END: 2 } as const;
