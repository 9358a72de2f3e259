import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  FINDING_LENGTH_MAX,
  FINDINGS_MAX,
  type NodeReport,
  nodeService,
  serverIdOf,
} from '../../src/node/node-service.js';

const { request, response, keyOf } = nodeService.methods.report;

const REPORT: NodeReport = {
  host: 2 ** 53 - 1,
  name: 'node-ä',
  version: '1.2.3',
  uptimeMs: 1_234.5,
  connections: 1_000_000,
  loopDelayMs: 0.25,
  utilization: 0.5,
  heapBytes: 2 ** 33,
  residentBytes: 2 ** 34,
  health: 8,
  findings: ['one', '', 'two ♥'],
  findingsTotal: 3,
};

describe('a report on the wire', () => {
  it('comes out as it went in', () => {
    const amount = fc.double({ min: 0, noNaN: true, noDefaultInfinity: true });
    const reports = fc.record({
      host: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      name: fc.string({ maxLength: 255, unit: 'grapheme-ascii' }),
      version: fc.string({ maxLength: 20 }),
      uptimeMs: amount,
      connections: fc.nat(),
      loopDelayMs: amount,
      utilization: fc.double({ min: 0, max: 1, noNaN: true }),
      heapBytes: amount,
      residentBytes: amount,
      health: fc.integer({ min: 0, max: 8 }),
      findings: fc.array(fc.string({ maxLength: 60 }), { maxLength: FINDINGS_MAX }),
      findingsTotal: fc.nat(),
    });
    fc.assert(
      fc.property(reports, report => {
        expect(response.decode(response.encode(report))).toEqual(report);
      }),
    );
    expect(response.decode(response.encode(REPORT))).toEqual(REPORT);
  });

  it('carries no more findings, and no longer ones, than it may', () => {
    const findings = Array.from({ length: 40 }, () => 'x'.repeat(10_000));
    const bytes = response.encode({ ...REPORT, findings, findingsTotal: 40 });
    expect(bytes.length).toBeLessThan(nodeService.methods.report.messageBytesMax);
    const report = response.decode(bytes)!;
    expect(report.findings).toEqual(
      Array.from({ length: FINDINGS_MAX }, () => 'x'.repeat(FINDING_LENGTH_MAX)),
    );
    expect(report.findingsTotal).toBe(40);
  });

  it('is refused when it makes no sense', () => {
    for (const wrong of [{ host: 0 }, { host: 1.5 }, { uptimeMs: -1 }, { utilization: Number.NaN }])
      expect(response.decode(response.encode({ ...REPORT, ...wrong }))).toBeUndefined();
  });

  it('is asked by host', () => {
    expect(request.decode(request.encode({ host: 77 }))).toEqual({ host: 77 });
    expect(request.decode(request.encode({ host: 0 }))).toBeUndefined();
    expect(keyOf({ host: 77 })).toBe(serverIdOf(77));
  });
});

describe('hostile bytes', () => {
  it('are a report within its bounds, or none; nothing is thrown', () => {
    const good = response.encode(REPORT);
    const change = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.nat(good.length), (changes, end) => {
        const bytes = good.slice(0, end === 0 ? good.length : end);
        for (const { at, value } of changes) if (at < bytes.length) bytes[at] = value;
        const report = response.decode(bytes);
        if (report === undefined) return;
        expect(report.findings.length).toBeLessThanOrEqual(FINDINGS_MAX);
        expect(JSON.stringify(report).length).toBeLessThan(20_000);
      }),
      { numRuns: 2_000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        const asked = request.decode(bytes);
        expect(asked === undefined || Number.isSafeInteger(asked.host)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});
