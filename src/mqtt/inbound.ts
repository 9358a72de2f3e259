import { assert } from '../base/assert.js';

/**
 * QoS 1 and 2 messages of one client that are not finished: how many count against the Receive Maximum that the
 * client was told, and the packet ids of QoS 2, which are published once however often they come [MQTT-4.3.3-10].
 */
export class Inbound {
  /** Messages begun on this connection that count against Receive Maximum (MQTT 5, 4.9). */
  open = 0;
  /** QoS 2 packet ids that are not released. */
  private received: Set<number> | null = null;
  /** Those among them that an earlier connection began: the client's quota starts anew with each connection. */
  private restored: Set<number> | null = null;
  /** Those among them whose PUBREC has not gone yet. */
  private pending: Set<number> | null = null;

  /** What an earlier connection left. */
  restore(packetIds: readonly number[]): void {
    if (packetIds.length === 0) return;
    this.received = new Set(packetIds);
    this.restored = new Set(packetIds);
  }

  /** A QoS 2 message with this id has come and is not released. */
  hasReceived(packetId: number): boolean {
    return this.received?.has(packetId) ?? false;
  }

  /** Its PUBREC is still to come. */
  isPending(packetId: number): boolean {
    return this.pending?.has(packetId) ?? false;
  }

  /** A new message. */
  begin(qos: number, packetId: number): void {
    this.open++;
    if (qos === 2) (this.received ??= new Set()).add(packetId);
  }

  /** A QoS 2 message waits for its PUBREC. */
  wait(packetId: number): void {
    (this.pending ??= new Set()).add(packetId);
  }

  /** PUBACK or PUBREC goes. A PUBACK, or a PUBREC that refuses, ends the message (MQTT 5, 4.9). */
  answer(qos: number, packetId: number, reasonCode: number): void {
    if (qos === 2) this.pending?.delete(packetId);
    if (qos === 1) this.close();
    else if (reasonCode >= 0x80) this.release(packetId);
  }

  /** PUBCOMP goes. */
  release(packetId: number): void {
    if (this.received === null || !this.received.delete(packetId)) return;
    if (this.restored === null || !this.restored.delete(packetId)) this.close();
  }

  private close(): void {
    this.open--;
    assert(this.open >= 0, 'what is finished was begun');
  }
}
