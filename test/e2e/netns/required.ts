import { expect, it } from 'vitest';
import { PEER } from '../broker.js';
import { whatForbids } from './network.js';

/**
 * Why no scenario in network namespaces can run here, in words that it prints as well; undefined when they can. It is a
 * test that fails where `SHOALMQ_REQUIRE_NETNS=1` asks for them.
 */
export async function whatForbidsScenarios(): Promise<string | undefined> {
  const forbidden =
    PEER === 'shoalmq' ? await whatForbids() : `these are our own nodes, and E2E_PEER is ${PEER}`;
  if (forbidden !== undefined) console.log(`network namespaces: NO scenario ran, because ${forbidden}`);
  if (process.env.SHOALMQ_REQUIRE_NETNS === '1') {
    it('runs here, as SHOALMQ_REQUIRE_NETNS asks', () => {
      expect(forbidden).toBeUndefined();
    });
  }
  return forbidden;
}
