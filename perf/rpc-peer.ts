/**
 * One of the two processes of `npm run perf -- rpc`, started afresh for each run. As `server TARGET` it listens and tells
 * its port; as `client TARGET LOAD PORT WARMUP SECONDS` it loads the server, tells what it has counted, and ends. The
 * in-process row is a client without a server.
 */
import { Client, credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import type { RpcResult } from '../src/rpc/failure.js';
import { GrpcServer } from '../src/rpc/io/grpc-server.js';
import { GrpcTransport } from '../src/rpc/io/grpc-transport.js';
import type { RpcTransport } from '../src/rpc/transport.js';
import {
  CHUNK_BYTES,
  IN_PROCESS_TURN,
  PAYLOAD_BYTES,
  PIPELINE_DEPTH,
  type RpcLoad,
  UNARY_WINDOW,
} from './rpc-scenarios.js';
import { bench, handlers, makeRpc, SERVER_ID } from './rpc-service.js';

const PLAIN_PATH = '/bench.Bench/Echo';

/** What a load counts: calls or messages. */
interface Counter {
  count: number;
}

function identity(bytes: Buffer): Buffer {
  return bytes;
}

async function servePlain(): Promise<number> {
  const server = new Server();
  const echo = {
    path: PLAIN_PATH,
    requestStream: false,
    responseStream: false,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
  server.addService(
    { echo },
    {
      echo: (call: { request: Buffer }, reply: (error: null, value: Buffer) => void) =>
        reply(null, call.request),
    },
  );
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

const NOBODY: RpcTransport = {
  open: () => {
    throw new Error('a server of this benchmark calls nobody');
  },
};

async function serveOurs(): Promise<number> {
  const rpc = makeRpc(1, NOBODY, '127.0.0.1:1');
  rpc.serve(bench, handlers, { id: SERVER_ID });
  return (await GrpcServer.listen(rpc.endpoint, { host: '127.0.0.1', port: 0 })).port;
}

function fail(words: string): never {
  process.send!({ failure: words });
  throw new Error(words);
}

function loadPlain(port: number, counter: Counter): void {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const body = Buffer.alloc(PAYLOAD_BYTES, 1);
  const next = (): void => {
    client.makeUnaryRequest(PLAIN_PATH, identity, identity, body, (error: Error | null) => {
      if (error !== null) fail(error.message);
      counter.count++;
      next();
    });
  };
  for (let at = 0; at < UNARY_WINDOW; at++) next();
}

function loadOurs(load: RpcLoad, port: number, counter: Counter): void {
  const isAlone = load === 'in-process';
  const rpc = makeRpc(isAlone ? 1 : 2, isAlone ? NOBODY : new GrpcTransport(), `127.0.0.1:${port}`);
  if (isAlone) rpc.serve(bench, handlers, { id: SERVER_ID });
  const client = rpc.client(bench);
  const body = Buffer.alloc(PAYLOAD_BYTES, 1);
  const chunk = Buffer.alloc(CHUNK_BYTES, 1);
  const check = (result: RpcResult<Uint8Array>): void => {
    if (result.kind !== 'ok') fail(`${result.kind}: ${result.detail}`);
    if (result.value.length !== PAYLOAD_BYTES) fail(`an answer of ${result.value.length} bytes`);
    counter.count++;
  };
  const idle = { room: () => undefined, ended: () => undefined };
  const failed = ({ kind, detail }: { kind: string; detail: string }): void => fail(`${kind}: ${detail}`);
  switch (load) {
    case 'unary': {
      const options = {};
      const done = (result: RpcResult<Uint8Array>): void => {
        check(result);
        client.echo.call(body, options, done);
      };
      for (let at = 0; at < UNARY_WINDOW; at++) client.echo.call(body, options, done);
      return;
    }
    case 'in-process': {
      // In turns, as calls of a program come: answers that ask again would keep the process from all else.
      const options = {};
      let open = 0;
      const turn = (): void => {
        open = IN_PROCESS_TURN;
        for (let at = 0; at < IN_PROCESS_TURN; at++) client.echo.call(body, options, done);
      };
      const done = (result: RpcResult<Uint8Array>): void => {
        check(result);
        if (--open === 0) setImmediate(turn);
      };
      return turn();
    }
    case 'pipelined': {
      const line = client.batched.open({ key: 'k', depthMax: PIPELINE_DEPTH + 1 });
      const done = (result: RpcResult<Uint8Array>): void => {
        check(result);
        line.send(body, done);
      };
      for (let at = 0; at < PIPELINE_DEPTH; at++) line.send(body, done);
      return;
    }
    case 'chunks-up': {
      const more = (): void => {
        counter.count++;
        while (stream.send(chunk)) counter.count++;
      };
      const stream = client.up.open({}, { ...idle, room: more, message: () => undefined, failed });
      return more();
    }
    case 'chunks-down': {
      const message = (): void => {
        counter.count++;
      };
      client.down.open({}, { ...idle, message, failed }).send(body);
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

const [role, target, load, port, warmup, seconds] = process.argv.slice(2);

if (role === 'server') {
  process.on('message', () => process.send!({ cpu: process.cpuUsage() }));
  process.on('disconnect', () => process.exit(0));
  process.send!({ port: target === 'plain' ? await servePlain() : await serveOurs() });
} else {
  const counter: Counter = { count: 0 };
  if (target === 'plain') loadPlain(Number(port), counter);
  else loadOurs(load as RpcLoad, Number(port), counter);
  await sleep(Number(warmup) * 1_000);
  process.send!({ begun: true });
  const before = counter.count;
  const beganMs = performance.now();
  const cpu = process.cpuUsage();
  await sleep(Number(seconds) * 1_000);
  const elapsed = (performance.now() - beganMs) / 1_000;
  const used = process.cpuUsage(cpu);
  process.send!({ count: counter.count - before, seconds: elapsed, cpuUs: used.user + used.system });
}
