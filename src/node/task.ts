import { type ErrorCode, ShoalError } from '../base/errors.js';

/** How a thread's task ended; a coded error crosses threads as data, since cloning an Error loses its code. */
export type TaskEnd =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** Makes a Piscina task of a function that runs a thread until it is told to stop. */
export function asTask<T>(run: (input: T) => Promise<void>): (input: T) => Promise<TaskEnd> {
  return async input => {
    try {
      await run(input);
      return { kind: 'stopped' };
    } catch (error) {
      if (!(error instanceof ShoalError)) throw error;
      return { kind: 'failed', code: error.code, message: error.message };
    }
  };
}
