import { REASON } from './codec/packet.js';

/** Failures that one packet tells of; a SUBSCRIBE may name thousands of filters. */
const TOLD_MAX = 5;

const WHY = new Map<number, string>([
  [REASON.topicFilterInvalid, 'the filter is malformed, too long or too deep'],
  [REASON.notAuthorized, 'not authorized to subscribe there'],
  [REASON.quotaExceeded, 'too many subscriptions in the session, or members in the group'],
  [REASON.sharedSubscriptionsNotSupported, 'shared subscriptions are not served'],
  [REASON.wildcardSubscriptionsNotSupported, 'wildcards are not served'],
  [REASON.subscriptionIdentifiersNotSupported, 'subscription identifiers are not served'],
]);

/**
 * The Reason String of a SUBACK or UNSUBACK (3.9.2.1.2, 3.11.2.1.2), which has one for all of its filters: which of
 * them were refused, counted from 1, and why. Undefined when none was.
 */
export function explainRefusals(reasonCodes: readonly number[]): string | undefined {
  const told: string[] = [];
  let refused = 0;
  for (let i = 0; i < reasonCodes.length; i++) {
    if (reasonCodes[i]! < 0x80) continue;
    refused++;
    if (refused > TOLD_MAX) continue;
    const why = WHY.get(reasonCodes[i]!) ?? 'refused';
    told.push(reasonCodes.length === 1 ? why : `filter ${i + 1}: ${why}`);
  }
  if (refused > TOLD_MAX) told.push(`and ${refused - TOLD_MAX} more`);
  return refused === 0 ? undefined : told.join('; ');
}
