import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';

/** What every table must name: figures of different machines do not compare. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly system: string;
  readonly node: string;
  /** Load average of the last minute when the run began: well below 1, or others were using the machine. */
  readonly loadAtStart: number;
}

function systemName(): string {
  try {
    const text = readFileSync('/etc/os-release', 'utf8');
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? os.type();
  } catch {
    return os.type();
  }
}

function hypervisor(): string {
  try {
    const vendor = /Hypervisor vendor:\s*(\S+)/.exec(execFileSync('lscpu', { encoding: 'utf8' }))?.[1];
    return vendor === undefined ? '' : `, ${vendor} guest`;
  } catch {
    return '';
  }
}

export function describeMachine(): Machine {
  const cpus = os.cpus();
  return {
    cpu: `${cpus[0]?.model.trim() ?? 'unknown'}${hypervisor()}`,
    cores: cpus.length,
    memoryGib: Math.round((os.totalmem() / 2 ** 30) * 10) / 10,
    kernel: os.release(),
    system: systemName(),
    node: process.version,
    loadAtStart: os.loadavg()[0] ?? 0,
  };
}

export function machineLine(machine: Machine): string {
  return (
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, ${machine.system}, ` +
    `Linux ${machine.kernel}, Node.js ${machine.node}, load at start ${machine.loadAtStart.toFixed(2)}`
  );
}
