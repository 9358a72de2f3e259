import { execFile, spawnSync } from 'node:child_process';
import { type AddressInfo, createServer, type Server } from 'node:net';
import path from 'node:path';
import mqtt, { type Packet } from 'mqtt-packet';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';

const NATIVE = path.resolve(import.meta.dirname, '../../native-bench');
const compiler = spawnSync('sh', ['-c', 'command -v make && command -v gcc']).status === 0;

interface Accounts {
  sent: number;
  received: number;
  lost: number;
  duplicates: number;
  disordered: number;
  stray: number;
  unacknowledged: number;
  clearsReceived?: number;
}

/** What the relay below did to messages on their way to subscribers. */
interface Done {
  published: number;
  dropped: number;
  repeated: number;
  overtaken: number;
}

/** Decides by a message's number what becomes of it. */
type Mischief = (number: number) => 'deliver' | 'drop' | 'repeat' | 'hold';

/** A broker of one subscriber that treats messages as `mischief` says; a held one follows its successor. */
function relay(mischief: Mischief, done: Done): Server {
  let subscriber: ((packet: Packet) => void) | undefined;
  let held: Packet | undefined;
  let messageId = 0;
  return createServer(socket => {
    socket.on('error', () => socket.destroy());
    const parser = mqtt.parser({ protocolVersion: 4 });
    const send = (packet: Packet) => socket.write(mqtt.generate(packet));
    const forward = (payload: Buffer | string, topic: string) => {
      messageId = (messageId % 65_535) + 1;
      const packet: Packet = { cmd: 'publish', topic, payload, qos: 1, messageId, dup: false, retain: false };
      const fate = mischief(done.published++);
      if (fate === 'drop') done.dropped++;
      if (fate === 'drop') return;
      if (fate === 'hold' && held === undefined) {
        held = packet;
        return;
      }
      subscriber?.(packet);
      if (fate === 'repeat') {
        done.repeated++;
        subscriber?.(packet);
      }
      if (held === undefined) return;
      done.overtaken++;
      subscriber?.(held);
      held = undefined;
    };
    parser.on('packet', packet => {
      if (packet.cmd === 'connect') send({ cmd: 'connack', returnCode: 0, sessionPresent: false });
      else if (packet.cmd === 'subscribe') {
        subscriber = send;
        send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] });
      } else if (packet.cmd === 'publish') {
        forward(packet.payload, packet.topic);
        send({ cmd: 'puback', messageId: packet.messageId! });
      }
    });
    socket.on('data', data => parser.parse(data));
  });
}

/** A broker that keeps retained messages for one reader, who is sent a message of somebody else's besides. */
function retainer(): Server {
  const kept = new Map<string, Buffer | string>();
  let reader: ((packet: Packet) => void) | undefined;
  const message = (topic: string, payload: Buffer | string, retain: boolean): Packet => {
    return { cmd: 'publish', topic, payload, qos: 0, dup: false, retain };
  };
  return createServer(socket => {
    socket.on('error', () => socket.destroy());
    const parser = mqtt.parser({ protocolVersion: 4 });
    const send = (packet: Packet) => socket.write(mqtt.generate(packet));
    parser.on('packet', packet => {
      if (packet.cmd === 'connect') send({ cmd: 'connack', returnCode: 0, sessionPresent: false });
      else if (packet.cmd === 'subscribe') {
        send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] });
        for (const [topic, payload] of kept) send(message(topic, payload, true));
        reader = send;
      } else if (packet.cmd === 'publish') {
        if (packet.payload.length > 0) kept.set(packet.topic, packet.payload);
        else if (kept.delete(packet.topic)) {
          if (kept.size === 0) reader?.(message('r/none/1', '', false));
          reader?.(message(packet.topic, '', false));
        }
        send({ cmd: 'puback', messageId: packet.messageId! });
      }
    });
    socket.on('data', data => parser.parse(data));
  });
}

function run(args: readonly string[]): Promise<{ accounts: Accounts }> {
  return new Promise((resolve, reject) => {
    execFile(path.join(NATIVE, 'build/load'), args, (error, stdout) => {
      if (error === null) resolve(JSON.parse(stdout));
      else reject(error);
    });
  });
}

/** The generator is C; where there is no compiler there is nothing to test. */
describe.skipIf(!compiler)('the load generator', () => {
  let server: Server | undefined;

  beforeAll(() => {
    expect(spawnSync('make', ['-s', '-C', NATIVE], { encoding: 'utf8' }).stderr).toBe('');
  }, 60_000);

  afterEach(async () => {
    await new Promise(resolve => (server === undefined ? resolve(null) : server.close(resolve)));
    server = undefined;
  });

  async function load(mischief: Mischief): Promise<{ accounts: Accounts; done: Done }> {
    const done: Done = { published: 0, dropped: 0, repeated: 0, overtaken: 0 };
    server = relay(mischief, done);
    await new Promise<void>(resolve => server!.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const times = ['--warmup', '0.1', '--seconds', '0.2', '--drain', '0.3'];
    const { accounts } = await run([
      'pairs',
      '-P',
      '1',
      '--qos',
      '1',
      '--port',
      String(address.port),
      ...times,
    ]);
    return { accounts, done };
  }

  it('finds nothing wrong with an honest broker', async () => {
    const { accounts, done } = await load(() => 'deliver');
    expect(accounts.sent).toBe(done.published);
    expect(accounts.sent).toBeGreaterThan(64);
    expect(accounts).toMatchObject({
      received: accounts.sent,
      lost: 0,
      duplicates: 0,
      disordered: 0,
      stray: 0,
    });
    expect(accounts.unacknowledged).toBe(0);
  });

  it('counts each lost, repeated and overtaken message of a dishonest one', async () => {
    const { accounts, done } = await load(number => {
      if (number % 10 === 3) return 'drop';
      if (number % 10 === 5) return 'repeat';
      return number % 10 === 7 ? 'hold' : 'deliver';
    });
    expect(done.dropped).toBeGreaterThan(5);
    const heldAtTheEnd = accounts.lost - done.dropped;
    expect(heldAtTheEnd === 0 || heldAtTheEnd === 1).toBe(true);
    expect(accounts.duplicates).toBe(done.repeated);
    expect(accounts.disordered).toBe(done.overtaken);
    expect(accounts.received).toBe(accounts.sent - accounts.lost + accounts.duplicates);
  });

  it('tells the empty messages that clear retained ones from those of strangers', async () => {
    server = retainer();
    await new Promise<void>(resolve => server!.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const to = ['--port', String(port), '--drain', '1'];
    const { accounts } = await run(['retained', '--retained', '300', '-P', '3', '--qos', '1', ...to]);
    expect(accounts).toMatchObject({ received: 300, clearsReceived: 300, lost: 0, duplicates: 0, stray: 1 });
  });
});
