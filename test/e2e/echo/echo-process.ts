/** A process that serves and calls `echo`, as a test drives it. */
import { readFileSync } from 'node:fs';
import { ToldProcess } from '../told-process.js';
import type { Commands, EchoSettings, Told } from './echo-service.js';

/** It drains for five seconds at the most. */
const STOP_TIMEOUT_MS = 15_000;

export class EchoProcess extends ToldProcess<EchoSettings, Commands> {
  /** What its underlay has told since it was started last. */
  told: Told[] = [];

  constructor(settings: EchoSettings, within: readonly string[] = []) {
    super('test/e2e/echo/echo-node.js', settings, within);
  }

  /** Of its server; another one after each start. */
  get serverId(): string {
    return `${this.name}-${this.starts}`;
  }

  override start(): Promise<void> {
    this.told = [];
    return super.start();
  }

  protected override onTold(told: unknown): void {
    this.told.push(told as Told);
  }

  /** In order; its exit code. */
  stop(): Promise<number | null> {
    return this.terminate(STOP_TIMEOUT_MS);
  }

  /** Requests of `once` that it has carried out, over all its lives. */
  carriedOut(): string[] {
    return readFileSync(this.settings.journal, 'utf8').split('\n').filter(Boolean);
  }
}
