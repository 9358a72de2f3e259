/** A process of the replicated storage, as a test drives it. */
import type { KvCommands, KvSettings } from './kv-words.js';
import { ToldProcess } from './told-process.js';

export class KvProcess extends ToldProcess<KvSettings, KvCommands> {
  isStopped = false;

  constructor(settings: KvSettings, within: readonly string[] = []) {
    super('test/e2e/kv-node.js', settings, within);
  }

  stop(): void {
    this.isStopped = true;
    this.signal('SIGSTOP');
  }

  goOn(): void {
    this.isStopped = false;
    this.signal('SIGCONT');
  }

  override async kill9(): Promise<void> {
    await super.kill9();
    this.isStopped = false;
  }
}
