/**
 * `node relay.js DIRECTORY PORT IP...`, run in the bridge's namespace: a socket `DIRECTORY/IP.sock` for each host, which
 * leads to its port. Files are no part of a network namespace, so the suite can ask every host from where it is. Ends
 * with its standard input, hence with the suite.
 */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';

const [directory = '', port = '', ...hosts] = process.argv.slice(2);

for (const host of hosts) {
  const server = net.createServer(near => {
    const far = net.connect(Number(port), host);
    // Whoever asks sees that its socket closes; why does not matter.
    pipeline(near, far, near, () => undefined);
  });
  server.listen(join(directory, `${host}.sock`));
  await once(server, 'listening');
}
process.stdout.write('ready\n');
process.stdin.resume().once('end', () => process.exit());
