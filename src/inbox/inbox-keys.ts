import { ByteWriter } from '../base/bytes.js';
import { ordered53, rawText, SERVICE, tenantKey } from '../kv/keys.js';

/** Kinds of entries; inbox.ts says what they hold. */
export const KIND = {
  CHANGE: 0x63,
  SESSION: 0x73,
  INSTANCE: 0x6e,
  DATA: 0x64,
  WILL: 0x77,
  WILL_DUE: 0x76,
  EXPIRY: 0x78,
  ENDED: 0x65,
  GARBAGE: 0x67,
} as const;

/** Kinds of a session's own entries, under DATA and the instance. */
export const DATA = { FILTER: 0x66, OWED: 0x6f, QUEUED: 0x71, RECEIVED: 0x72 } as const;

/** Makes the keys of inbox entries; each call overwrites what the one before returned. */
export class InboxKeys {
  private readonly writer = new ByteWriter(256);

  session(tenant: string, clientId: string): Uint8Array {
    return rawText(tenantKey(this.writer, SERVICE.INBOX, tenant, KIND.SESSION), clientId).view();
  }

  /** For INSTANCE, WILL. */
  ofInstance(tenant: string, kind: number, instance: number): Uint8Array {
    return ordered53(tenantKey(this.writer, SERVICE.INBOX, tenant, kind), instance).view();
  }

  /** A change of subscriptions whose routes are not known to be in effect. */
  change(tenant: string, instance: number, number: number): Uint8Array {
    this.ofInstance(tenant, KIND.CHANGE, instance);
    return ordered53(this.writer, number).view();
  }

  /** All entries that begin so belong to the session alone. */
  data(tenant: string, instance: number): ByteWriter {
    return ordered53(tenantKey(this.writer, SERVICE.INBOX, tenant, KIND.DATA), instance);
  }

  /** One for each client id: nothing of it begins anew before the routes of what ended are gone. */
  ended(tenant: string, clientId: string): Uint8Array {
    return rawText(ordered53(tenantKey(this.writer, SERVICE.INBOX, tenant, KIND.ENDED), 0), clientId).view();
  }

  /** For OWED, QUEUED. */
  seq(tenant: string, instance: number, kind: number, seq: number): Uint8Array {
    return ordered53(this.data(tenant, instance).u8(kind), seq).view();
  }

  filter(tenant: string, instance: number, filter: string): Uint8Array {
    return rawText(this.data(tenant, instance).u8(DATA.FILTER), filter).view();
  }

  received(tenant: string, instance: number, packetId: number): Uint8Array {
    return this.data(tenant, instance)
      .u8(DATA.RECEIVED)
      .u8(packetId >>> 8)
      .u8(packetId & 255)
      .view();
  }
}
