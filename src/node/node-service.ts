import { defineService, unary } from '../rpc/service.js';
import { table } from '../rpc/table.js';
import { NodeFinding } from '../schema/gen/node-finding.js';
import { NodeReport as ReportTable } from '../schema/gen/node-report.js';
import { NodeReportRequest as RequestTable } from '../schema/gen/node-report-request.js';
import type { MessageBuilder } from '../schema/schema.js';
import type { HostId } from '../underlay/message.js';

/** What a node says of itself when another one asks. */
export interface NodeReport {
  readonly host: HostId;
  readonly name: string;
  readonly version: string;
  readonly uptimeMs: number;
  /** MQTT connections. */
  readonly connections: number;
  /** How late a timer of its main thread came, at the most in the last ten seconds. */
  readonly loopDelayMs: number;
  /** Of its busiest thread, 0 to 1. */
  readonly utilization: number;
  readonly heapBytes: number;
  readonly residentBytes: number;
  /** Local health multiplier: 0 is healthy, 8 the worst. */
  readonly health: number;
  /** What looks wrong from there, `FINDINGS_MAX` at the most. */
  readonly findings: readonly string[];
  /** How many there are. */
  readonly findingsTotal: number;
}

export interface NodeReportRequest {
  /** The node that is asked; its server has this as its id. */
  readonly host: HostId;
}

/** What a report carries; longer ones are cut. */
export const FINDINGS_MAX = 16;
export const FINDING_LENGTH_MAX = 500;
const NAME_LENGTH_MAX = 255;
const REPORT_BYTES_MAX = 65_536;

const ASK_MS = 1_500;

const request = table<NodeReportRequest>({
  write: (builder, { host }) => RequestTable.createNodeReportRequest(builder, host),
  read(buffer) {
    const host = RequestTable.getRootAsNodeReportRequest(buffer).host();
    return isHost(host) ? { host } : undefined;
  },
});

const response = table<NodeReport>({
  write: writeReport,
  read: buffer => readReport(ReportTable.getRootAsNodeReport(buffer)),
});

/** Served by every node of a cluster: how it is, for members, doctor, and whoever wants to know. */
export const nodeService = defineService('node', {
  report: unary({
    request,
    response,
    idempotent: true,
    balance: 'direct',
    key: ({ host }) => serverIdOf(host),
    messageBytesMax: REPORT_BYTES_MAX,
    deadlineMs: ASK_MS,
  }),
});

/** A host id belongs to one run of a process, and so does its server. */
export function serverIdOf(host: HostId): string {
  return String(host);
}

function writeReport(builder: MessageBuilder, report: NodeReport): number {
  const findings = report.findings.slice(0, FINDINGS_MAX).map(what => {
    return NodeFinding.createNodeFinding(builder, builder.createString(what.slice(0, FINDING_LENGTH_MAX)));
  });
  const vector = findings.length === 0 ? 0 : ReportTable.createFindingsVector(builder, findings);
  const name = builder.createString(report.name);
  const version = builder.createString(report.version);
  ReportTable.startNodeReport(builder);
  ReportTable.addHost(builder, report.host);
  ReportTable.addName(builder, name);
  ReportTable.addVersion(builder, version);
  ReportTable.addUptimeMs(builder, report.uptimeMs);
  ReportTable.addConnections(builder, report.connections);
  ReportTable.addLoopDelayMs(builder, report.loopDelayMs);
  ReportTable.addUtilization(builder, report.utilization);
  ReportTable.addHeapBytes(builder, report.heapBytes);
  ReportTable.addResidentBytes(builder, report.residentBytes);
  ReportTable.addHealth(builder, report.health);
  ReportTable.addFindings(builder, vector);
  ReportTable.addFindingsTotal(builder, report.findingsTotal);
  return ReportTable.endNodeReport(builder);
}

function readReport(found: ReportTable): NodeReport | undefined {
  const findings: string[] = [];
  const count = Math.min(found.findingsLength(), FINDINGS_MAX);
  for (let at = 0; at < count; at++)
    findings.push((found.findings(at)?.what() ?? '').slice(0, FINDING_LENGTH_MAX));
  const report = {
    host: found.host(),
    name: (found.name() ?? '').slice(0, NAME_LENGTH_MAX),
    version: (found.version() ?? '').slice(0, NAME_LENGTH_MAX),
    uptimeMs: found.uptimeMs(),
    connections: found.connections(),
    loopDelayMs: found.loopDelayMs(),
    utilization: found.utilization(),
    heapBytes: found.heapBytes(),
    residentBytes: found.residentBytes(),
    health: found.health(),
    findings,
    findingsTotal: found.findingsTotal(),
  };
  const { uptimeMs, connections, loopDelayMs, utilization, heapBytes, residentBytes } = report;
  const amounts = [uptimeMs, connections, loopDelayMs, utilization, heapBytes, residentBytes];
  return isHost(report.host) && amounts.every(isAmount) ? report : undefined;
}

function isHost(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

function isAmount(value: number): boolean {
  return Number.isFinite(value) && value >= 0;
}
