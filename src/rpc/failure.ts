/**
 * Why a call brought no answer; stable, for programs.
 *
 * | code | was it carried out? |
 * | --- | --- |
 * | server-not-found | no: no server of the service is known, or none in the groups that the tenant's traffic may use |
 * | unavailable | no: the server could not be reached, or refused before it began (draining, connection refused) |
 * | throttled | no: a bound was met (queue, rate); try later |
 * | deadline | not known: no answer in time |
 * | aborted | no: cancelled by the caller before it was sent, or the pipeline moved before it was |
 * | unknown-outcome | not known: the connection broke after it was sent |
 */
export type RpcFailureCode =
  | 'server-not-found'
  | 'unavailable'
  | 'throttled'
  | 'deadline'
  | 'aborted'
  | 'unknown-outcome';

export interface RpcFailure {
  readonly kind: RpcFailureCode;
  /** For people: which server, and what happened. */
  readonly detail: string;
}

export type RpcResult<T> = { readonly kind: 'ok'; readonly value: T } | RpcFailure;
