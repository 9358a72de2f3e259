/**
 * One TCP port for several threads, each with a descriptor of its own.
 *
 * Threads share a port by accepting on the same socket. Were they to share the descriptor too, the first thread to
 * close its listener, or to die, would close it for all: the others would be left holding a number that soon
 * means another file. Node has no dup(), but the kernel duplicates a descriptor that is sent over a Unix
 * socket, and Node's handles send descriptors (it is how `cluster` works). So the thread that outlives the others
 * opens a `SharedPort`, which binds but never listens, hence never accepts, and gives every other thread a duplicate
 * as `fd` of its `listenTcp` or `listenTls`; that listener owns it and closes it.
 *
 * The socket listens from the first such listener on, and goes on listening while the `SharedPort` is open: when a
 * thread dies, even the last, clients wait in the kernel's queue for its successor instead of being refused.
 *
 * The handle in which a duplicate arrives here cannot be closed without closing what was given away, so it is
 * abandoned: a few hundred bytes for each thread start, and never touched again.
 *
 * Needs the same internal bindings as `tcp-handle.ts`. `openSharedPort` tries them out, once for each port, and answers
 * undefined where they do not work; then `Listener.fd` of the first listener is what can be shared, with the consequence described above.
 */
import { closeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { listenError, resolveHost } from './listening.js';
import {
  internalBinding,
  loadTcpBinding,
  type SocketName,
  type TcpHandle,
  type WriteRequest,
} from './tcp-binding.js';

const PASS_TIMEOUT_MS = 2_000;

interface PipeHandle {
  onread: () => void;
  onconnection: (status: number, client: PipeHandle | undefined) => void;
  pendingHandle: TcpHandle | undefined;
  readonly fd: number;
  open(fd: number): number;
  bind(path: string): number;
  listen(backlog: number): number;
  connect(request: object, path: string): number;
  readStart(): number;
  writeUtf8String(request: WriteRequest, text: string, handle: TcpHandle): number;
  close(done?: () => void): void;
  unref(): void;
}

interface PipeBinding {
  readonly Pipe: new (kind: number) => PipeHandle;
  readonly PipeConnectWrap: new () => { oncomplete: (status: number) => void };
  readonly constants: { readonly SERVER: number; readonly IPC: number };
}

/** What a duplicate arrived in, and the accepting end of the pipe, whose descriptor belongs to another handle. */
const abandoned: object[] = [];

/** A bound port; see the head of this file. */
export class SharedPort {
  readonly host: string;
  readonly port: number;
  readonly #socket: TcpHandle;
  readonly #passage: DescriptorPassage;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(host: string, port: number, socket: TcpHandle, passage: DescriptorPassage) {
    this.host = host;
    this.port = port;
    this.#socket = socket;
    this.#passage = passage;
  }

  /** A new descriptor of the port, for one listener of any thread, which then owns it. */
  descriptor(): Promise<number> {
    const next = this.#last.then(() => this.#passage.duplicate(this.#socket));
    this.#last = next.catch(() => undefined);
    return next;
  }

  /** Closes this thread's own descriptor; listeners live on with theirs. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#last;
    this.#passage.close();
    await new Promise<void>(resolve => this.#socket.close(() => resolve()));
  }
}

/**
 * Binds a port for several threads. Undefined where this Node's internals do not allow it; throws
 * SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED. For the main thread only: at a worker's end Node would close what is
 * abandoned here, by numbers that mean something else by then.
 */
export async function openSharedPort(
  what: string,
  host: string,
  port: number,
): Promise<SharedPort | undefined> {
  const tcp = loadTcpBinding();
  const passage = tcp === undefined ? undefined : await openPassage();
  if (tcp === undefined || passage === undefined) return undefined;
  const address = await resolveHost(what, host, port);
  const socket = new tcp.TCP(tcp.kindServer);
  const name: SocketName = {};
  let status = address.includes(':') ? socket.bind6(address, port, 0) : socket.bind(address, port);
  // A port in use shows only now: libuv keeps that error of bind() back.
  if (status === 0) status = socket.getsockname(name);
  const bound = name.port ?? 0;
  if (status !== 0 || bound === 0) {
    passage.close();
    socket.close();
    throw listenError(what, host, port, status === 0 ? 'EADDRINUSE' : getSystemErrorName(status));
  }
  try {
    closeSync(await passage.duplicate(socket));
  } catch {
    passage.close();
    socket.close();
    return undefined;
  }
  return new SharedPort(host, bound, socket, passage);
}

/** A Unix socket from this thread to itself, through which a descriptor comes out duplicated. */
class DescriptorPassage {
  readonly #entry: PipeHandle;
  readonly #exit: PipeHandle;

  constructor(entry: PipeHandle, exit: PipeHandle) {
    this.#entry = entry;
    this.#exit = exit;
  }

  duplicate(handle: TcpHandle): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('a descriptor did not come through')), PASS_TIMEOUT_MS);
      this.#exit.onread = () => {
        const arrived = this.#exit.pendingHandle;
        if (arrived === undefined) return;
        this.#exit.pendingHandle = undefined;
        arrived.unref();
        abandoned.push(arrived);
        clearTimeout(timer);
        resolve(arrived.fd);
      };
      const request = new (loadTcpBinding()!.WriteWrap)();
      request.oncomplete = () => {};
      const status = this.#entry.writeUtf8String(request, 'd', handle);
      if (status !== 0) {
        clearTimeout(timer);
        reject(new Error(`a descriptor could not be sent (${getSystemErrorName(status)})`));
      }
    });
  }

  close(): void {
    this.#entry.close();
    this.#exit.close();
  }
}

/** Undefined when anything about it does not work here. */
async function openPassage(): Promise<DescriptorPassage | undefined> {
  const binding = internalBinding('pipe_wrap') as unknown as PipeBinding | undefined;
  if (typeof binding?.Pipe !== 'function' || typeof binding.PipeConnectWrap !== 'function') return undefined;
  const directory = await mkdtemp(join(tmpdir(), 'shoalmq-'));
  try {
    return await connectPassage(binding, join(directory, 'passage'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function connectPassage(binding: PipeBinding, path: string): Promise<DescriptorPassage | undefined> {
  const { Pipe, PipeConnectWrap, constants } = binding;
  return new Promise(resolve => {
    const server = new Pipe(constants.SERVER);
    // The entry is the accepting end. What accept() makes cannot send descriptors, so a second handle is put on its
    // descriptor; the first is never closed, or it would close whatever that number means by then.
    const entry = new Pipe(constants.IPC);
    const exit = new Pipe(constants.IPC);
    const finish = (passage: DescriptorPassage | undefined): void => {
      clearTimeout(timer);
      server.close();
      if (passage === undefined) {
        entry.close();
        exit.close();
      }
      resolve(passage);
    };
    const timer = setTimeout(finish, PASS_TIMEOUT_MS, undefined);
    server.onconnection = (status, accepted) => {
      if (status !== 0 || accepted === undefined || entry.open(accepted.fd) !== 0) {
        finish(undefined);
        return;
      }
      accepted.unref();
      abandoned.push(accepted);
      exit.onread = () => {};
      // The passage waits without keeping the thread alive.
      exit.unref();
      entry.unref();
      finish(exit.readStart() === 0 ? new DescriptorPassage(entry, exit) : undefined);
    };
    const request = new PipeConnectWrap();
    request.oncomplete = status => {
      if (status !== 0) finish(undefined);
    };
    if (server.bind(path) !== 0 || server.listen(1) !== 0) finish(undefined);
    else exit.connect(request, path);
  });
}
