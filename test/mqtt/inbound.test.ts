import { describe, expect, it } from 'vitest';
import { Inbound } from '../../src/mqtt/inbound.js';
import { Permits } from '../../src/mqtt/permits.js';
import { Tenant, Topic } from '../../src/mqtt/tenant.js';
import { hashKeys } from '../../src/topic/hash.js';

describe('messages from a client', () => {
  it('count until PUBACK, PUBCOMP, or a PUBREC that refuses (MQTT 5, 4.9)', () => {
    const inbound = new Inbound();
    inbound.begin(1, 1);
    inbound.begin(2, 2);
    inbound.begin(2, 3);
    expect(inbound.open).toBe(3);
    inbound.answer(1, 1, 0);
    inbound.answer(2, 2, 0x10);
    inbound.answer(2, 3, 0x87);
    expect(inbound.open).toBe(1);
    expect([inbound.hasReceived(2), inbound.hasReceived(3)]).toEqual([true, false]);
    inbound.release(2);
    inbound.release(2);
    expect(inbound.open).toBe(0);
  });

  it('of an earlier connection do not count, their ids are known all the same', () => {
    const inbound = new Inbound();
    inbound.restore([7, 8]);
    expect(inbound.open).toBe(0);
    expect(inbound.hasReceived(7)).toBe(true);
    inbound.release(7);
    inbound.begin(2, 7);
    expect(inbound.open).toBe(1);
    inbound.release(7);
    expect(inbound.open).toBe(0);
  });

  it('are pending until their PUBREC goes', () => {
    const inbound = new Inbound();
    inbound.begin(2, 5);
    inbound.wait(5);
    expect(inbound.isPending(5)).toBe(true);
    inbound.answer(2, 5, 0);
    expect(inbound.isPending(5)).toBe(false);
    expect(inbound.hasReceived(5)).toBe(true);
  });
});

describe('permits', () => {
  const tenant = new Tenant('t', hashKeys(1), 16);
  const identity = { tenant: 't', user: 'u', clientId: 'c', attributes: {} };

  it('tell QoS and RETAIN apart, and ask once for each', () => {
    const asked: string[] = [];
    const authorizer = {
      version: 1,
      mayPublish: (_: unknown, topic: string, qos: number, retain: boolean) => {
        asked.push(`${topic} ${qos} ${retain}`);
        return !retain && qos < 2;
      },
      maySubscribe: () => true,
    };
    const permits = new Permits();
    const topic = new Topic(tenant, 'a');
    for (let i = 0; i < 3; i++) {
      expect(permits.mayPublish(authorizer, identity, topic, 0, false)).toBe(true);
      expect(permits.mayPublish(authorizer, identity, topic, 0, true)).toBe(false);
      expect(permits.mayPublish(authorizer, identity, topic, 2, false)).toBe(false);
      expect(permits.mayPublish(authorizer, identity, topic, 1, false)).toBe(true);
    }
    expect(asked).toEqual(['a 0 false', 'a 0 true', 'a 2 false', 'a 1 false']);
  });

  it('are asked for anew when the rules or the identity change', () => {
    let allowed = true;
    const authorizer = { version: 1, mayPublish: () => allowed, maySubscribe: () => true };
    const permits = new Permits();
    const topic = new Topic(tenant, 'a');
    const may = () => permits.mayPublish(authorizer, identity, topic, 0, false);
    expect(may()).toBe(true);
    allowed = false;
    expect(may()).toBe(true);
    authorizer.version = 2;
    expect(may()).toBe(false);
    allowed = true;
    permits.forget();
    expect(may()).toBe(true);
  });

  it('remember a bounded number of topics', () => {
    const authorizer = { version: 1, mayPublish: () => true, maySubscribe: () => true };
    const permits = new Permits();
    for (let i = 0; i < 5000; i++)
      permits.mayPublish(authorizer, identity, new Topic(tenant, `${i}`), 0, false);
    expect((permits as unknown as { known: Map<Topic, number> }).known.size).toBeLessThanOrEqual(1024);
  });
});
