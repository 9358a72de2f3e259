/** Decides whether `tcp-handle.ts` works in this Node, by using it. */
import { connect } from 'node:net';
import { ReceiveMemory } from '../receive-memory.js';
import { type Listener, PLACE, type Places } from '../transport.js';
import { loadTcpBinding } from './tcp-binding.js';
import { listenTcpHandle } from './tcp-handle.js';

const PROBE_TIMEOUT_MS = 2_000;
const ONE_PLACE: Places = { take: () => PLACE.SEAT, giveBack: () => {} };
/** More than a loopback socket takes in one write, so that the asynchronous path is exercised too. */
const PROBE_BYTES = 8 * 1024 * 1024;

/**
 * True when a loopback listener on Node's own handle accepts a connection, echoes eight MiB both ways, and
 * closes in order, all within {@link PROBE_TIMEOUT_MS}; about 15 ms. Never throws.
 */
export async function probeTcpHandle(): Promise<boolean> {
  if (loadTcpBinding() === undefined) return false;
  let listener: Listener | undefined;
  try {
    let closedInOrder = false;
    listener = await listenTcpHandle(
      {
        host: '127.0.0.1',
        port: 0,
        backlog: 1,
        places: ONE_PLACE,
        endTimeoutMs: PROBE_TIMEOUT_MS,
        handshakeTimeoutMs: PROBE_TIMEOUT_MS,
        proxyProtocol: false,
        tcpKeepAliveSeconds: 1,
      },
      peer => ({
        memory: new ReceiveMemory(),
        onData: (bytes, start, end) => {
          if (peer.write(bytes.subarray(start, end)) > 0) peer.pause();
        },
        onGathering: gatherer => gatherer.deliverGathered(),
        onDrain: () => peer.resume(),
        onClose: cause => {
          closedInOrder = cause === undefined;
        },
      }),
    );
    const echoed = await echoThrough(listener.port);
    await listener.destroy();
    return echoed && closedInOrder;
  } catch {
    await listener?.destroy();
    return false;
  }
}

function echoThrough(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1');
    let receivedBytes = 0;
    let intact = true;
    const finish = (result: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(finish, PROBE_TIMEOUT_MS, false);
    socket.on('error', () => finish(false));
    socket.on('data', (chunk: Buffer) => {
      // A sample of each chunk tells whether bytes were lost or swapped.
      intact &&= chunk[0] === patternByte(receivedBytes);
      receivedBytes += chunk.length;
      intact &&= chunk.at(-1) === patternByte(receivedBytes - 1);
      if (receivedBytes === PROBE_BYTES) socket.end();
    });
    socket.on('end', () => finish(intact && receivedBytes === PROBE_BYTES));
    const bytes = Buffer.allocUnsafeSlow(PROBE_BYTES);
    for (let i = 0; i < PROBE_BYTES; i++) bytes[i] = patternByte(i);
    socket.write(bytes);
  });
}

function patternByte(index: number): number {
  return (index * 31 + (index >> 8)) & 255;
}
