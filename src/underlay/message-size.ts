import { crdtMessageBytes } from '../crdt/message.js';
import type { HostRecord, Message } from './message.js';

/**
 * How many bytes a message takes in an encoded packet, so that the machine can fill a datagram without encoding.
 * Estimates: `test/underlay/message-size.test.ts` holds them to the codec. What is too large in spite of them is
 * split by the driver.
 */

/** A packet without messages: header, seal, and the tables of field offsets, which messages of a kind share. */
export const PACKET_BYTES = 150;

/** Type, offset in the vector, and the table's own head, alignment included. */
const ENTRY_BYTES = 12;

/** Offset, length, terminator and, on average, alignment. */
const STRING_BYTES = 11;

export function messageBytes(message: Message): number {
  switch (message.kind) {
    case 'ping':
      return ENTRY_BYTES + 16;
    case 'ack':
    case 'nack':
    case 'mistaken':
      return ENTRY_BYTES + 12;
    case 'ping-request':
      return ENTRY_BYTES + 16 + textBytes(message.address);
    case 'join':
      return ENTRY_BYTES + 16 + recordBytes(message.record) + textBytes(message.environment);
    case 'alive':
      return ENTRY_BYTES + recordBytes(message.record);
    case 'suspect':
      return ENTRY_BYTES + 26;
    case 'gone':
      return ENTRY_BYTES + 24;
    case 'notice':
      return ENTRY_BYTES + 16;
    case 'refused':
      return ENTRY_BYTES + textBytes(message.why);
    case 'payload':
      return ENTRY_BYTES + textBytes(message.channel) + STRING_BYTES + message.bytes.length;
    case 'crdt':
      return ENTRY_BYTES + textBytes(message.map) + crdtMessageBytes(message.message);
  }
}

function recordBytes(record: HostRecord): number {
  let bytes = 36 + textBytes(record.name) + textBytes(record.address) + textBytes(record.version);
  for (const agent of record.agents) bytes += textBytes(agent);
  return bytes;
}

function textBytes(text: string): number {
  return STRING_BYTES + Buffer.byteLength(text);
}
