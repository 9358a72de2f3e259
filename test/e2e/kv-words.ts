/** What a test and a process of the replicated storage say to each other: lines of JSON. */
import type { KvMemberSettings } from './kv-member.js';

export interface KvSettings extends KvMemberSettings {
  /** File to which what its load does is appended as it happens (kv-history.ts). */
  readonly history: string;
}

export interface KvLoadOptions {
  readonly registers: number;
  /** Each asks, waits for the answer, pauses, and asks again. */
  readonly workers: number;
  readonly pauseMs: number;
  readonly deadlineMs: number;
  /** Values begin above this; each is written once. */
  readonly base: number;
  /** Stored with each value. */
  readonly padding: number;
}

export interface ReplicaSeen {
  readonly range: number;
  readonly leads: boolean;
  readonly term: number;
  readonly applied: number;
  readonly voters: number;
  readonly changing: boolean;
}

export interface StoreSeen {
  readonly store: number;
  /** The storage has found no room this often. */
  readonly full: number;
  readonly replicas: readonly ReplicaSeen[];
  readonly hosts: readonly string[];
}

export interface KvCommands {
  load: { with: KvLoadOptions; gives: null };
  /** The load ends when all is answered. */
  rest: { with: object; gives: null };
  /** When the first write that was asked for after `sinceMs` was answered. */
  answered: { with: { sinceMs: number }; gives: number };
  /** Reads all registers once more; false if one could not be read. */
  reread: { with: object; gives: boolean };
  /** Of one that has a store. */
  look: { with: object; gives: StoreSeen };
}

export type KvCommandName = keyof KvCommands;
