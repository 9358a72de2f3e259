/** What keys of engine tests begin with: not below KEY_FIRST_BYTE_MIN. */
export const FIRST = Buffer.from('k');
