/*
 * A publisher and what it has in flight. By deliveries: each message is worth `fan` deliveries, and the window is full
 * while more than (window - 1) * fan of them are outstanding. By acks: packet identifiers in use. Sequence numbers
 * start at 0 and every payload begins with struct stamp.
 */
#ifndef PUBLISHER_H
#define PUBLISHER_H

#include "client.h"
#include "histogram.h"

struct stamp {
  uint32_t run_id, publisher;
  uint64_t sequence, sent_ns;
};

struct publisher {
  struct client *client;
  struct mqtt_template packet;
  uint64_t sent, acked, refused, throttled;
  uint64_t delivered;   /* deliveries seen, over all receivers */
  uint64_t written_off; /* deliveries no longer waited for */
  uint64_t progress_mark, progress_ns;
  uint32_t number, fan, in_flight, id_count, next_id;
  bool queued;
  uint8_t *id_states;    /* by packet identifier; QoS 1 and 2 only */
  uint64_t *id_sent_ns;
};

void publisher_start(struct publisher *publisher, struct client *client, uint32_t number, const char *topic, uint32_t fan);

/* Queues one message stamped with `sent_ns`; false (and nothing sent) when the window has no room. */
bool publisher_send(struct publisher *publisher, uint64_t sent_ns);

/* Sends until the window is full. */
void publisher_fill(struct publisher *publisher, uint64_t now_ns);

/* Takes an acknowledgement; `latency` may be NULL. False when it answers nothing that was sent. */
bool publisher_acked(struct publisher *publisher, enum mqtt_type type, uint16_t id, uint8_t reason,
                     struct histogram *latency);

/* Gives up on outstanding deliveries when none came for `stall_ns`; true when it did so. */
bool publisher_check_stall(struct publisher *publisher, uint64_t now_ns, uint64_t stall_ns);

static inline uint64_t publisher_outstanding(const struct publisher *publisher) {
  return publisher->sent * publisher->fan - publisher->delivered - publisher->written_off;
}

#endif
