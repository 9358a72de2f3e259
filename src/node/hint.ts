import type { Config } from './config.js';
import type { ListenerKind } from './security.js';

/** How to try a listener: a command to paste, or the URL that a browser's MQTT.js takes. */
export function listenerHint(config: Config, kind: ListenerKind, host: string, port: number): string {
  const reachable = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  const user = config.auth.passwordFile === undefined ? '' : ' -u USER -P PASSWORD';
  if (kind === 'ws' || kind === 'wss') {
    const authority = reachable.includes(':') ? `[${reachable}]` : reachable;
    return `MQTT.js: mqtt.connect('${kind}://${authority}:${port}${config.listeners[kind].path}')`;
  }
  const secure = kind === 'tls' ? ` --cafile ${config.listeners.tls.certFile ?? 'ca.pem'}` : '';
  return `mosquitto_sub -h ${reachable} -p ${port}${secure}${user} -t 'demo/#' -v`;
}
