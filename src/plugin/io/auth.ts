import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Env } from '../../base/env.js';
import { ShoalError } from '../../base/errors.js';
import { type Closable, Scope } from '../../base/scope.js';
import { AclAuthorizer, parseAcl } from '../acl.js';
import { parsePasswords } from '../credentials.js';
import {
  type Authenticator,
  type Authorizer,
  acceptAll,
  acceptCertificates,
  type Hooks,
  permitAll,
} from '../plugin.js';
import { PasswordAuthenticator } from './password.js';
import { WatchedFile } from './watched-file.js';

/** The part of the configuration that decides who is let in; a whole `Config` fits. */
export interface AuthSettings {
  readonly auth: {
    readonly anonymous?: boolean | undefined;
    readonly passwordFile?: string | undefined;
    readonly aclFile?: string | undefined;
    readonly plugin?: string | undefined;
  };
  readonly limits: {
    readonly authVerificationsMax: number;
    readonly authQueueMax: number;
    readonly authCacheEntriesMax: number;
    readonly authCacheSeconds: number;
  };
}

/** The hooks in force in this thread. */
export interface Auth extends Closable {
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  /** Looks at the files at once instead of at the next poll (SIGHUP). */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens the hooks that the settings name. Each thread calls it for itself; the main thread calls it once before
 * the others start, so that a bad file is one error and not one per thread.
 *
 * @throws ShoalError SHOAL_AUTH_FILE or SHOAL_AUTH_PLUGIN.
 */
export async function openAuth(settings: AuthSettings, env: Env): Promise<Auth> {
  const scope = new Scope();
  try {
    return await assemble(settings, env, scope);
  } catch (error) {
    await scope.close();
    throw error;
  }
}

async function assemble({ auth, limits }: AuthSettings, env: Env, scope: Scope): Promise<Auth> {
  const files: WatchedFile[] = [];
  const watch = async (path: string, apply: (text: string) => void) => {
    files.push(scope.own(await WatchedFile.open(path, apply, env.log)));
  };

  const hooks = auth.plugin === undefined ? {} : await loadHooks(auth.plugin);
  if (hooks.close) scope.own({ close: () => hooks.close!() });
  checkHooks(hooks, auth);

  let authenticator = hooks.authenticator ?? (auth.anonymous === false ? acceptCertificates : acceptAll);
  const { passwordFile, aclFile } = auth;
  if (passwordFile !== undefined) {
    const passwords = new PasswordAuthenticator(
      new Map(),
      {
        anonymous: auth.anonymous ?? false,
        verificationsMax: limits.authVerificationsMax,
        queueMax: limits.authQueueMax,
        cacheEntriesMax: limits.authCacheSeconds === 0 ? 0 : limits.authCacheEntriesMax,
        cacheSeconds: limits.authCacheSeconds,
      },
      env.clock,
    );
    await watch(passwordFile, text => passwords.replace(parsePasswords(text, passwordFile)));
    authenticator = passwords;
  }

  let authorizer = hooks.authorizer ?? permitAll;
  if (aclFile !== undefined) {
    const rules = new AclAuthorizer(parseAcl('', aclFile));
    await watch(aclFile, text => rules.replace(parseAcl(text, aclFile)));
    authorizer = rules;
  }

  return {
    authenticator,
    authorizer,
    reload: async () => {
      await Promise.all(files.map(file => file.look()));
    },
    close: () => scope.close(),
  };
}

async function loadHooks(plugin: string): Promise<Hooks> {
  let module: { hooks?: Hooks };
  try {
    module = await import(pathToFileURL(resolve(plugin)).href);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_AUTH_PLUGIN', `cannot load ${plugin}: ${reason}`, { cause });
  }
  if (typeof module.hooks !== 'object' || module.hooks === null) {
    throw new ShoalError('SHOAL_AUTH_PLUGIN', `${plugin} does not export "hooks"`);
  }
  return module.hooks;
}

/** Two sources for one answer, or none where the configuration looks as if there were one, is a mistake. */
function checkHooks(hooks: Hooks, { plugin, passwordFile, aclFile, anonymous }: AuthSettings['auth']): void {
  if (plugin === undefined) return;
  const fault = (message: string) => new ShoalError('SHOAL_AUTH_PLUGIN', `${plugin} ${message}`);
  const { authenticator, authorizer } = hooks;
  if (authenticator) {
    if (typeof authenticator.authenticate !== 'function' || typeof authenticator.continue !== 'function') {
      throw fault('has an authenticator without authenticate() and continue()');
    }
    if (passwordFile !== undefined)
      throw fault('has an authenticator, so auth.passwordFile would not be used');
  } else if (passwordFile === undefined && anonymous !== true) {
    throw fault('has no authenticator; set auth.passwordFile, or auth.anonymous: true');
  }
  if (authorizer) {
    if (typeof authorizer.mayPublish !== 'function' || typeof authorizer.maySubscribe !== 'function') {
      throw fault('has an authorizer without mayPublish() and maySubscribe()');
    }
    if (aclFile !== undefined) throw fault('has an authorizer, so auth.aclFile would not be used');
  }
}
