import { describe, expect, it } from 'vitest';
import { type Config, defaultConfig } from '../../src/node/config.js';
import { assertSecure, isLoopback, resolveHosts } from '../../src/node/security.js';

function configWith(change: (config: Config) => void): Config {
  const config = defaultConfig();
  change(config);
  resolveHosts(config);
  return config;
}

const insecure = expect.objectContaining({ code: 'SHOAL_INSECURE_LISTENER' });

describe('assertSecure', () => {
  it('binds to this machine alone without authentication', () => {
    const config = configWith(() => {});
    expect(Object.values(config.listeners).map(({ host }) => host)).toEqual(Array(4).fill('127.0.0.1'));
    expect(() => assertSecure(config)).not.toThrow();
  });

  it.each(['0.0.0.0', '::', '192.168.1.4', 'broker.example', '127.0.0.1.example'])(
    'refuses %s without any',
    host => {
      const config = configWith(({ listeners }) => {
        listeners.ws.host = host;
      });
      expect(() => assertSecure(config)).toThrow(insecure);
      expect(() => assertSecure(config)).toThrow(`listeners.ws would serve other machines on ${host}:8080`);
      config.listeners.ws.enabled = false;
      expect(() => assertSecure(config)).not.toThrow();
    },
  );

  it('opens when it is said outright, with a password file, a plugin or required certificates', () => {
    const open = configWith(({ listeners, auth }) => {
      listeners.tcp.host = '0.0.0.0';
      auth.anonymous = true;
    });
    expect(() => assertSecure(open)).not.toThrow();
    for (const name of ['passwordFile', 'plugin'] as const) {
      const config = configWith(({ auth }) => {
        auth[name] = 'x';
      });
      expect(config.listeners.tcp.host).toBe('0.0.0.0');
      expect(() => assertSecure(config)).not.toThrow();
    }
    const certificates = configWith(({ listeners }) => {
      Object.assign(listeners.tls, { enabled: true, host: '0.0.0.0', clientCertificate: 'required' });
    });
    expect(() => assertSecure(certificates)).not.toThrow();
    certificates.listeners.tls.clientCertificate = 'optional';
    expect(() => assertSecure(certificates)).toThrow(insecure);
  });
});

describe('isLoopback', () => {
  it.each(['127.0.0.1', '127.9.8.7', '::1', '[::1]', 'localhost', 'LOCALHOST', '::ffff:127.0.0.1'])(
    '%s',
    host => {
      expect(isLoopback(host)).toBe(true);
    },
  );
  it.each(['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', '127.0.0.1.evil.example', 'localhost.example', ''])(
    'not %s',
    host => {
      expect(isLoopback(host)).toBe(false);
    },
  );
});
