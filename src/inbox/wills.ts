import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import type { DueEntry } from '../kv/due-index.js';
import type { KvReader } from '../kv/engine.js';
import type { FrameBatch } from '../kv/frame-batch.js';
import { latin1, readOrdered53 } from '../kv/keys.js';
import type { ServiceHost } from '../kv/service.js';
import type { Announced, Announcements } from './announcements.js';
import { INBOX_COMMAND } from './inbox.js';
import { KIND } from './inbox-keys.js';
import { OWN_COMMAND } from './own-ops.js';
import type { Sessions } from './sessions.js';

/**
 * INBOX_WILL: has wills published that are due. The entry goes when that is done, so after a crash of the node it is
 * asked once more: a will may be published twice, never not at all.
 */
export class Wills {
  private readonly sessions: Sessions;
  private readonly announcements: Announcements;
  private readonly host: ServiceHost;
  /** Keys of entries that are being announced. */
  private readonly underway = new Set<string>();
  private readonly command = new ByteWriter(256);
  private readonly reader = new ByteReader();

  constructor(sessions: Sessions, announcements: Announcements, host: ServiceHost) {
    this.sessions = sessions;
    this.announcements = announcements;
    this.host = host;
  }

  announce(nowMs: number, reader: KvReader, out: FrameBatch): void {
    if (this.announcements.room <= 0) return;
    const due: DueEntry[] = [];
    // Twice as many as can be under way: what is under way stands before the rest.
    this.sessions.wills.due(reader, nowMs, TENANTS_MAX, ENTRIES_MAX, due);
    for (const { tenant, key } of due) {
      if (this.underway.has(latin1(key))) continue;
      if (this.announcements.room <= 0) return;
      this.announceOne(tenant, key, reader, out);
    }
  }

  private announceOne(tenant: string, key: Uint8Array, reader: KvReader, out: FrameBatch): void {
    const instance = readOrdered53(key, key.length - 7);
    const will = reader.get(this.sessions.keys.ofInstance(tenant, KIND.WILL, instance));
    if (will === undefined) {
      this.done(tenant, key);
      return;
    }
    const stored = this.reader.over(will);
    const clientId = stored.text();
    const name = latin1(key);
    this.underway.add(name);
    const announced: Announced = {
      onAnswer: status => {
        this.underway.delete(name);
        if (status === STATUS.OK) this.done(tenant, key); // else it is asked again
      },
      onLost: () => this.underway.delete(name),
    };
    const frame = this.announcements.begin(OP.INBOX_WILL, -1, announced, out);
    frame.text(tenant).text(clientId).u53(instance).raw(stored.bytes, stored.position, stored.end);
    out.end();
  }

  private done(tenant: string, key: Uint8Array): void {
    const command = this.command.reset().u8(INBOX_COMMAND.WILL_DONE).text(tenant).blob(key);
    this.host.enqueue(OWN_COMMAND, command.copy());
  }
}

const TENANTS_MAX = 512;
const ENTRIES_MAX = 512;
