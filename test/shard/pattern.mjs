// Frames whose content follows from (sender, sequence): a receiver rebuilds each one and compares every byte.
// Plain JavaScript, because the worker threads of these tests load it without a transform.

const POOL_BYTES = 1 << 20;
const pool = Buffer.alloc(POOL_BYTES);
let state = 0x9e3779b9;
for (let i = 0; i < POOL_BYTES; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  pool[i] = state >>> 24;
}

const HEADER_BYTES = 8;

function mix(a, b) {
  let x = Math.imul(a + 1, 0x85ebca6b) ^ Math.imul(b + 1, 0xc2b2ae35);
  x ^= x >>> 15;
  x = Math.imul(x, 0x27d4eb2d);
  return (x ^ (x >>> 13)) >>> 0;
}

/** Length of the payload of frame `seq`: mostly small, now and then some KiB, rarely up to `largest`. */
function payloadBytes(sender, seq, largest) {
  const x = mix(sender, seq);
  if (x % 4093 === 0) return mix(x, 1) % largest;
  if (x % 31 === 0) return mix(x, 2) % 3000;
  return mix(x, 3) % 120;
}

export class Source {
  constructor(sender, largest) {
    this.sender = sender;
    this.largest = largest;
    this.seq = 0;
    this.bytes = Buffer.alloc(HEADER_BYTES + largest);
  }

  /** Builds the next frame in `bytes`; its end. */
  next() {
    const seq = this.seq++;
    const length = payloadBytes(this.sender, seq, this.largest);
    this.bytes.writeUInt32LE(this.sender, 0);
    this.bytes.writeUInt32LE(seq, 4);
    const from = mix(seq, this.sender) % (POOL_BYTES - this.largest);
    pool.copy(this.bytes, HEADER_BYTES, from, from + length);
    return HEADER_BYTES + length;
  }
}

export class Sink {
  constructor(sender, largest) {
    this.sender = sender;
    this.largest = largest;
    this.seq = 0;
  }

  /** Throws on any frame that is not exactly the next one. */
  take(bytes, start, end) {
    const seq = this.seq++;
    const sender = bytes.readUInt32LE(start);
    const got = bytes.readUInt32LE(start + 4);
    if (sender !== this.sender || got !== seq) {
      throw new Error(`expected frame ${seq} of ${this.sender}, got frame ${got} of ${sender}`);
    }
    const length = payloadBytes(sender, seq, this.largest);
    if (end - start !== HEADER_BYTES + length)
      throw new Error(`frame ${seq} of ${sender} has a wrong length`);
    const from = mix(seq, sender) % (POOL_BYTES - this.largest);
    if (pool.compare(bytes, start + HEADER_BYTES, end, from, from + length) !== 0) {
      throw new Error(`frame ${seq} of ${sender} is torn`);
    }
  }
}
