/** A connection that a session is attached to, and how far it has been served. Not replicated. */
export class Owner {
  readonly peer: number;
  readonly connection: number;
  readonly tenant: string;
  readonly clientId: string;
  readonly instance: number;
  /** For when its thread dies without a word. */
  readonly expirySeconds: number;
  /** Next sequence number to push. */
  cursor: number;
  /** Messages that it may still be sent. */
  credit = 0;
  /** Number of its last change of subscriptions. When it attached there were none that are not settled. */
  lastChange = 0;
  /** Last sequence number that is durable. */
  tail: number;
  /** Last sequence number that was sent to the client before this connection. */
  sentSeq = 0;
  /** Last sequence number given out in this turn. */
  turnTail: number;
  /** The state at the beginning of the turn, to go back to when it fails. */
  private savedCursor = 0;
  private savedCredit = 0;
  /** Changed in this turn. */
  touched = false;
  /** In the list of those who wait for messages to be read back. */
  pumping = false;

  constructor(
    peer: number,
    connection: number,
    tenant: string,
    clientId: string,
    instance: number,
    expirySeconds: number,
    nextSeq: number,
  ) {
    this.peer = peer;
    this.connection = connection;
    this.tenant = tenant;
    this.clientId = clientId;
    this.instance = instance;
    this.expirySeconds = expirySeconds;
    this.cursor = nextSeq;
    this.tail = nextSeq - 1;
    this.turnTail = nextSeq - 1;
  }

  /** More credit, and another place to go on from unless `fromSeq` is 0. Holds whatever becomes of the turn. */
  grant(fromSeq: number, credit: number): void {
    this.credit += credit;
    this.savedCredit += credit;
    if (fromSeq === 0) return;
    this.cursor = fromSeq;
    this.savedCursor = fromSeq;
  }

  save(): void {
    this.touched = true;
    this.savedCursor = this.cursor;
    this.savedCredit = this.credit;
  }

  restore(): void {
    this.touched = false;
    this.cursor = this.savedCursor;
    this.credit = this.savedCredit;
    this.turnTail = this.tail;
  }

  settle(): void {
    this.touched = false;
    this.tail = this.turnTail;
  }
}
