import { ByteWriter } from '../base/bytes.js';
import type { KvReader } from './engine.js';
import { copyOf, kindAt, ordered53, prefixEnd, rawText, readOrdered53, tenantKey, tenantOf } from './keys.js';
import { type Boundary, wholeService } from './range.js';

/**
 * A walk over what is due in a range, tenant by tenant: keys `service tenant 0 kind due(ordered53) rest`. Each call does a
 * bounded share, and the next goes on where it stopped, so that tenants take turns. A tenant is in one range.
 */
export class DueIndex {
  private readonly service: number;
  private readonly kind: number;
  private readonly key = new ByteWriter(64);
  private boundary: Boundary;
  private nextTenant = '';

  constructor(service: number, kind: number) {
    this.service = service;
    this.kind = kind;
    this.boundary = wholeService(service);
  }

  /** The range is this from now on: nothing else on the engine is looked at. */
  reset(boundary: Boundary): void {
    this.boundary = boundary;
    this.nextTenant = '';
  }

  /** Starts the key of an entry; the caller appends what tells it from others that are due then. */
  entry(tenant: string, dueMs: number): ByteWriter {
    return ordered53(tenantKey(this.key, this.service, tenant, this.kind), dueMs);
  }

  /** Gives copies of the keys that are due, `entriesMax` at most, from `tenantsMax` tenants at most. */
  due(reader: KvReader, nowMs: number, tenantsMax: number, entriesMax: number, out: DueEntry[]): void {
    let left = entriesMax;
    for (let i = 0; i < tenantsMax && left > 0; i++) {
      const tenant = this.tenantFrom(reader);
      if (tenant === undefined) {
        if (this.nextTenant === '') return;
        this.nextTenant = '';
        return;
      }
      const start = tenantKey(this.key, this.service, tenant, this.kind).copy();
      const restAt = start.length + 7;
      reader.scan(start, prefixEnd(start), key => {
        if (readOrdered53(key, start.length) > nowMs) return false;
        out.push({ tenant, key: copyOf(key), restAt });
        return --left > 0;
      });
      // A tenant whose share was cut is come back to when all others have had theirs.
      this.nextTenant = `${tenant}\u0001`;
    }
  }

  /** The first tenant at or after `nextTenant`. */
  private tenantFrom(reader: KvReader): string | undefined {
    const next = rawText(this.key.reset().u8(this.service), this.nextTenant).copy();
    const { start, end } = this.boundary;
    let tenant: string | undefined;
    reader.scan(Buffer.compare(start, next) > 0 ? start : next, end, key => {
      if (kindAt(key) > 0) tenant = tenantOf(key);
      return false;
    });
    return tenant;
  }
}

export interface DueEntry {
  readonly tenant: string;
  readonly key: Uint8Array;
  /** Where the part behind the due time begins. */
  readonly restAt: number;
}
