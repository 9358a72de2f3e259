/** The settings that the data path obeys; the meaning and the bounds of each are in the configuration's schema. */
export interface Limits {
  readonly packetBytesMax: number;
  readonly connectBytesMax: number;
  readonly connectTimeoutMs: number;
  readonly connectRatePerSecondMax: number;
  readonly keepAliveSecondsMax: number;
  readonly clientIdBytesMax: number;
  readonly topicBytesMax: number;
  readonly topicLevelsMax: number;
  readonly topicLevelBytesMax: number;
  readonly subscriptionsPerSessionMax: number;
  readonly filtersPerSubscribeMax: number;
  readonly inflightInboundMax: number;
  readonly inflightOutboundMax: number;
  readonly topicAliasMax: number;
  readonly qosMax: number;
  readonly sessionExpirySecondsMax: number;
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queueDropPolicy: 'newest' | 'oldest';
  readonly connectionBufferBytesMax: number;
  readonly pendingPublishMax: number;
  readonly pendingPublishBytesMax: number;
  readonly willBytesMax: number;
  readonly topicCacheEntriesMax: number;
}

/** What is served at all. */
export interface Features {
  readonly mqtt31: boolean;
  readonly mqtt311: boolean;
  readonly mqtt5: boolean;
  readonly retain: boolean;
  readonly wildcards: boolean;
  readonly sharedSubscriptions: boolean;
  readonly subscriptionIdentifiers: boolean;
}
