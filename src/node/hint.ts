import type { Config } from './config.js';
import type { ListenerKind } from './security.js';

/** How to try a listener: a command to paste, or the URL that a browser's MQTT.js takes. */
export function listenerHint(config: Config, kind: ListenerKind, host: string, port: number): string {
  const name = reachable(host);
  const user = config.auth.passwordFile === undefined ? '' : ' -u USER -P PASSWORD';
  if (kind === 'ws' || kind === 'wss') {
    const authority = name.includes(':') ? `[${name}]` : name;
    return `MQTT.js: mqtt.connect('${kind}://${authority}:${port}${config.listeners[kind].path}')`;
  }
  const secure = kind === 'tls' ? ` --cafile ${config.listeners.tls.certFile ?? 'ca.pem'}` : '';
  return `mosquitto_sub -h ${name} -p ${port}${secure}${user} -t 'demo/#' -v`;
}

/** What stands for the bound address on this machine. */
export function reachable(host: string): string {
  return host === '0.0.0.0' || host === '::' ? 'localhost' : host;
}
