/*
 * The one thread's event loop. A turn is: wait, read what is readable, let the scenario send, write once per client.
 * Reading goes through one large buffer that all clients share, so that it stays in the cache; what is left of a packet
 * at its end is carried over in the client. Writing is gathered: `loop_touch` lists a client that has something to
 * send, and each listed client gets one send at the turn's end.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mqtt.h"
#include "options.h"

#define READ_BUFFER_BYTES (256u << 10)

struct client;

/* What a scenario answers to; any of these may be NULL. */
struct client_handler {
  void (*ready)(struct client *client);
  void (*publish)(struct client *client, const struct mqtt_publish *publish);
  /* PUBACK, PUBREC or PUBCOMP; PUBREL has then been sent where one is due. */
  void (*acked)(struct client *client, enum mqtt_type type, uint16_t id, uint8_t reason);
  void (*suback)(struct client *client, uint16_t id, const uint8_t *codes, size_t count);
  void (*closed)(struct client *client, const char *why);
  /* Once a turn, after reading and before writing. */
  void (*turn)(void);
};

struct loop {
  const struct options *options;
  const struct client_handler *handler;
  uint8_t *read_buffer;
  struct client **dirty;
  size_t dirty_count, dirty_capacity;
  uint64_t now_ns; /* when the bytes being handled were read */
  int epoll_fd;
  uint32_t ready_count, open_count;
};

void loop_start(struct loop *loop, const struct options *options, const struct client_handler *handler);

/* One turn; waits at the longest until `until_ns` on CLOCK_MONOTONIC. */
void loop_turn(struct loop *loop, uint64_t until_ns);

/* Turns until `until_ns`. */
void loop_run(struct loop *loop, uint64_t until_ns);

void loop_touch(struct loop *loop, struct client *client);

#endif
