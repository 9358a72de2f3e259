/* One MQTT client over TCP or WebSocket: connects, keeps the protocol's rules, hands messages to the scenario. */
#ifndef CLIENT_H
#define CLIENT_H

#include <string.h>

#include "buffer.h"
#include "loop.h"
#include "websocket.h"

enum client_state { CLIENT_UNUSED, CLIENT_CONNECTING, CLIENT_UPGRADING, CLIENT_GREETING, CLIENT_READY, CLIENT_CLOSED };

struct client {
  struct loop *loop;
  void *owner; /* the scenario's */
  int fd;
  uint32_t index; /* counted over all roles; also chooses the source address */
  uint8_t state, version;
  bool websocket, batches, dirty, wants_write, persistent;
  struct buffer out;
  uint32_t open_frame; /* payload bytes at the end of `out` whose WebSocket header is still to be written */
  uint8_t *carry; /* the beginning of a packet whose rest has not come yet */
  uint32_t carry_length, carry_capacity;
  struct websocket_reader *reader; /* NULL on TCP */
};

/* Starts to connect; `ready` follows on CONNACK. `persistent` keeps the session (clean session off). */
void client_open(struct client *client, struct loop *loop, uint32_t index, bool persistent);

/* DISCONNECT, then close. */
void client_close(struct client *client, bool forget_session);

void client_event(struct client *client, uint32_t events);
void client_flush(struct client *client);

/* Writes the header of the frame that gathers packets until the flush. */
void client_seal(struct client *client);

/* Bytes to leave free in front of a packet for a frame's header. */
static inline size_t client_header_room(const struct client *client, size_t length) {
  if (!client->websocket) return 0;
  if (client->batches) return client->open_frame ? 0 : WEBSOCKET_HEADER_MAX;
  return websocket_header_size(length);
}

/* Room to write one packet of `length` bytes in place; client_commit with the same length then queues it. */
static inline uint8_t *client_reserve(struct client *client, size_t length) {
  size_t header = client_header_room(client, length);
  return buffer_reserve(&client->out, header + length) + header;
}

static inline void client_commit(struct client *client, size_t length) {
  size_t header = client_header_room(client, length);
  if (client->websocket && client->batches) client->open_frame += (uint32_t)length;
  else if (client->websocket) websocket_seal(client->out.data + client->out.end, 2, length);
  client->out.end += header + length;
  loop_touch(client->loop, client);
}

static inline void client_write(struct client *client, const uint8_t *packet, size_t length) {
  memcpy(client_reserve(client, length), packet, length);
  client_commit(client, length);
}

void client_subscribe(struct client *client, uint16_t id, const char *filter, int qos);

#endif
