/**
 * Retained messages, one per (tenant, topic).
 *
 * RETAIN_SET   request: tenant text, u53 nowMs, Message (contract/message; an empty payload clears, [MQTT-3.3.1-6])
 *              reply:   u8 STATUS (OK when durable; LIMIT: retainedMessagesMax or retainedBytesMax reached)
 * RETAIN_SCAN  request: tenant text, filter text (plain), u53 nowMs, u32 messagesMax, u32 bytesMax,
 *                       u32 cursor length, cursor ('' at first)
 *              reply:   u8 STATUS, u32 n, n × Message, u8 more, u32 cursor length, cursor
 *
 * A scan answers with at most the asked number, works for a few milliseconds at most, and may answer with no
 * message but a cursor: ask again. Expired messages are left out, and removed by the store in its own time.
 * The order is that of the topics' bytes level by level. A `$` first level is not matched by a leading wildcard
 * [MQTT-4.7.2-1].
 */
export {};
