import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { ShoalError } from '../base/errors.js';
import { listenTcp } from '../mqtt/io/tcp.js';
import { listenTls } from '../mqtt/io/tls.js';
import { checkTlsFiles, type TlsFiles } from '../mqtt/io/tls-files.js';
import type { Accept, Listener, Places } from '../mqtt/transport.js';
import type { Config } from './config.js';
import type { Opened } from './mqtt-worker.js';
import { LISTENER_KINDS, type ListenerKind } from './security.js';

/** Time for PROXY header and TLS handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Time for the last bytes of a connection that is being closed. */
const END_TIMEOUT_MS = 5000;
const TCP_KEEP_ALIVE_SECONDS = 60;
/** Bytes that may arrive on a paused WebSocket: as much as a client has in flight, and no more. */
const WS_HELD_BYTES = 4 * 1024 * 1024;
const WS_HELD_TOTAL_BYTES = 256 * 1024 * 1024;

/**
 * Opens the configured listeners in this thread: those that `opened` names on the descriptor or port that another
 * shard has opened, the others anew. If one fails, those opened before it are closed and the error goes on.
 */
export async function openListeners(
  config: Config,
  accept: Accept,
  places: Places,
  opened: readonly Opened[],
): Promise<Listener[]> {
  const listeners: Listener[] = [];
  try {
    for (const kind of LISTENER_KINDS) {
      if (!config.listeners[kind].enabled) continue;
      const shared = opened.find(other => other.kind === kind);
      listeners.push(await open(config, kind, accept, places, shared));
    }
  } catch (error) {
    await Promise.all(listeners.map(listener => listener.destroy()));
    throw error;
  }
  return listeners;
}

/** Makes sure that what TLS listeners are to show can be read and belongs together. Throws SHOAL_TLS_CERTIFICATE. */
export async function checkListenerFiles(config: Config): Promise<void> {
  for (const kind of ['tls', 'wss'] as const)
    if (config.listeners[kind].enabled) await checkTlsFiles(await tlsFiles(config, kind));
}

async function open(
  config: Config,
  kind: ListenerKind,
  accept: Accept,
  places: Places,
  shared: Opened | undefined,
): Promise<Listener> {
  const { limits } = config;
  const settings = config.listeners[kind];
  const common = {
    host: settings.host,
    port: shared?.port ?? settings.port,
    places,
    endTimeoutMs: END_TIMEOUT_MS,
  };
  if (kind === 'ws' || kind === 'wss') {
    const web = config.listeners[kind];
    const { listenWs } = await loadWebSockets(kind);
    return listenWs(
      {
        ...common,
        backlog: WS_BACKLOG,
        path: web.path,
        // Several packets may come in one message, and one that is too large is to be told so (0x95).
        messageBytesMax: 2 * Math.max(limits.packetBytesMax, limits.connectBytesMax),
        heldBytesMax: Math.max(WS_HELD_BYTES, limits.packetBytesMax),
        heldTotalBytesMax: WS_HELD_TOTAL_BYTES,
        origins: web.origins,
        addressHeader: web.trustForwardedFor ? 'x-forwarded-for' : undefined,
        exclusive: shared === undefined,
        tls: kind === 'wss' ? await tlsFiles(config, kind) : undefined,
      },
      accept,
    );
  }
  const stream = config.listeners[kind];
  const options = {
    ...common,
    backlog: stream.backlog,
    fd: shared?.fd,
    proxyProtocol: stream.proxyProtocol,
    handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    tcpKeepAliveSeconds: TCP_KEEP_ALIVE_SECONDS,
  };
  if (kind === 'tcp') return listenTcp(options, accept);
  const requestClientCertificate = config.listeners.tls.clientCertificate;
  return listenTls({ ...options, tls: await tlsFiles(config, kind), requestClientCertificate }, accept);
}

/** Its native part is built for some versions of Node.js and glibc only; who wants no WebSockets does not need it. */
async function loadWebSockets(kind: ListenerKind): Promise<typeof import('../mqtt/io/ws.js')> {
  try {
    // A CommonJS package that throws while it is imported is an uncaught error of a worker thread besides.
    createRequire(import.meta.url)('uWebSockets.js');
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).trim().split('\n').at(-1);
    const message = `${kind}: uWebSockets.js cannot be loaded here (${reason})`;
    throw new ShoalError('SHOAL_WEBSOCKETS_UNAVAILABLE', message, { cause });
  }
  return import('../mqtt/io/ws.js');
}

/** uWebSockets.js sets its own. */
const WS_BACKLOG = 512;

async function tlsFiles(config: Config, kind: 'tls' | 'wss'): Promise<TlsFiles> {
  const { certFile, keyFile, passphraseFile } = config.listeners[kind];
  const caFile = kind === 'tls' ? config.listeners.tls.caFile : undefined;
  if (certFile === undefined || keyFile === undefined)
    throw new ShoalError(
      'SHOAL_TLS_CERTIFICATE',
      `listeners.${kind} is enabled without listeners.${kind}.certFile and listeners.${kind}.keyFile`,
    );
  const passphrase = passphraseFile === undefined ? undefined : await readPassphrase(passphraseFile);
  return { keyFile, certificateFile: certFile, authorityFile: caFile, passphrase };
}

async function readPassphrase(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trimEnd();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new ShoalError('SHOAL_TLS_CERTIFICATE', `tls: cannot read the passphrase file ${file} (${code})`, {
      cause,
    });
  }
}
