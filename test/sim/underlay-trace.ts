import { decodePacket } from '../../src/underlay/codec.js';
import type { HostId, Message, Packet } from '../../src/underlay/message.js';
import type { HostEvent } from '../../src/underlay/underlay.js';
import { newsWords } from '../underlay/words.js';

/** What the trace keeps of a packet: network.ts notes it so. */
interface Sent {
  readonly to: string;
  readonly payload: unknown;
}

/** How packets and events of the underlay read in a trace. `nameOf` gives an identity its label. */
export function underlayFormat(nameOf: (id: HostId) => string): (about: unknown) => string {
  return about => {
    if (typeof about !== 'object' || about === null) return String(about);
    if ('kind' in about) return eventWords(about as HostEvent, nameOf);
    const { to, payload } = about as Sent;
    const packet = payload instanceof Uint8Array ? decodePacket(payload) : (payload as Packet);
    const messages = packet?.messages.map(message => messageWords(message, nameOf)) ?? ['unreadable'];
    return `${to}: ${messages.join(' | ')}`;
  };
}

function eventWords(event: HostEvent, nameOf: (id: HostId) => string): string {
  if (event.kind === 'self-evicted') return `by ${nameOf(event.by)}`;
  const reason = event.kind === 'gone' ? ` (${event.reason})` : '';
  return `${nameOf(event.host.id)} at incarnation ${event.host.incarnation}${reason}`;
}

function messageWords(message: Message, nameOf: (id: HostId) => string): string {
  switch (message.kind) {
    case 'ping': {
      const suspected = message.suspected < 0 ? '' : ` suspected@${message.suspected}`;
      return `ping #${message.sequence} ${nameOf(message.target)}${suspected}`;
    }
    case 'ping-request':
    case 'ack':
    case 'nack':
    case 'mistaken':
      return `${message.kind} #${message.sequence} ${nameOf(message.target)}`;
    case 'join': {
      const expected = message.expected === 0 ? 'anybody' : nameOf(message.expected);
      const reply = message.reply ? ', reply' : '';
      return `join (${nameOf(message.record.id)}@${message.record.incarnation} looks for ${expected}${reply})`;
    }
    case 'crdt':
      return `crdt '${message.map}' ${JSON.stringify(message.message, shortened).slice(0, 200)}`;
    case 'payload':
      return `payload ${message.channel} (${message.bytes.length} bytes)`;
    default:
      return newsWords(message, nameOf) ?? message.kind;
  }
}

function shortened(_: string, value: unknown): unknown {
  return value instanceof Uint8Array ? `${value.length} bytes` : value;
}
