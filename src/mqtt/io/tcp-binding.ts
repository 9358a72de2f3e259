/**
 * Node's own TCP handle (`tcp_wrap`, `stream_wrap`), as far as `tcp-handle.ts` uses it.
 *
 * These bindings are internal and deprecated (DEP0111), so nothing may rely on them: `loadTcpBinding` returns
 * undefined when they are missing, refused (permission model) or shaped otherwise, and `probeTcpHandle` then
 * tries the real thing before it is chosen. Facts relied upon, all exercised by the probe:
 * - `writeBuffer(req, buffer)` first tries the kernel. When it took everything, `req` was not touched and can be
 *   used for the next write; otherwise `req` and the buffer belong to the write until `req.oncomplete`.
 * - After `useUserBuffer(buffer)` every read goes to that memory, `onread` is called with the length in
 *   `streamBaseState`, and libuv reads again only after `onread` returned. The handle does not keep the buffer
 *   alive, so it lives as long as its thread.
 * - A handle is kept alive by the event loop until its close callback has run, whatever JavaScript refers to it.
 */

export interface WriteRequest {
  oncomplete: ((this: WriteRequest, status: number) => void) | undefined;
  peer: unknown;
  bytes: Buffer | undefined;
}

export interface TcpHandle {
  onread: (this: TcpHandle) => void;
  onconnection: (this: TcpHandle, status: number, client: TcpHandle | undefined) => void;
  readonly fd: number;
  readonly writeQueueSize: number;
  /** What we attach: the HandlePeer or HandleListener that this handle belongs to. */
  owner: unknown;
  open(fd: number): number;
  bind(address: string, port: number, flags?: number): number;
  bind6(address: string, port: number, flags: number): number;
  listen(backlog: number): number;
  connect(request: object, address: string, port: number): number;
  getsockname(out: SocketName): number;
  getpeername(out: SocketName): number;
  setNoDelay(on: boolean): number;
  setKeepAlive(on: boolean, delaySeconds: number): number;
  useUserBuffer(buffer: Buffer): void;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: WriteRequest, bytes: Buffer): number;
  shutdown(request: WriteRequest): number;
  close(done?: (this: TcpHandle) => void): void;
  unref(): void;
}

export interface SocketName {
  address?: string;
  port?: number;
  family?: string;
}

export interface TcpBinding {
  readonly TCP: new (kind: number) => TcpHandle;
  readonly TCPConnectWrap: new () => { oncomplete: (status: number) => void };
  readonly WriteWrap: new () => WriteRequest;
  readonly ShutdownWrap: new () => WriteRequest;
  readonly kindSocket: number;
  readonly kindServer: number;
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

type RawBinding = Record<string, never> & Record<string, unknown>;

let loaded: TcpBinding | undefined;
let tried = false;

/** The bindings, or undefined where this Node does not offer them in the known shape. */
export function loadTcpBinding(): TcpBinding | undefined {
  if (!tried) {
    tried = true;
    loaded = tryLoad();
  }
  return loaded;
}

function tryLoad(): TcpBinding | undefined {
  const tcp = internalBinding('tcp_wrap');
  const stream = internalBinding('stream_wrap');
  if (tcp === undefined || stream === undefined) return undefined;
  const constants = tcp.constants as Record<string, number> | undefined;
  const binding = {
    TCP: tcp.TCP,
    TCPConnectWrap: tcp.TCPConnectWrap,
    WriteWrap: stream.WriteWrap,
    ShutdownWrap: stream.ShutdownWrap,
    kindSocket: constants?.SOCKET,
    kindServer: constants?.SERVER,
    streamBaseState: stream.streamBaseState,
    kReadBytesOrError: stream.kReadBytesOrError,
    kLastWriteWasAsync: stream.kLastWriteWasAsync,
  };
  return hasKnownShape(binding) ? (binding as unknown as TcpBinding) : undefined;
}

function hasKnownShape(binding: Record<string, unknown>): boolean {
  for (const name of ['TCP', 'TCPConnectWrap', 'WriteWrap', 'ShutdownWrap']) {
    if (typeof binding[name] !== 'function') return false;
  }
  for (const name of ['kindSocket', 'kindServer', 'kReadBytesOrError', 'kLastWriteWasAsync']) {
    if (typeof binding[name] !== 'number') return false;
  }
  if (!ArrayBuffer.isView(binding.streamBaseState)) return false;
  const methods = (binding.TCP as { prototype: Record<string, unknown> }).prototype;
  return ['useUserBuffer', 'writeBuffer', 'shutdown', 'readStart', 'readStop', 'open', 'bind', 'bind6'].every(
    name => typeof methods[name] === 'function',
  );
}

/** `process.binding` without the warning that `--pending-deprecation` would print: users can do nothing about it. */
export function internalBinding(name: string): RawBinding | undefined {
  const host = process as unknown as { binding?: (name: string) => RawBinding; noDeprecation?: boolean };
  if (typeof host.binding !== 'function') return undefined;
  const before = host.noDeprecation;
  host.noDeprecation = true;
  try {
    return host.binding(name);
  } catch {
    return undefined;
  } finally {
    if (before === undefined) delete host.noDeprecation;
    else host.noDeprecation = before;
  }
}
