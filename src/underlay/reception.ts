import type { Context } from './context.js';
import type { Detector } from './detector.js';
import { environmentHash } from './environment.js';
import type { HostMap } from './host-map.js';
import { isHostId, isHostRecord, isIncarnation } from './host-record.js';
import type { Joins } from './joins.js';
import type { Member } from './members.js';
import type { Address, HostId, Message, Packet, Path } from './message.js';
import { DETAIL_UNITS_MAX, type Refusals } from './refusals.js';
import type { Ready } from './underlay.js';
import type { View } from './view.js';

/** The parts of the machine that messages go to. */
export interface Parts extends Context {
  readonly view: View;
  readonly detector: Detector;
  readonly joins: Joins;
  readonly hostMap: HostMap;
  readonly refusals: Refusals;
}

/** Takes packets apart: who may speak at all, and which part of the machine each message is for. */
export class Reception {
  payloads: Ready['payloads'][number][] = [];
  crdt: Ready['crdt'][number][] = [];
  /** An operator's eviction has reached this host: nothing more is taken in. */
  isClosed = false;
  private sender: Member | undefined;
  private readonly parts: Parts;
  private readonly environment: number;

  constructor(parts: Parts) {
    this.parts = parts;
    this.environment = environmentHash(parts.environment);
  }

  receive(packet: Packet, from: Address, path: Path, nowMs: number): void {
    if (packet.environment !== this.environment) {
      this.refuse(packet, from, path);
      return;
    }
    const { own, view, joins } = this.parts;
    if (packet.from === own.id) {
      // Our own join to a seed that turns out to be ourselves.
      for (const message of packet.messages) if (message.kind === 'join') joins.onJoin(message, from, path);
      return;
    }
    if (!isHostId(packet.from)) return;
    this.sender = view.members.get(packet.from);
    if (this.sender === undefined && view.members.tombstone(packet.from)?.reason === 'evicted') {
      this.parts.refusals.note(from, 'evicted', '');
      joins.onStranger(packet.from, 0, from, path);
      return;
    }
    if (this.sender !== undefined) this.hear(this.sender, packet, nowMs);
    for (const message of packet.messages) {
      this.onMessage(message, packet.from, from, path, nowMs);
      if (this.isClosed) return;
    }
    if (this.senderOf(packet.from) === undefined && isIncarnation(packet.incarnation))
      joins.onStranger(packet.from, packet.incarnation, from, path);
  }

  private refuse({ messages }: Packet, from: Address, path: Path): void {
    const { environment, outbox, refusals } = this.parts;
    for (const message of messages) {
      if (message.kind === 'refused') {
        refusals.note(from, 'environment', message.why, true);
        return;
      }
      if (message.kind !== 'join') continue;
      const address = isHostRecord(message.record) ? message.record.address : from;
      if (!refusals.note(address, 'environment', message.environment)) return;
      const theirs = message.environment.slice(0, DETAIL_UNITS_MAX);
      const why = `cluster.env is "${environment}" here, not "${theirs}"`;
      outbox.push(path === 'datagram' ? from : address, 0, 'datagram', { kind: 'refused', why });
      return;
    }
    refusals.note(from, 'environment', '');
  }

  private onMessage(message: Message, by: HostId, from: Address, path: Path, nowMs: number): void {
    const { counters, detector, hostMap, joins, own, view } = this.parts;
    switch (message.kind) {
      case 'ping':
        this.onPing(message, by, from, path);
        break;
      case 'ack':
        detector.onAck(message.sequence, message.target, by, path, nowMs);
        break;
      case 'nack':
        detector.onNack(message.sequence, message.target);
        break;
      case 'mistaken':
        if (message.sequence === 0) joins.onMistaken(message.target);
        else detector.onMistaken(message.sequence, message.target);
        break;
      case 'ping-request': {
        const to = this.answerAddress(by, from, path);
        if (to === undefined) break;
        joins.correct(message.target, 0, by, to);
        detector.onPingRequest(message, by, to, nowMs);
        break;
      }
      case 'join':
        if (!view.isLeaving) joins.onJoin(message, from, path);
        break;
      case 'alive':
        counters.rumoursHeard += 1;
        view.alive(message.record, true);
        break;
      case 'suspect':
        counters.rumoursHeard += 1;
        if (view.suspect(message.id, message.incarnation, message.by)) this.onContradicted(by);
        this.correct(message.id, message.incarnation, by);
        break;
      case 'gone':
        counters.rumoursHeard += 1;
        if (view.gone(message.id, message.incarnation, message.reason, message.by)) this.onContradicted(by);
        break;
      case 'notice':
        if (message.id === own.id) joins.onNotice(message, by, from, path);
        break;
      case 'refused':
        break;
      case 'crdt':
        if (this.senderOf(by) === undefined) break;
        if (message.map === '') hostMap.receive(by, message.message, nowMs);
        else this.crdt.push({ from: by, map: message.map, message: message.message });
        break;
      case 'payload':
        if (this.senderOf(by) === undefined) break;
        this.payloads.push({ from: by, channel: message.channel, bytes: message.bytes });
        break;
    }
  }

  private onPing(ping: Extract<Message, { kind: 'ping' }>, by: HostId, from: Address, path: Path): void {
    const to = this.answerAddress(by, from, path);
    const { sequence, target } = ping;
    if (target !== this.parts.own.id) {
      if (to !== undefined) this.parts.outbox.push(to, by, path, { kind: 'mistaken', sequence, target });
      return;
    }
    if (to !== undefined) this.parts.outbox.push(to, by, path, { kind: 'ack', sequence, target });
    if (ping.suspected >= 0 && this.parts.view.suspect(target, ping.suspected, by)) this.onContradicted(by);
  }

  /** This host had to say that it lives: so it was slow, or cut off. Who said otherwise hears of it at once. */
  private onContradicted(by: HostId): void {
    this.parts.health.worse(1);
    const accuser = this.senderOf(by);
    if (accuser === undefined) return;
    this.parts.outbox.push(accuser.record.address, by, 'datagram', {
      kind: 'alive',
      record: this.parts.own.record,
    });
  }

  private correct(about: HostId, incarnation: number, by: HostId): void {
    const accuser = this.senderOf(by);
    if (accuser !== undefined) this.parts.joins.correct(about, incarnation, by, accuser.record.address);
  }

  /** Where an answer goes: to the asker's advertised address; a stranger's datagram is answered where it came from. */
  private answerAddress(id: HostId, from: Address, path: Path): Address | undefined {
    const member = this.senderOf(id);
    if (member !== undefined) return member.record.address;
    return path === 'datagram' ? from : undefined;
  }

  /** The sender of the packet at hand, which its messages may bring into the view or out of it. */
  private senderOf(id: HostId): Member | undefined {
    if (this.sender === undefined || this.sender.index < 0) this.sender = this.parts.view.members.get(id);
    return this.sender;
  }

  private hear(member: Member, { wallMs, incarnation }: Packet, nowMs: number): void {
    const { suspicion } = member;
    if (suspicion !== null && incarnation <= suspicion.incarnation) this.parts.joins.accuse(member);
    const clockSkewMs = wallMs - this.parts.env.clock.wallMs();
    if (member.link === null)
      member.link = { roundTripMs: -1, clockSkewMs, heardMs: nowMs, indirectOnly: 0, unmeasured: 0 };
    else {
      member.link.clockSkewMs = clockSkewMs;
      member.link.heardMs = nowMs;
    }
  }
}
