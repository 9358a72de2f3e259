import { assert } from '../../base/assert.js';
import { ByteReader } from '../../base/bytes.js';
import type { KvReader } from '../engine.js';
import type { Configuration } from '../raft/configuration.js';
import { decodeConfiguration } from '../raft/configuration-codec.js';
import { ENTRY, type Entry } from '../raft/ready.js';
import type { Coprocessor } from '../range.js';
import { COMMAND, type CommandHead, OUTCOME, readCommandHead } from './commands.js';
import {
  type Descriptor,
  putDescriptor,
  ROLE,
  sameConfiguration,
  wantedConfiguration,
  writeDescriptor,
} from './descriptor.js';
import { KNOWN, Sessions } from './sessions.js';
import { applyTransition, type Surroundings } from './transitions.js';
import { NO_OUTCOME, type Turn } from './turn.js';

/**
 * What the applied entries of a range have made: its descriptor, the numbers of what was applied, and what its
 * coprocessor keeps. Two replicas that have applied the same entries hold the same bytes in the engine.
 */
export class RangeState {
  descriptor: Descriptor;
  /** Of the applied entries; what Raft goes by may be ahead. */
  configuration: Configuration;
  readonly coprocessor: Coprocessor;
  readonly sessions: Sessions;
  private dirty = false;
  private readonly reader = new ByteReader();
  private readonly head: CommandHead = { command: 0, epoch: 0, lowest: 0 };

  constructor(descriptor: Descriptor, configuration: Configuration, coprocessor: Coprocessor) {
    this.descriptor = descriptor;
    this.configuration = configuration;
    this.coprocessor = coprocessor;
    this.sessions = new Sessions(descriptor.id);
  }

  /** Builds memory from what is stored. */
  open(reader: KvReader): void {
    this.sessions.open(reader);
    this.coprocessor.reset(this.descriptor.boundary, reader);
  }

  change(changed: Partial<Descriptor>): void {
    this.descriptor = { ...this.descriptor, ...changed };
    this.dirty = true;
  }

  /** Applies the next entry. One of OUTCOME, whose bytes are appended to the turn's output; or one of the above. */
  apply(entry: Entry, turn: Turn, around: Surroundings): number {
    if (entry.kind === ENTRY.EMPTY) return NO_OUTCOME;
    if (entry.kind === ENTRY.CONFIGURATION) return this.applyConfiguration(entry);
    const { session, sequence } = entry;
    const known = this.sessions.look(session, sequence);
    if (known === KNOWN.APPLIED) return OUTCOME.DONE_BEFORE;
    if (known === KNOWN.FORGOTTEN) return OUTCOME.FORGOTTEN;
    const body = this.reader.over(entry.data);
    const { head } = this;
    readCommandHead(body, sequence, head);
    const { command } = head;
    // Behind whatever the lost majority's log still holds.
    if (head.epoch !== this.descriptor.epoch && command !== COMMAND.RECOVER) {
      writeDescriptor(turn.outcomes.output, this.descriptor);
      return OUTCOME.WRONG_RANGE;
    }
    let outcome: number;
    if (command === COMMAND.SERVICE) {
      if (this.descriptor.merging !== undefined) return OUTCOME.MERGING;
      turn.touch(this.coprocessor);
      this.coprocessor.mutate(body, turn.writer, turn.outcomes.output);
      if (this.descriptor.pristine) this.change({ pristine: false });
      outcome = OUTCOME.DONE;
    } else outcome = applyTransition(this, command, body, entry.index, turn, around);
    if (outcome === OUTCOME.DONE)
      this.sessions.mark(session, sequence, head.lowest, entry.index, turn.writer);
    return outcome;
  }

  /** The final configuration makes the members what they were wanted to be. */
  private applyConfiguration(entry: Entry): number {
    const configuration = decodeConfiguration(entry.data);
    assert(configuration !== undefined, 'what is committed was made by one of us');
    this.configuration = configuration;
    const { descriptor } = this;
    if (!descriptor.changing || !sameConfiguration(configuration, wantedConfiguration(descriptor)))
      return NO_OUTCOME;
    const members = descriptor.members.filter(({ role }) => role !== ROLE.LEAVING);
    this.change({ members, changing: false, membersAt: entry.index });
    return NO_OUTCOME;
  }

  /** Behind the last entry of a transaction. */
  finish(turn: Turn): void {
    this.sessions.finish(turn.writer);
    if (!this.dirty) return;
    this.dirty = false;
    putDescriptor(turn.writer, this.descriptor);
  }
}
