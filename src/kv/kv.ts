/**
 * Room `kv`: how state lasts.
 *
 * From the inside out:
 *   engine.ts        `Engine`: ordered byte keys and values, one write transaction at a time. `MemoryEngine` here,
 *                    `LmdbEngine` in io/; one contract suite on both (test/contract/engine.ts).
 *   keys.ts          how keys are made: service, tenant, kind, rest.
 *   range.ts         `Range`: a key interval and the `Coprocessor` that gives it meaning.
 *   service.ts       `Service`: what stands between frames and a range and keeps what is not replicated.
 *   store.ts         `Store`: one engine, its services, and the turn.
 *   replicated/      `RaftStore`: one engine, many ranges, each with its group of replicas; its head has the parts, that of
 *                    transitions.ts why a split or merge loses and doubles nothing. raft/ is the machine it drives.
 *   sole-range.ts    the ranges of a `Store`: replicas with one voter of such a store.
 *   map/             the service whose ranges are the first with several replicas: an operator's small values (map.ts).
 *   key-sample.ts    what a range tells of itself to who places and divides ranges, from a sample of its keys.
 *   due-index.ts, write-batch.ts, frame-batch.ts, crc32c.ts: parts.
 *   io/              LMDB, the data directory and its lock, the check of a database file.
 *
 * Invariants
 * - A reply leaves only when what it reports is as durable as `storage.durability` says (`Engine.write`), and so
 *   do pushes of messages. Exceptions are named where they are made (dist's transient routes).
 * - All requests of a turn share one transaction and one flush; each sees what those before it did. A turn that
 *   cannot be committed for want of room leaves nothing behind: everyone in it gets UNAVAILABLE and memory is
 *   built again from the engine.
 * - What a coprocessor stores depends on no clock, no randomness and no connection; commands carry the time. Keys
 *   carry the tenant, and a range says where it begins and ends. Raft is in between `Service` and
 *   `Coprocessor.mutate` (`Range.decide`): while a range has one replica, all of a turn is one entry, committed by the
 *   turn's own transaction. With more, a command has to be proposed, and `durable` to come when it is applied:
 *   services cannot do that yet.
 * - Every record is stored with a checksum that is verified at each read, and the whole file is walked before it
 *   is opened (io/lmdb-check.ts). What fails is reported as SHOAL_STORAGE_CORRUPT and never served.
 *
 * Requests after a crash of the store thread: what was not answered is unknown to whoever asked. ATTACH, DETACH,
 * SUBSCRIBE, UNSUBSCRIBE, SETTLED, ACKED, RECEIVED, RELEASED, RETAIN_SET, DIST_ADD and DIST_REMOVE may be asked again:
 * done twice they leave what once leaves. INSERT with a source is done once (the packet id is marked in the same
 * transaction); without one, QoS 1, a second insert is a duplicate, as QoS 1 allows. So there is no table of
 * request numbers to keep.
 *
 * Limits: a turn applies what TURN_LIMITS allow (store.ts), so that a thread gets back to its event loop within 10 ms;
 * its caller hands in no more while much is left over. Keys KEY_BYTES_MAX. One request is never divided: an INSERT into
 * tens of thousands of inboxes takes its time.
 *
 * Difference from BifroMQ: it keeps WAL and state in two RocksDB instances with a flush each; here one LMDB
 * transaction holds both, and a commit costs one data flush and one of the meta page.
 */

/** The one range of each service, until ranges split. */
export const FIRST_RANGE_ID = 1;
