import { afterEach, describe, expect, it } from 'vitest';
import { explainRefusals } from '../../src/mqtt/explanation.js';
import { permitAll } from '../../src/plugin/plugin.js';
import { Broker, type BrokerOptions } from './harness.js';
import type { ConnectOptions, TestClient } from './test-client.js';

let broker: Broker;
const authorizer = {
  ...permitAll,
  version: 1,
  maySubscribe: (_: unknown, filter: string) => filter !== 'no',
};
function open(options: BrokerOptions = {}, connect: ConnectOptions = {}): TestClient {
  broker = new Broker({ authorizer, ...options });
  return broker.connect(connect);
}
afterEach(() => broker.close());

/** The whole answer to a SUBSCRIBE. */
function subscribe(client: TestClient, ...filters: string[]) {
  const messageId = client.sendSubscribe(filters, { qos: 1 });
  broker.pump();
  return client.take('suback', { messageId });
}

describe('SUBACK', () => {
  it('says why each filter was refused (3.9.2.1.2)', () => {
    const client = open({ limits: { subscriptionsPerSessionMax: 1 }, features: { wildcards: false } });
    const suback = subscribe(client, 'no', 'yes', 'a/#', 'b');
    expect(suback.granted).toEqual([0x87, 1, 0xa2, 0x97]);
    const { reasonString } = suback.properties;
    expect(reasonString).toMatch(
      /^filter 1: not authorized .*; filter 3: wildcards .*; filter 4: too many sub/,
    );
  });

  it('says so without counting where there is one filter', () => {
    const client = open({ features: { sharedSubscriptions: false } });
    expect(subscribe(client, '$share/g/t').properties.reasonString).toBe(
      'shared subscriptions are not served',
    );
    expect(subscribe(client, 'no').properties.reasonString).toBe('not authorized to subscribe there');
    expect(subscribe(client, 'a/#/b').properties.reasonString).toContain('malformed');
  });

  it('says nothing where nothing was refused', () => {
    expect(subscribe(open(), 'yes').properties?.reasonString).toBeUndefined();
  });

  it('says nothing to who wants no problem information [MQTT-3.1.2-29], or speaks MQTT 3', () => {
    const client = open({}, { properties: { requestProblemInformation: false } });
    const suback = subscribe(client, 'no');
    expect(suback.granted).toEqual([0x87]);
    expect(suback.properties?.reasonString).toBeUndefined();
    expect(client.unsubscribe('a/#/b').properties?.reasonString).toBeUndefined();
    const old = broker.connect({ version: 4 });
    expect(old.subscribe('no')).toEqual([0x80]);
    expect(old.peer.writes.at(-1)).toHaveLength(5);
  });

  it('leaves it out where it would be larger than the client takes [MQTT-3.9.2-1]', () => {
    const client = open({}, { properties: { maximumPacketSize: 45 } });
    expect(subscribe(client, 'no').properties.reasonString).toBe('not authorized to subscribe there');
    const suback = subscribe(client, 'no', 'no');
    expect(suback.granted).toEqual([0x87, 0x87]);
    expect(suback.properties?.reasonString).toBeUndefined();
  });
});

describe('UNSUBACK', () => {
  it('says why, for failures only (3.11.2.1.2)', () => {
    const client = open();
    client.subscribe('yes');
    const unsuback = client.unsubscribe('yes', 'never', 'a/#/b');
    expect(unsuback.granted).toEqual([0, 0x11, 0x8f]);
    expect(unsuback.properties.reasonString).toMatch(/^filter 3: the filter is malformed[^;]*$/);
  });
});

describe('an explanation', () => {
  it('is bounded, however many filters were refused', () => {
    open();
    const text = explainRefusals(Array.from({ length: 1000 }, () => 0x87))!;
    expect(text.length).toBeLessThan(400);
    expect(text).toContain('filter 5: not');
    expect(text).toMatch(/; and 995 more$/);
    expect(explainRefusals([0x80])).toBe('refused');
    expect(explainRefusals([0, 1, 2, 0x11])).toBeUndefined();
  });
});
