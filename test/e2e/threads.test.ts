import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connect, unique } from './client/client.js';

/** Which CPUs each thread of a process may run on, as the kernel writes it. */
function allowedCpus(pid: number | 'self'): string[] {
  return readdirSync(`/proc/${pid}/task`).map(thread => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    return status.match(/^Cpus_allowed_list:\s*(.*)$/m)![1]!;
  });
}

const [allowed] = allowedCpus('self');
const cpu = allowed!.match(/^\d+/)![0];

describe.skipIf(allowed === cpu)('threads.pin', () => {
  const broker = useBroker({ set: { 'threads.mqtt': 2, 'threads.pin': `[${cpu}]` } });

  it('binds the mqtt, match and apply threads to the CPUs of the list, and no other thread', async () => {
    const bound = allowedCpus(broker.process!.pid!).filter(list => list === cpu);
    expect(bound).toHaveLength(4);
    expect(allowedCpus(broker.process!.pid!)).toContain(allowed);
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic, { qos: 1 });
    await client.publish(topic, 'x', { qos: 1 });
    await client.receive({ payload: 'x' });
  });
});
