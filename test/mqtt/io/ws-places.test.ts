import { connect as dial, type Socket } from 'node:net';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { Admission } from '../../../src/mqtt/admission.js';
import { listenWs } from '../../../src/mqtt/io/ws.js';
import type { Listener } from '../../../src/mqtt/transport.js';
import { Recorder, until } from '../../contract/transport.contract.js';
import { makeCertificates, removeCertificates } from '../../e2e/certificates.js';
import { connectBytes } from './byte-client.js';
import { placesFor, wsOptions } from './options.js';

const certificates = makeCertificates();
afterAll(() => removeCertificates(certificates));
const files = { keyFile: certificates.keyFile, certificateFile: certificates.certFile };

describe.each([
  ['ws', undefined],
  ['wss', files],
])('places of %s', (transport, tls) => {
  let listener: Listener;
  let places: Admission;
  let recorders: Recorder[] = [];
  const sockets: Socket[] = [];

  const open = async (connectionsMax: number) => {
    recorders = [];
    places = placesFor(connectionsMax);
    listener = await listenWs({ ...wsOptions(), places, tls }, peer => {
      const recorder = new Recorder(peer);
      recorders.push(recorder);
      return recorder;
    });
  };
  /** A connection that says nothing of HTTP. */
  const raw = (): Socket => {
    const socket = dial(listener.port, '127.0.0.1').on('error', () => {});
    sockets.push(socket);
    return socket;
  };
  const upgraded = async () => {
    const secure = transport === 'wss' ? { tls: { ca: certificates.ca } } : {};
    const client = await connectBytes({ webSocket: true, port: listener.port, ...secure });
    sockets.push(client.socket);
    return client;
  };

  afterEach(async () => {
    await listener.destroy();
    expect(places.taken, 'places taken when all is closed').toBe(0);
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  it('are taken by sockets that never become WebSockets, and given back', async () => {
    await open(2);
    const silent = [raw(), raw()];
    await until(() => places.taken === 2, 'two places taken');
    let closed = 0;
    const more = [raw(), raw(), raw()].map(socket => socket.on('close', () => closed++));
    await until(() => closed === 2 && listener.counters.refusedAtLimit === 2, 'two to be closed unheard');
    for (const socket of [...silent, ...more]) socket.destroy();
    await until(() => places.taken === 0, 'the places to be free');
    const client = await upgraded();
    expect([places.taken, recorders[0]!.peer.admitted]).toEqual([1, true]);
    client.finish();
    await until(() => places.taken === 0, 'its place to be free');
    expect(places.take(), 'nobody is being refused any more').toBe(1);
    expect([places.take(), places.take()]).toEqual([1, 2]);
    places.giveBack(2);
    places.giveBack(1);
    places.giveBack(1);
  });

  it('are given back by those that are refused an upgrade', async () => {
    await open(5);
    const secure = transport === 'wss' ? { tls: { ca: certificates.ca } } : {};
    const options = { webSocket: true, port: listener.port, protocols: 'chat', ...secure };
    for (let i = 0; i < 10; i++) await expect(connectBytes(options)).rejects.toMatchObject({ status: 400 });
    await until(() => places.taken === 0, 'the places to be free');
    expect(listener.counters.refusedAtLimit).toBe(0);
  });

  it('are given back when the listener is destroyed with sockets of every kind open', async () => {
    await open(3);
    await upgraded();
    raw();
    raw();
    raw();
    await until(() => places.taken === 3, 'all places taken');
  });
});
