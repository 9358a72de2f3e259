/** `Packet.environment` of a `cluster.env`: FNV-1a over the UTF-16 units of its name, 32 bits. Not a secret. */
export function environmentHash(name: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}
