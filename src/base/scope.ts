/** Whatever opens returns something to close. */
export interface Closable {
  close(): void | Promise<void>;
}

/** Owns closables and closes them in the reverse of the order in which they came, each exactly once. */
export class Scope implements Closable {
  private owned: Closable[] = [];
  private closing: Promise<void> | undefined;

  /** Takes ownership of `closable` and hands it back. */
  own<T extends Closable>(closable: T): T {
    this.owned.push(closable);
    return closable;
  }

  /** Closes all that is owned; a failure does not keep the rest open, the first one is thrown at the end. */
  close(): Promise<void> {
    this.closing ??= this.closeAll();
    return this.closing;
  }

  private async closeAll(): Promise<void> {
    const failures: unknown[] = [];
    for (let closable = this.owned.pop(); closable; closable = this.owned.pop()) {
      try {
        await closable.close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
