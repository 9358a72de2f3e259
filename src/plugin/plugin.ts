/**
 * Hooks: what a site may replace without touching the broker. Each has a default, so a broker without any
 * plugin is complete.
 *
 * | hook | asks | default | built in |
 * | --- | --- | --- | --- |
 * | `Authenticator` | who is this client, and which tenant's? | {@link acceptAll} | password file, SCRAM-SHA-256 |
 * | `Authorizer` | may this client publish or subscribe there? | {@link permitAll} | ACL file |
 *
 * Hooks run inside the mqtt worker threads, one instance in each, opened by `io/auth.ts`.
 *
 * - **Authentication may take its time** (it can return a promise), since it happens once per connection and
 *   the connection waits for it under `limits.connectTimeoutMs`. A rejected promise refuses the client with
 *   0x83 (implementation specific error); it never stops the shard.
 * - **Authorisation is synchronous**: it is asked on the data path. Callers remember answers per session until
 *   `version` changes, so an implementation that changes its mind must raise `version`, and one whose answer
 *   depends on anything but the arguments and its rules cannot be built on this interface.
 * - **Enhanced authentication** (MQTT 5, 4.12): for a request with `authMethod` the authenticator may answer
 *   `continue`; the connection sends AUTH 0x18 with `data`, and hands the client's AUTH data with the same
 *   `exchange` to `continue()`. At most {@link EXCHANGE_STEPS_MAX} rounds. An exchange that the client abandons
 *   is simply forgotten, so it must hold nothing that needs closing.
 * - **Re-authentication** (AUTH 0x19) is an ordinary request whose `established` is the identity that the
 *   connection has. A refusal closes the connection; an acceptance must name the same tenant and user, which
 *   the connection checks, because session, subscriptions and quota belong to them.
 * - **An unknown method** is refused with 0x8C [MQTT-4.12.0-1].
 *
 * A tenant separates everything: topics, sessions, retained messages, client ids. Whoever has one tenant name
 * can never see another tenant's traffic, whatever the authorizer says. Without a plugin, a user name of the
 * form `tenant/user` known to the password file belongs to that tenant, every other to {@link DEFAULT_TENANT}.
 */

/** The tenant of clients that nobody has put elsewhere. */
export const DEFAULT_TENANT = 'default';

/** Rounds of AUTH packets before an exchange is given up with 0x87. */
export const EXCHANGE_STEPS_MAX = 8;

/** Reason codes that refusals use (MQTT 5, 2.4); the connection translates them for MQTT 3. */
export const REFUSE = {
  IMPLEMENTATION_SPECIFIC_ERROR: 0x83,
  BAD_USER_NAME_OR_PASSWORD: 0x86,
  NOT_AUTHORIZED: 0x87,
  SERVER_BUSY: 0x89,
  BAD_AUTHENTICATION_METHOD: 0x8c,
} as const;

/** A client certificate that the listener has verified. */
export interface CertificateInfo {
  /** Subject common name; empty when there is none. */
  readonly commonName: string;
  readonly fingerprint256: string;
  readonly serialNumber: string;
}

/** What a client has shown in CONNECT (or, to re-authenticate, in AUTH). */
export interface AuthRequest {
  /** As sent; empty when the broker is to assign one. */
  readonly clientId: string;
  readonly userName: string | undefined;
  readonly password: Uint8Array | undefined;
  /** 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5. */
  readonly protocolVersion: number;
  readonly transport: 'tcp' | 'tls' | 'ws' | 'wss';
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly certificate: CertificateInfo | undefined;
  readonly userProperties: readonly (readonly [string, string])[];
  readonly authMethod: string | undefined;
  readonly authData: Uint8Array | undefined;
  /** Set when a connected client re-authenticates. */
  readonly established: Identity | undefined;
}

/** Who a connection is, for as long as it lasts. */
export interface Identity {
  readonly tenant: string;
  /** Empty for an anonymous client. */
  readonly user: string;
  readonly clientId: string;
  /** Whatever the authenticator wants the authorizer to know. */
  readonly attributes: Readonly<Record<string, string>>;
}

export type AuthDecision =
  | {
      readonly kind: 'accept';
      readonly tenant: string;
      readonly user: string;
      readonly attributes?: Readonly<Record<string, string>>;
      /** Sent in CONNACK when the client asked for it [MQTT-3.1.2-28]. */
      readonly responseInformation?: string;
      /** Last word of an enhanced exchange, sent in CONNACK or AUTH 0x00. */
      readonly data?: Uint8Array;
    }
  | { readonly kind: 'continue'; readonly data: Uint8Array; readonly exchange: object }
  /** `reason` goes to the log and, where the client asked for problem information, into the reason string. */
  | { readonly kind: 'refuse'; readonly reasonCode: number; readonly reason: string };

export interface Authenticator {
  authenticate(request: AuthRequest): AuthDecision | Promise<AuthDecision>;
  /** The client's answer to an earlier `continue`; `exchange` is the object from that decision. */
  continue(exchange: object, data: Uint8Array | undefined): AuthDecision | Promise<AuthDecision>;
}

export interface Authorizer {
  /** Changes whenever an answer given earlier may have become wrong. */
  readonly version: number;
  mayPublish(identity: Identity, topic: string, qos: number, retain: boolean): boolean;
  /**
   * `filter` is without its `$share/group/` part. True only when everything that the filter can match may be
   * read, because deliveries are not asked about one by one.
   */
  maySubscribe(identity: Identity, filter: string, qos: number): boolean;
}

/** What a plugin module exports under the name `hooks`; either may be left out. */
export interface Hooks {
  readonly authenticator?: Authenticator;
  readonly authorizer?: Authorizer;
  /** Called once when the thread stops. */
  close?(): void | Promise<void>;
}

/** Lets everybody in, as who they say they are, unless a certificate proves better. */
export const acceptAll: Authenticator = {
  authenticate(request) {
    if (request.authMethod !== undefined) return unknownMethod(request.authMethod);
    const user = request.certificate?.commonName || request.userName || '';
    return { kind: 'accept', tenant: DEFAULT_TENANT, user };
  },
  continue() {
    return refuse(REFUSE.NOT_AUTHORIZED, 'no exchange is in progress');
  },
};

/** Lets in whoever shows a verified certificate, under its common name. */
export const acceptCertificates: Authenticator = {
  authenticate(request) {
    if (request.certificate?.commonName) return acceptAll.authenticate(request);
    return refuse(REFUSE.NOT_AUTHORIZED, 'no client certificate with a common name');
  },
  continue: acceptAll.continue,
};

/** Lets everybody publish and subscribe everywhere within their tenant. */
export const permitAll: Authorizer = {
  version: 0,
  mayPublish: () => true,
  maySubscribe: () => true,
};

export function refuse(reasonCode: number, reason: string): AuthDecision {
  return { kind: 'refuse', reasonCode, reason };
}

export function unknownMethod(method: string): AuthDecision {
  return refuse(
    REFUSE.BAD_AUTHENTICATION_METHOD,
    `authentication method ${JSON.stringify(method.slice(0, 64))} is not served`,
  );
}
