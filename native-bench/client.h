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
  bool websocket, dirty, wants_write, persistent;
  struct buffer out;
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

/* Room to write one packet of `length` bytes in place; client_commit with the same length then queues it. */
static inline uint8_t *client_reserve(struct client *client, size_t length) {
  size_t header = client->websocket ? websocket_header_size(length) : 0;
  return buffer_reserve(&client->out, header + length) + header;
}

static inline void client_commit(struct client *client, size_t length) {
  if (client->websocket) {
    websocket_seal(client->out.data + client->out.end, 2, length);
    client->out.end += websocket_header_size(length);
  }
  client->out.end += length;
  loop_touch(client->loop, client);
}

static inline void client_write(struct client *client, const uint8_t *packet, size_t length) {
  memcpy(client_reserve(client, length), packet, length);
  client_commit(client, length);
}

void client_subscribe(struct client *client, uint16_t id, const char *filter, int qos);

#endif
