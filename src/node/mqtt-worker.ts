import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { MessagePort } from 'node:worker_threads';
import type { Env } from '../base/env.js';
import { type ErrorCode, ShoalError } from '../base/errors.js';
import { CounterBlock } from '../base/metrics.js';
import type { Closable } from '../base/scope.js';
import { Admission } from '../mqtt/admission.js';
import type { Links } from '../mqtt/router.js';
import { Shard } from '../mqtt/shard.js';
import type { Listener } from '../mqtt/transport.js';
import { type Auth, openAuth } from '../plugin/io/auth.js';
import { AsyncBell } from '../shard/io/async-bell.js';
import { TurnLoop } from '../shard/io/loop.js';
import { pinThread } from '../shard/io/pin.js';
import { Mesh } from '../shard/mesh.js';
import type { LinkMemory, MeshPart } from '../shard/shard.js';
import { hashKeys } from '../topic/hash.js';
import type { Config } from './config.js';
import { ListenerWatch } from './listener-watch.js';
import { openListeners } from './listeners.js';
import { createLog } from './log.js';
import { sampleRings } from './ring-metrics.js';
import type { ListenerKind } from './security.js';
import { startVitals } from './vitals.js';

/** What an mqtt thread is started with; survives structured cloning, `port` must be in the transfer list. */
export interface MqttWorkerInput {
  readonly config: Config;
  readonly part: MeshPart;
  readonly links: Links;
  /** Memory of this thread's {@link CounterBlock}. */
  readonly metrics: SharedArrayBuffer;
  readonly hashSeed: number;
  readonly admission: AdmissionInput;
  /** CPU to bind the thread to; -1 for none. */
  readonly cpu: number;
  /** Control: {@link MqttControl} in, {@link MqttReport} out. */
  readonly port: MessagePort;
}

/** What the threads share to hold the node's limits. */
export interface AdmissionInput {
  /** Of `admissionMemory`. */
  readonly memory: SharedArrayBuffer;
  /** In force: `limits.connectionsMax`, or what the limit of open files leaves room for. */
  readonly connectionsMax: number;
  readonly descriptorsAreFewer: boolean;
}

/** Where a listener really is, and its descriptor for the other shards. */
export interface Opened {
  readonly kind: ListenerKind;
  readonly host: string;
  readonly port: number;
  readonly fd: number;
}

export type MqttControl =
  /** Open the listeners; those that another shard has opened already on its descriptors and ports. */
  | { readonly kind: 'listen'; readonly opened: readonly Opened[] }
  | { readonly kind: 'peer-replaced'; readonly peer: number; readonly link: LinkMemory }
  | { readonly kind: 'peer-removed'; readonly peer: number }
  /** Accept nothing more, send the clients away; `drained` follows. */
  | { readonly kind: 'drain' }
  | { readonly kind: 'stop' };

export type MqttReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'listening'; readonly opened: readonly Opened[] }
  | { readonly kind: 'listen-failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'drained' };

const TICK_MS = 100;
/** Looks at whether draining is done. */
const DRAIN_POLL_MS = 10;

/**
 * Runs an mqtt thread until it is told to stop. Rejects when an invariant broke; the thread is then to be started
 * again. Its sockets are closed first in every case: a thread that ends with uWebSockets.js sockets open takes the
 * whole process with it.
 */
export async function runMqttWorker(input: MqttWorkerInput): Promise<void> {
  const log = createLog(input.config.log, `mqtt-${input.links.shard}`);
  if (input.cpu >= 0) {
    const pinned = await pinThread(input.cpu);
    if (pinned.kind === 'not-pinned') log.warn(pinned, 'an mqtt thread is not pinned');
  }
  const env: Env = {
    clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
    random: { u32: () => randomBytes(4).readUInt32LE(0) },
    log,
  };
  const auth = await openAuth(input.config, env);
  const worker = new MqttWorker(input, env, auth);
  try {
    await worker.stopped;
  } finally {
    await worker.close();
  }
}

class MqttWorker {
  readonly stopped: Promise<void>;
  private readonly port: MessagePort;
  private readonly config: Config;
  private readonly counters: CounterBlock;
  private readonly auth: Auth;
  private readonly mesh: Mesh;
  private readonly shard: Shard;
  private readonly loop: TurnLoop;
  private readonly timer: NodeJS.Timeout;
  private readonly vitals: Closable;
  private readonly admission: Admission;
  private readonly watch: ListenerWatch;
  private listeners: Listener[] = [];
  private stop: () => void = () => undefined;
  private fail: (error: unknown) => void = () => undefined;
  private readonly onUncaught = (error: unknown) => this.fail(error);

  constructor(input: MqttWorkerInput, env: Env, auth: Auth) {
    const { config, links } = input;
    this.port = input.port;
    this.config = config;
    this.auth = auth;
    this.counters = new CounterBlock(input.metrics);
    this.stopped = new Promise((resolve, reject) => {
      this.stop = resolve;
      this.fail = error => {
        this.shard.halt();
        reject(error);
      };
    });
    const { connectRatePerSecondMax } = config.limits;
    const { memory, connectionsMax } = input.admission;
    const admitted = { connectionsMax, connectRatePerSecondMax };
    this.admission = new Admission(memory, links.shard, admitted, process.hrtime.bigint);
    this.watch = new ListenerWatch(this.admission, input.admission, env.log);
    this.mesh = new Mesh(input.part, new AsyncBell(input.part), (peer, bytes, start, end) =>
      this.shard.onFrame(peer, bytes, start, end),
    );
    this.shard = new Shard({
      env,
      limits: config.limits,
      features: config.features,
      links,
      wire: this.mesh,
      counters: this.counters,
      keys: hashKeys(input.hashSeed),
      authenticator: auth.authenticator,
      authorizer: auth.authorizer,
      takeConnect: this.admission.takeConnect,
      schedule: () => this.loop.schedule(),
    });
    this.mesh.onDrained = () => this.shard.onDrained();
    this.loop = new TurnLoop(this.mesh, () => this.shard.flushTurn());
    this.timer = setInterval(this.tick, TICK_MS);
    this.vitals = startVitals(this.counters);
    this.port.on('message', this.onControl);
    // Whatever handler of this thread throws: the sockets must be closed before the thread ends.
    process.on('uncaughtException', this.onUncaught);
    this.post({ kind: 'ready' });
  }

  private post(report: MqttReport): void {
    this.port.postMessage(report);
  }

  private readonly tick = (): void => {
    this.shard.tick();
    sampleRings(this.mesh, this.counters);
    this.watch.look(this.listeners, this.counters, performance.now());
  };

  private readonly onControl = (control: MqttControl): void => {
    switch (control.kind) {
      case 'listen':
        this.listen(control.opened);
        return;
      case 'peer-replaced':
        this.mesh.replace(control.peer, control.link);
        this.shard.peerLost(control.peer);
        return;
      case 'peer-removed':
        this.mesh.remove(control.peer);
        return;
      case 'drain':
        this.drain().catch(this.fail);
        return;
      case 'stop':
        this.stop();
    }
  };

  private listen(opened: readonly Opened[]): void {
    openListeners(this.config, this.shard.accept, this.admission, opened).then(
      listeners => {
        this.listeners = listeners;
        this.post({
          kind: 'listening',
          opened: listeners.map(({ transport, host, port, fd }) => ({ kind: transport, host, port, fd })),
        });
      },
      error => {
        if (!(error instanceof ShoalError)) return this.fail(error);
        this.post({ kind: 'listen-failed', code: error.code, message: error.message });
      },
    );
  }

  private async drain(): Promise<void> {
    await Promise.all(this.listeners.map(listener => listener.close()));
    this.shard.drain(this.config.shutdown.publishWills ? 'keep-will' : 'drop-will');
    const looking = setInterval(() => {
      if (!this.shard.idle) return;
      clearInterval(looking);
      this.post({ kind: 'drained' });
    }, DRAIN_POLL_MS);
    this.stopped.finally(() => clearInterval(looking)).catch(() => undefined);
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.vitals.close();
    await Promise.all(this.listeners.map(listener => listener.destroy()));
    this.loop.close();
    this.mesh.flush();
    this.mesh.close();
    await this.auth.close();
    this.port.close();
    process.off('uncaughtException', this.onUncaught);
  }
}
