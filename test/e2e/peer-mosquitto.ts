import type { Settings } from './broker.js';

/** The nearest mosquitto.conf to a set of our configuration keys; what has no counterpart is left out. */
export function mosquittoConfig(settings: Settings): string {
  const lines = [
    'user root',
    'allow_anonymous true',
    'allow_zero_length_clientid true',
    'persistence true',
    `persistence_location ${settings['node.dataDir']}/`,
    `max_inflight_messages ${settings['limits.inflightOutboundMax'] ?? 256}`,
    `max_queued_messages ${settings['limits.queueMessagesMax'] ?? 1000}`,
    `sys_interval ${settings['sys.intervalSeconds'] ?? 10}`,
  ];
  if (settings['limits.keepAliveSecondsMax']) {
    lines.push(`max_keepalive ${settings['limits.keepAliveSecondsMax']}`);
  }
  if (settings['limits.packetBytesMax']) lines.push(`max_packet_size ${settings['limits.packetBytesMax']}`);
  for (const transport of ['tcp', 'tls', 'ws', 'wss']) {
    if (settings[`listeners.${transport}.enabled`] !== true) continue;
    lines.push(`listener ${settings[`listeners.${transport}.port`]} 127.0.0.1`);
    if (transport.startsWith('w')) lines.push('protocol websockets');
    if (transport === 'tcp' || transport === 'ws') continue;
    lines.push(`certfile ${settings[`listeners.${transport}.certFile`]}`);
    lines.push(`keyfile ${settings[`listeners.${transport}.keyFile`]}`);
    lines.push(`cafile ${settings['listeners.tls.caFile']}`);
    if (settings[`listeners.${transport}.clientCertificate`] === 'required') {
      lines.push('require_certificate true');
    }
  }
  return `${lines.join('\n')}\n`;
}
