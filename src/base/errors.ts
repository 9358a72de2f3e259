/**
 * The one table of error codes. A code is stable: users search for it, tests compare it, logs carry it.
 * `remedy` says what the reader can do; it is printed after the message.
 */
export const ERRORS = {
  SHOAL_CONFIG_INVALID: 'Correct the named key; "shoalmq check-config" prints what is in effect.',
  SHOAL_CONFIG_UNREADABLE: 'Check that the file exists, is readable, and is valid YAML.',
  SHOAL_LISTEN_IN_USE: 'Stop the other program on that port, or choose another port.',
  SHOAL_LISTEN_FAILED: 'Check that the host is an address of this machine and that the port may be opened.',
  SHOAL_WEBSOCKETS_UNAVAILABLE:
    'Run Node.js 20, or Linux with glibc 2.38 or newer, or set listeners.ws.enabled and listeners.wss.enabled to false.',
  SHOAL_INSECURE_LISTENER:
    'Configure auth.passwordFile, bind to 127.0.0.1, or say auth.anonymous: true outright.',
  SHOAL_AUTH_FILE: 'Correct the named file; "shoalmq passwd" writes password files.',
  SHOAL_AUTH_PLUGIN:
    'Check auth.plugin: a JavaScript module that exports "hooks" (see src/plugin/plugin.ts).',
  SHOAL_TLS_CERTIFICATE: 'Check that the certificate and key files exist, are PEM, and belong together.',
  SHOAL_INSECURE_CLUSTER:
    'Give all hosts the same cluster.keyFile (openssl rand -base64 32 > FILE), bind cluster.host to 127.0.0.1, or say cluster.insecure: true outright.',
  SHOAL_INSECURE_RPC:
    'Give all hosts certificates of one authority (rpc.tls.certFile, keyFile and caFile), bind rpc.host to 127.0.0.1, or say cluster.insecure: true outright.',
  SHOAL_CLUSTER_KEY:
    'Make cluster.keyFile by "openssl rand -base64 32 > FILE", the same on all hosts; a pass phrase of 16 characters or more does as well.',
  SHOAL_CLUSTER_ADDRESS:
    'Set cluster.advertise to the address, or address:port, at which the other hosts reach this one.',
  SHOAL_ADMIN_TOKEN: 'Delete the file: the node makes a new one at its next start.',
  SHOAL_ADMIN_UNREACHABLE:
    'Name a running node of a cluster as it was started (--config FILE, --set node.dataDir=DIR), or by --url and --token-file. A node that is in no cluster can be asked when it has admin.enabled: true.',
  SHOAL_ADMIN_REFUSED:
    '"shoalmq cluster members", "shoalmq kv ranges" and "shoalmq kv stores" show what the node knows.',
  SHOAL_DATA_DIR_LOCKED: 'Another process uses this data directory: stop it, or choose another node.dataDir.',
  SHOAL_DATA_DIR_UNUSABLE: 'Check that node.dataDir can be created and written by this user.',
  SHOAL_STORAGE_CORRUPT:
    'The database cannot be trusted and is not served: restore a copy of all of node.dataDir, or move all of it away; its parts belong together.',
  SHOAL_STORAGE_VERSION:
    'The data was written by a newer ShoalMQ: run that version, or another node.dataDir.',
  SHOAL_STORAGE_FULL: 'Free disk space; nothing was acknowledged that is not stored.',
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** An error with a stable code and a remedy. Startup prints it in one line, without a stack. */
export class ShoalError extends Error {
  override readonly name = 'ShoalError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get remedy(): string {
    return ERRORS[this.code];
  }
}

/** Whether an engine has found no room: nothing of the transaction is in force, and the next one may fit. */
export function isStorageFull(error: unknown): boolean {
  return error instanceof ShoalError && error.code === 'SHOAL_STORAGE_FULL';
}
