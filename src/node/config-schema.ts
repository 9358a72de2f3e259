import { z } from 'zod';

/**
 * Every configuration key with its type, default and meaning: the only declaration. The `Config` type, the
 * validation, the table in the README and `shoalmq config-keys` are derived from it. Units stand last in a
 * name. A value of `auto` is replaced by what it means when the configuration is loaded (`config.ts`),
 * except under `threads`, where the node decides when it has looked at the machine.
 *
 * Only plain data, so that a whole `Config` can be handed to a worker thread by structured clone.
 */

const flag = (initial: boolean, meaning: string) => z.boolean().default(initial).describe(meaning);
const whole = (initial: number, low: number, high: number, meaning: string) =>
  z.number().int().min(low).max(high).default(initial).describe(meaning);
const choice = <const T extends [string, ...string[]]>(values: T, initial: T[number], meaning: string) =>
  z
    .enum(values)
    .default(initial as never)
    .describe(meaning);
const text = z.string().min(1).max(4096);
const threadCount = (meaning: string) =>
  z
    .union([z.literal('auto'), z.number().int().min(1).max(256)])
    .default('auto')
    .describe(meaning);

const UINT32_MAX = 0xffff_ffff;

/** Keys whose values are shown by no message and no command. */
export const SECRET_KEYS: ReadonlySet<string> = new Set(['cluster.key', 'cluster.previousKey']);
const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const host = text
  .default('auto')
  .describe('address to bind; auto is 0.0.0.0 when authentication is configured, 127.0.0.1 otherwise');
const port = (initial: number) => whole(initial, 0, 65_535, 'port; 0 takes any free one');
const enabled = (initial: boolean) => flag(initial, 'open this listener');

const stream = {
  backlog: whole(4096, 1, 65_535, 'connections the kernel holds until they are accepted'),
  proxyProtocol: flag(false, 'every connection begins with a PROXY protocol header (v1 or v2)'),
};

const identity = {
  certFile: text.optional().describe('certificate chain, PEM'),
  keyFile: text.optional().describe('private key, PEM'),
  passphraseFile: text.optional().describe('file holding the passphrase of the private key'),
};

/** Not for WSS: uWebSockets.js does not show us what a client presents. */
const clientIdentity = {
  caFile: text.optional().describe('authorities that client certificates are checked against, PEM'),
  clientCertificate: choice(['off', 'optional', 'required'], 'off', 'ask clients for a certificate'),
};

const web = {
  path: z
    .string()
    .regex(/^\/\S*$/, 'begins with /')
    .default('/mqtt')
    .describe('path of the WebSocket endpoint'),
  trustForwardedFor: flag(false, 'take the client address from X-Forwarded-For (only behind your own proxy)'),
  origins: z
    .array(text)
    .max(1000)
    .default([])
    .describe('Origin headers that are let in; an empty list lets all in'),
};

const listeners = z.strictObject({
  tcp: z.strictObject({ enabled: enabled(true), host, port: port(1883), ...stream }).prefault({}),
  tls: z
    .strictObject({
      enabled: enabled(false),
      host,
      port: port(8883),
      ...stream,
      ...identity,
      ...clientIdentity,
    })
    .prefault({}),
  ws: z.strictObject({ enabled: enabled(true), host, port: port(8080), ...web }).prefault({}),
  wss: z.strictObject({ enabled: enabled(false), host, port: port(8443), ...web, ...identity }).prefault({}),
});

const cluster = z.strictObject({
  enabled: z
    .union([z.literal('auto'), z.boolean()])
    .default('auto')
    .describe(
      'be a host of a cluster; auto is true when seeds, key, keyFile, host, port or advertise is set',
    ),
  env: z
    .string()
    .regex(/^[\w.-]{1,64}$/)
    .default('default')
    .describe('name of the cluster; hosts with another one are refused'),
  host: text.default('127.0.0.1').describe('address to bind, UDP and TCP; anything but loopback wants a key'),
  port: whole(4800, 1, 65_535, 'port, UDP and TCP'),
  advertise: text
    .optional()
    .describe('host or host:port at which other hosts reach this one; found out when not given'),
  seeds: z
    .array(text)
    .max(256)
    .default([])
    .describe('hosts to join: host:port, a DNS name (all its addresses), or an SRV name (begins with _)'),
  keyFile: text
    .optional()
    .describe(
      'file holding the secret that all hosts share, which seals every packet; a second line holds one that is accepted too; reread when it changes',
    ),
  previousKeyFile: text.optional().describe('file of a second secret that is accepted too, for a rotation'),
  key: text.optional().describe('the secret itself; better in keyFile, or in the environment'),
  previousKey: text.optional().describe('the second secret itself'),
  insecure: flag(false, 'let anybody who reaches the port join; must be said outright to bind so'),
  tls: z
    .strictObject({
      certFile: text.optional().describe('certificate chain of this host, PEM; its TCP then is TLS'),
      keyFile: text.optional().describe('private key, PEM'),
      caFile: text
        .optional()
        .describe("the cluster's own authority, PEM; both sides must show what it signed"),
    })
    .prefault({}),
  probeIntervalMs: whole(
    1_000,
    100,
    60_000,
    'between two probes; the time to find a dead host grows with it',
  ),
  probeTimeoutMs: whole(500, 20, 30_000, 'for a direct answer, before others are asked to probe'),
  seedRetryMsMax: whole(30_000, 100, 600_000, 'longest pause between two joins to a seed that is away'),
});

const rpc = z.strictObject({
  host: text
    .default('auto')
    .describe('address to bind; auto is cluster.host; anything but loopback wants rpc.tls with caFile'),
  port: port(4801),
  groups: z
    .array(z.string().regex(/^[a-z0-9_-]{1,32}$/))
    .max(16)
    .default([])
    .describe('groups that the services of this node are in, for "shoalmq traffic"; none: untagged'),
  tls: z
    .strictObject({
      certFile: text
        .optional()
        .describe(
          'certificate chain of this host, PEM; with none of the three, those of cluster.tls are taken',
        ),
      keyFile: text.optional().describe('private key, PEM'),
      caFile: text
        .optional()
        .describe("the cluster's own authority, PEM; both sides must show what it signed"),
    })
    .prefault({}),
});

const limits = z.strictObject({
  packetBytesMax: whole(MIB, 128, 268_435_460, 'largest MQTT packet, sent or received'),
  connectBytesMax: whole(128 * KIB, 128, 268_435_460, 'largest CONNECT packet (it comes before any trust)'),
  connectTimeoutMs: whole(20_000, 100, 600_000, 'from the opened socket to a complete CONNECT'),
  connectRatePerSecondMax: whole(20_000, 1, 1_000_000, 'new connections per second, whole node'),
  connectionsMax: whole(
    1_000_000,
    1,
    100_000_000,
    'open connections, whole node; fewer where the limit of open files is lower',
  ),
  keepAliveSecondsMax: whole(
    65_535,
    1,
    65_535,
    'longest keep-alive; MQTT 5 clients are told, others held to it',
  ),
  keepAliveSecondsDefault: whole(
    0,
    0,
    65_535,
    'keep-alive given to clients that ask for none; 0 leaves it off',
  ),
  clientIdBytesMax: whole(1024, 23, 65_535, 'longest client identifier; in MQTT 3.1, too, which stops at 23'),
  topicBytesMax: whole(4096, 16, 65_535, 'longest topic name or filter'),
  topicLevelsMax: whole(32, 1, 1024, 'levels in a topic name or filter'),
  topicLevelBytesMax: whole(1024, 16, 65_535, 'longest single level'),
  subscriptionsPerSessionMax: whole(10_000, 1, 1_000_000, 'subscriptions of one session'),
  filtersPerSubscribeMax: whole(1024, 1, 65_535, 'filters in one SUBSCRIBE or UNSUBSCRIBE packet'),
  inflightInboundMax: whole(1024, 1, 65_535, 'unacknowledged QoS 1 and 2 from one client (Receive Maximum)'),
  inflightOutboundMax: whole(256, 1, 65_535, 'unacknowledged QoS 1 and 2 to one client'),
  topicAliasMax: whole(32, 0, 65_535, 'topic aliases per connection and direction'),
  qosMax: whole(2, 0, 2, 'highest QoS served (Maximum QoS)'),
  sessionExpirySecondsMax: whole(604_800, 0, UINT32_MAX, 'longest life of a session without a connection'),
  queueMessagesMax: whole(1000, 1, 10_000_000, 'messages queued for one session'),
  queueBytesMax: whole(16 * MIB, KIB, 64 * GIB, 'bytes queued for one session'),
  queueDropPolicy: choice(['newest', 'oldest'], 'newest', 'which message goes when a queue is full'),
  connectionBufferBytesMax: whole(
    MIB,
    16 * KIB,
    GIB,
    'bytes waiting for a slow socket before QoS 0 is dropped',
  ),
  pendingPublishMax: whole(1024, 1, 1_000_000, 'messages of one publisher being routed before reading stops'),
  pendingPublishBytesMax: whole(4 * MIB, KIB, 4 * GIB, 'bytes of the same'),
  retainedMessagesMax: whole(10_000_000, 0, 1_000_000_000, 'retained messages, whole node'),
  retainedBytesMax: whole(4 * GIB, 0, 1024 * GIB, 'bytes of retained messages, whole node'),
  willBytesMax: whole(65_535, 0, 65_535, 'largest will payload'),
  topicCacheEntriesMax: whole(
    65_536,
    16,
    16_777_216,
    'topics whose receivers are remembered, per mqtt thread',
  ),
  sharedGroupMembersMax: whole(10_000, 1, 1_000_000, 'members of one shared subscription'),
  authVerificationsMax: whole(2, 1, 64, 'passwords verified at the same time, per mqtt thread'),
  authQueueMax: whole(1024, 1, 1_000_000, 'clients waiting for that before others are refused as busy'),
  authCacheEntriesMax: whole(
    16_384,
    0,
    1_000_000,
    'users whose right password is remembered, per mqtt thread',
  ),
  authCacheSeconds: whole(60, 0, 3600, 'how long'),
});

const features = z.strictObject({
  mqtt31: flag(true, 'serve MQTT 3.1'),
  mqtt311: flag(true, 'serve MQTT 3.1.1'),
  mqtt5: flag(true, 'serve MQTT 5'),
  retain: flag(true, 'retained messages'),
  wildcards: flag(true, '+ and # in filters'),
  sharedSubscriptions: flag(true, '$share and $oshare'),
  subscriptionIdentifiers: flag(true, 'subscription identifiers (MQTT 5)'),
});

export const configSchema = z.strictObject({
  node: z
    .strictObject({
      name: text.max(255).default('auto').describe('name of this node; auto is the host name'),
      dataDir: text.default('./data').describe('directory of the databases; made if missing'),
    })
    .prefault({}),
  threads: z
    .strictObject({
      mqtt: threadCount('threads that own connections'),
      match: threadCount(
        'threads that own the subscription index; only the first has work until ranges split',
      ),
      apply: threadCount(
        'threads that own sessions and retained messages; only the first has work until ranges split',
      ),
      pin: z
        .union([z.enum(['auto', 'off']), z.array(z.number().int().min(0).max(4095)).min(1).max(1024)])
        .default('auto')
        .describe('bind threads to CPUs: auto where there are enough, off, or the CPU numbers to use'),
    })
    .prefault({}),
  listeners: listeners.prefault({}),
  auth: z
    .strictObject({
      anonymous: z
        .boolean()
        .optional()
        .describe('let clients in without a user name; must be said outright to serve other machines so'),
      passwordFile: text.optional().describe('users and password hashes, written by "shoalmq passwd"'),
      aclFile: text.optional().describe('who may publish and subscribe where'),
      plugin: text.optional().describe('JavaScript module with an authenticator or authorizer of your own'),
    })
    .prefault({}),
  storage: z
    .strictObject({
      durability: choice(['flush', 'async'], 'flush', 'acknowledge when on disk, or when in the page cache'),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      enabled: flag(true, 'serve /metrics, /healthz and /readyz'),
      host: text.default('127.0.0.1').describe('address to bind'),
      port: port(9464),
    })
    .prefault({}),
  cluster: cluster.prefault({}),
  rpc: rpc.prefault({}),
  admin: z
    .strictObject({
      enabled: z
        .union([z.literal('auto'), z.boolean()])
        .default('auto')
        .describe('serve the commands "shoalmq cluster ..."; auto is true in a cluster'),
      host: text.default('127.0.0.1').describe('address to bind; the token travels in the clear'),
      port: port(9465),
    })
    .prefault({}),
  sys: z
    .strictObject({ intervalSeconds: whole(10, 0, 3600, 'between two rounds of $SYS topics; 0 for none') })
    .prefault({}),
  shutdown: z
    .strictObject({
      timeoutMs: whole(
        10_000,
        100,
        600_000,
        'for an orderly stop; then the process kills itself (exit code 137)',
      ),
      publishWills: flag(false, 'publish the wills of the clients that a stop of the server disconnects'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: choice(['debug', 'info', 'warn', 'error', 'silent'], 'info', 'least severe entry written'),
      format: choice(['auto', 'pretty', 'json'], 'auto', 'auto is pretty on a terminal, json elsewhere'),
    })
    .prefault({}),
  limits: limits.prefault({}),
  features: features.prefault({}),
});
