import { describe, expect, it } from 'vitest';
import { type AuthRequest, acceptAll, acceptCertificates, permitAll } from '../../src/plugin/plugin.js';
import { requestOf } from './request.js';

const certificate = { commonName: 'meter-7', fingerprint256: 'AA', serialNumber: '01' };

describe('defaults', () => {
  it('let everybody in, under the name of the certificate before the one that is claimed', () => {
    const decide = (request: Partial<AuthRequest>) => acceptAll.authenticate(requestOf(request));
    expect(decide({})).toEqual({ kind: 'accept', tenant: 'default', user: '' });
    expect(decide({ userName: 'a/b' })).toEqual({ kind: 'accept', tenant: 'default', user: 'a/b' });
    expect(decide({ userName: 'a', certificate })).toEqual({
      kind: 'accept',
      tenant: 'default',
      user: 'meter-7',
    });
    expect(decide({ authMethod: 'GS2-KRB5' })).toMatchObject({ kind: 'refuse', reasonCode: 0x8c });
    expect(acceptAll.continue({}, undefined)).toMatchObject({ kind: 'refuse', reasonCode: 0x87 });
  });

  it('can insist on a certificate', () => {
    expect(acceptCertificates.authenticate(requestOf({ userName: 'a' }))).toMatchObject({ kind: 'refuse' });
    expect(acceptCertificates.authenticate(requestOf({ certificate }))).toMatchObject({ user: 'meter-7' });
  });

  it('permit everything within a tenant', () => {
    const identity = { tenant: 't', user: '', clientId: 'c', attributes: {} };
    expect(permitAll.mayPublish(identity, 'a', 0, false)).toBe(true);
    expect(permitAll.maySubscribe(identity, '#', 2)).toBe(true);
  });
});
