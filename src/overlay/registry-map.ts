import { assert } from '../base/assert.js';
import type { HostId } from '../underlay/message.js';
import type { SharedMap } from './agent.js';
import { KEY_LENGTH_MAX, VALUE_BYTES_MAX } from './limits.js';
import type { Registry } from './registry.js';

export interface Writer {
  write(map: string, key: string, bytes: Uint8Array, isOwned: boolean): boolean;
  erase(map: string, key: string): void;
}

/** One shared map as a part of its agent's registry. */
export class RegistryMap implements SharedMap {
  readonly name: string;
  private readonly registry: Registry;
  private readonly writer: Writer;

  constructor(name: string, registry: Registry, writer: Writer) {
    this.name = name;
    this.registry = registry;
    this.writer = writer;
  }

  get(key: string): Uint8Array | undefined {
    return this.registry.get(this.name, key)?.bytes;
  }

  set(key: string, value: Uint8Array, owned: boolean): boolean {
    assert(key.length > 0 && key.length <= KEY_LENGTH_MAX, `a key has 1 to ${KEY_LENGTH_MAX} units`);
    assert(value.length <= VALUE_BYTES_MAX, `a value has at most ${VALUE_BYTES_MAX} bytes`);
    return this.writer.write(this.name, key, value, owned);
  }

  delete(key: string): void {
    this.writer.erase(this.name, key);
  }

  keys(): IterableIterator<string> {
    return this.registry.of(this.name).keys() as IterableIterator<string>;
  }

  ownerOf(key: string): HostId | undefined {
    return this.registry.get(this.name, key)?.owner || undefined;
  }
}
