import { type ChildProcess, spawn } from 'node:child_process';
import mqtt from 'mqtt';
import { afterEach, describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { sleep, unique } from './client/client.js';

const broker = useBroker({ transports: ['tcp', 'tls', 'ws', 'wss'] });

describe('MQTT.js', () => {
  const clients: mqtt.MqttClient[] = [];

  function dial(
    scheme: 'mqtt' | 'mqtts' | 'ws' | 'wss',
    options: mqtt.IClientOptions = {},
  ): Promise<mqtt.MqttClient> {
    const port = broker.ports[({ mqtt: 'tcp', mqtts: 'tls', ws: 'ws', wss: 'wss' } as const)[scheme]];
    const path = scheme.startsWith('ws') ? '/mqtt' : '';
    const settings = { ca: broker.ca, servername: 'localhost', reconnectPeriod: 0, ...options };
    return mqtt.connectAsync(`${scheme}://localhost:${port}${path}`, settings).then(client => {
      clients.push(client);
      return client;
    });
  }

  /** The next `count` messages as text. */
  function collect(client: mqtt.MqttClient, count: number): Promise<string[]> {
    const texts: string[] = [];
    return new Promise(done => {
      client.on('message', (_topic, payload) => {
        texts.push(payload.toString());
        if (texts.length === count) done(texts);
      });
    });
  }

  afterEach(async () => {
    await Promise.all(clients.splice(0).map(client => client.endAsync(true)));
  });

  for (const scheme of ['mqtt', 'mqtts', 'ws', 'wss'] as const) {
    for (const protocolVersion of [3, 4, 5] as const) {
      it(`${scheme}, level ${protocolVersion}: publish and subscribe at every QoS`, async () => {
        const base = { protocolVersion, ...(protocolVersion === 3 ? { protocolId: 'MQIsdp' as const } : {}) };
        const subscriber = await dial(scheme, { ...base, clientId: unique('s') });
        const publisher = await dial(scheme, { ...base, clientId: unique('p') });
        const topic = unique('t');
        await subscriber.subscribeAsync(`${topic}/#`, { qos: 2 });
        const receiving = collect(subscriber, 30);
        for (let index = 0; index < 30; index++) {
          await publisher.publishAsync(`${topic}/${index}`, `${index}`, { qos: (index % 3) as 0 | 1 | 2 });
        }
        expect((await receiving).map(Number).sort((left, right) => left - right)).toEqual(
          Array.from({ length: 30 }, (_, index) => index),
        );
      });
    }
  }

  it('a persistent session brings what was missed', async () => {
    const options = {
      protocolVersion: 5,
      clientId: unique('c'),
      clean: false,
      properties: { sessionExpiryInterval: 60 },
    } as const;
    const first = await dial('mqtt', options);
    const topic = unique('t');
    await first.subscribeAsync(topic, { qos: 1 });
    await first.endAsync();
    const publisher = await dial('mqtt');
    for (let index = 0; index < 5; index++) await publisher.publishAsync(topic, `${index}`, { qos: 1 });
    const port = broker.ports.tcp;
    const second = mqtt.connect(`mqtt://localhost:${port}`, { ...options, reconnectPeriod: 0 });
    clients.push(second);
    expect(await collect(second, 5)).toEqual(['0', '1', '2', '3', '4']);
  });

  it('topic aliases assigned by the client are understood', async () => {
    const options = {
      protocolVersion: 5,
      autoAssignTopicAlias: true,
      autoUseTopicAlias: true,
      properties: { topicAliasMaximum: 10 },
    } as const;
    const client = await dial('mqtt', options);
    const topic = unique('t');
    await client.subscribeAsync(topic);
    const receiving = collect(client, 10);
    for (let index = 0; index < 10; index++) await client.publishAsync(topic, `${index}`, { qos: 1 });
    expect(await receiving).toEqual(Array.from({ length: 10 }, (_, index) => `${index}`));
  });

  it('a request is answered over response topic and correlation data', async () => {
    const [server, client] = [
      await dial('ws', { protocolVersion: 5 }),
      await dial('mqtt', { protocolVersion: 5 }),
    ];
    const [requests, answers] = [unique('q'), unique('a')];
    await server.subscribeAsync(requests);
    await client.subscribeAsync(answers);
    server.on('message', (_topic, payload, packet) => {
      const { responseTopic, correlationData } = packet.properties!;
      server.publish(responseTopic!, `re: ${payload}`, { properties: { correlationData: correlationData! } });
    });
    const answer = new Promise(done =>
      client.on('message', (_topic, payload, packet) =>
        done([payload.toString(), packet.properties?.correlationData?.toString()]),
      ),
    );
    client.publish(requests, 'ping', {
      properties: { responseTopic: answers, correlationData: Buffer.from('77') },
    });
    expect(await answer).toEqual(['re: ping', '77']);
  });
});

describe('mosquitto_pub and mosquitto_sub', () => {
  const children: ChildProcess[] = [];

  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  function run(
    command: string,
    args: string[],
  ): { child: ChildProcess; done: Promise<{ code: number | null; text: string }> } {
    const child = spawn(command, ['-h', 'localhost', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    let text = '';
    child.stdout!.on('data', bytes => {
      text += bytes;
    });
    child.stderr!.on('data', bytes => {
      text += bytes;
    });
    const done = new Promise<{ code: number | null; text: string }>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', code => resolve({ code, text }));
    });
    return { child, done };
  }

  const plain = () => ['-p', String(broker.ports.tcp)];
  const secure = () => ['-p', String(broker.ports.tls), '--cafile', broker.certificates.caFile];

  describe.each([
    ['TCP', plain],
    ['TLS', secure],
  ])('over %s', (_name, where) => {
    it.each(['mqttv31', 'mqttv311', 'mqttv5'])('-V %s: every QoS arrives', async version => {
      const topic = unique('t');
      const subscriber = run('mosquitto_sub', [
        ...where(),
        '-V',
        version,
        '-t',
        `${topic}/#`,
        '-q',
        '2',
        '-C',
        '3',
        '-W',
        '15',
        '-F',
        '%t %q %p',
      ]);
      await sleep(400);
      for (const qos of [0, 1, 2]) {
        const sent = await run('mosquitto_pub', [
          ...where(),
          '-V',
          version,
          '-t',
          `${topic}/${qos}`,
          '-q',
          String(qos),
          '-m',
          `m${qos}`,
        ]).done;
        expect(sent).toEqual({ code: 0, text: '' });
      }
      const { code, text } = await subscriber.done;
      expect(code).toBe(0);
      expect(text.trim().split('\n')).toEqual([0, 1, 2].map(qos => `${topic}/${qos} ${qos} m${qos}`));
    });
  });

  it('a retained message waits for mosquitto_sub --retained-only', async () => {
    const topic = unique('r');
    await run('mosquitto_pub', [...plain(), '-t', topic, '-r', '-q', '1', '-m', 'kept']).done;
    const { code, text } = await run('mosquitto_sub', [
      ...plain(),
      '-t',
      topic,
      '--retained-only',
      '-C',
      '1',
      '-W',
      '10',
    ]).done;
    expect({ code, text }).toEqual({ code: 0, text: 'kept\n' });
  });

  it('a will of mosquitto_sub comes when it is killed', async () => {
    const topic = unique('w');
    const watcher = run('mosquitto_sub', [...plain(), '-t', topic, '-C', '1', '-W', '15']);
    const victim = run('mosquitto_sub', [
      ...plain(),
      '-t',
      'nothing',
      '--will-topic',
      topic,
      '--will-payload',
      'killed',
    ]);
    await sleep(500);
    victim.child.kill('SIGKILL');
    expect(await watcher.done).toEqual({ code: 0, text: 'killed\n' });
  });

  it('a thousand lines from mosquitto_pub -l arrive in order', async () => {
    const topic = unique('l');
    const lines = Array.from({ length: 1000 }, (_, index) => `line ${index}`);
    const subscriber = run('mosquitto_sub', [...plain(), '-t', topic, '-q', '1', '-C', '1000', '-W', '15']);
    await sleep(400);
    const publisher = spawn('mosquitto_pub', ['-h', 'localhost', ...plain(), '-t', topic, '-q', '1', '-l'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    children.push(publisher);
    publisher.stdin!.end(`${lines.join('\n')}\n`);
    const { text } = await subscriber.done;
    expect(text.trim().split('\n')).toEqual(lines);
  });
});
