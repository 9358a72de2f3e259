/** `ours` goes the whole way: typed client, balancing, gRPC or the own process. `plain` is @grpc/grpc-js as it comes. */
export type RpcTarget = 'ours' | 'plain';

/** What one process does with the other. */
export type RpcLoad = 'unary' | 'pipelined' | 'in-process' | 'chunks-up' | 'chunks-down';

export interface RpcRow {
  readonly name: RpcLoad;
  readonly title: string;
  readonly unit: 'calls/s' | 'MB/s';
  readonly targets: readonly RpcTarget[];
  /** `factor` times the median of another row and target, or `factor` itself. */
  readonly goal: {
    readonly factor: number;
    readonly of?: { readonly row: RpcLoad; readonly target: RpcTarget };
  };
}

/** Bytes of request and response where calls are counted. */
export const PAYLOAD_BYTES = 100;
/** Bytes of one opaque message where bytes are counted. */
export const CHUNK_BYTES = 65_536;
/** Unary calls under way at a time, of either target. */
export const UNARY_WINDOW = 64;
/** Calls of one turn of the event loop within a process. */
export const IN_PROCESS_TURN = 256;
/** Requests of one pipeline that are sent or wait. */
export const PIPELINE_DEPTH = 4_096;

const PLAIN_UNARY = { row: 'unary', target: 'plain' } as const;

export const RPC_ROWS: readonly RpcRow[] = [
  {
    name: 'unary',
    title: `unary, ${PAYLOAD_BYTES} bytes, ${UNARY_WINDOW} in flight`,
    unit: 'calls/s',
    targets: ['ours', 'plain'],
    goal: { factor: 0.8, of: PLAIN_UNARY },
  },
  {
    name: 'pipelined',
    title: `one pipeline, ${PAYLOAD_BYTES} bytes, adaptive batches`,
    unit: 'calls/s',
    targets: ['ours'],
    goal: { factor: 8, of: PLAIN_UNARY },
  },
  {
    name: 'in-process',
    title: 'unary in the own process',
    unit: 'calls/s',
    targets: ['ours'],
    goal: { factor: 1_000_000 },
  },
  {
    name: 'chunks-up',
    title: 'opaque 64 KiB chunks, caller → server',
    unit: 'MB/s',
    targets: ['ours'],
    goal: { factor: 300 },
  },
  {
    name: 'chunks-down',
    title: 'opaque 64 KiB chunks, server → caller',
    unit: 'MB/s',
    targets: ['ours'],
    goal: { factor: 300 },
  },
];
