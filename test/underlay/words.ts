import type { HostId, Message } from '../../src/underlay/message.js';

/** What a host says of another one, in words; undefined for messages that are no news. `nameOf` gives an id its label. */
export function newsWords(message: Message, nameOf: (id: HostId) => string): string | undefined {
  switch (message.kind) {
    case 'alive':
      return `alive ${nameOf(message.record.id)}@${message.record.incarnation}`;
    case 'suspect':
      return `suspect ${nameOf(message.id)}@${message.incarnation} by ${nameOf(message.by)}`;
    case 'gone':
      return `gone ${nameOf(message.id)}@${message.incarnation} ${message.reason} by ${nameOf(message.by)}`;
    case 'notice':
      return `notice ${nameOf(message.id)}@${message.incarnation} ${message.reason}`;
    case 'refused':
      return `refused: ${message.why}`;
    default:
      return undefined;
  }
}
