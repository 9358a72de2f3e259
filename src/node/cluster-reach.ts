import { connect } from 'node:net';
import { parseAddress } from '../underlay/io/address.js';
import type { Address } from '../underlay/message.js';
import type { Known } from './cluster-doctor.js';

/** What came of a TCP connection to an address: open, nobody listens, no answer in time, no way or no such name. */
export type Reached = 'open' | 'refused' | 'silent' | 'no-way';

const TARGETS_MAX = 64;
const AT_ONCE_MAX = 16;
const CONNECT_TIMEOUT_MS = 1_500;

/** The addresses that tell most, those that look ill first; bounded. */
export function worthReaching({ report, seedStates }: Pick<Known, 'report' | 'seedStates'>): Address[] {
  const ill = report.members.filter(({ isSelf, state, oneWay, roundTripMs }) => {
    return !isSelf && (state === 'suspect' || oneWay || roundTripMs === null);
  });
  const silent = seedStates.filter(({ answeredMs }) => answeredMs === 0);
  const others = report.members.filter(({ isSelf }) => !isSelf);
  const all = [...ill, ...silent, ...report.lost, ...others].map(({ address }) => address);
  return [...new Set(all)].slice(0, TARGETS_MAX);
}

/** Opens a TCP connection to each, sends nothing, and closes it. */
export async function reach(addresses: readonly Address[]): Promise<ReadonlyMap<Address, Reached>> {
  const found = new Map<Address, Reached>();
  const waiting = [...addresses];
  const work = async () => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop())
      found.set(next, await tryOne(next));
  };
  await Promise.all(Array.from({ length: AT_ONCE_MAX }, work));
  return found;
}

function tryOne(address: Address): Promise<Reached> {
  const target = parseAddress(address);
  if (target === undefined) return Promise.resolve('no-way');
  const socket = connect(target);
  return new Promise(resolve => {
    const finish = (reached: Reached) => {
      socket.destroy();
      resolve(reached);
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => finish('silent'));
    socket.once('connect', () => finish('open'));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') finish('refused');
      else finish(error.code === 'ETIMEDOUT' ? 'silent' : 'no-way');
    });
  });
}
