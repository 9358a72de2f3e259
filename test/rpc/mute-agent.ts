import type { Agent, AgentMember, SharedMap } from '../../src/overlay/agent.js';

/** An agent whose members send each other nothing, as services do, and whose maps stay empty. */
export abstract class MuteAgent implements Agent {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  abstract register(member: string, metadata: Uint8Array): void;
  abstract deregister(member: string): void;
  abstract members(): readonly AgentMember[];

  hosts(): readonly number[] {
    return [];
  }

  unicast(): 'no-such-member' {
    return 'no-such-member';
  }

  multicast(): readonly number[] {
    return [];
  }

  broadcast(): readonly number[] {
    return [];
  }

  map(name: string): SharedMap {
    return {
      name,
      get: () => undefined,
      set: () => true,
      delete: () => undefined,
      keys: () => [][Symbol.iterator](),
      ownerOf: () => undefined,
    };
  }
}
