/**
 * Why a call brought no answer; stable, for programs.
 *
 * | code | was it carried out? |
 * | --- | --- |
 * | server-not-found | no: no server of the service is known, or none in the groups that the tenant's traffic may use |
 * | unavailable | no: the server could not be reached, or refused before it began (draining, connection refused) |
 * | throttled | no: a bound was met (queue, rate); try later |
 * | deadline | not known: no answer in time |
 * | aborted | no: cancelled before it was sent, or can never be sent (too large, not readable by the server), or something before it in its pipeline has an unknown outcome |
 * | unknown-outcome | not known: the connection broke after it was sent, it was cancelled after that, or the answer could not be read |
 */
export const RPC_FAILURE_CODES = [
  'server-not-found',
  'unavailable',
  'throttled',
  'deadline',
  'aborted',
  'unknown-outcome',
] as const;

export type RpcFailureCode = (typeof RPC_FAILURE_CODES)[number];

export interface RpcFailure {
  readonly kind: RpcFailureCode;
  /** For people: which server, and what happened. */
  readonly detail: string;
}

export type RpcResult<T> = { readonly kind: 'ok'; readonly value: T } | RpcFailure;

export function rpcFailure(kind: RpcFailureCode, detail: string): RpcFailure {
  return { kind, detail };
}
