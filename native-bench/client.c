#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"

#define SESSION_EXPIRY_S 3600

static void release(struct client *client) {
  if (client->state == CLIENT_READY) client->loop->ready_count--;
  if (client->state != CLIENT_CLOSED && client->state != CLIENT_UNUSED) {
    close(client->fd);
    client->loop->open_count--;
  }
  client->state = CLIENT_CLOSED;
  client->carry_length = 0;
  client->out.start = client->out.end = 0;
  client->open_frame = 0;
}

void client_seal(struct client *client) {
  if (!client->open_frame) return;
  size_t length = client->open_frame, header = websocket_header_size(length);
  uint8_t *payload = client->out.data + client->out.end - length;
  uint8_t *frame = payload - WEBSOCKET_HEADER_MAX;
  memmove(frame + header, payload, length);
  websocket_seal(frame, 2, length);
  client->out.end -= WEBSOCKET_HEADER_MAX - header;
  client->open_frame = 0;
}

static void fail(struct client *client, const char *why) {
  if (client->state == CLIENT_CLOSED) return;
  release(client);
  if (client->loop->handler->closed) client->loop->handler->closed(client, why);
  else die("client %u: %s", client->index, why);
}

static void bind_source(struct client *client, const struct options *options) {
  if (options->sources < 2) return;
  int on = 1;
  setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  struct sockaddr_in source = {.sin_family = AF_INET};
  source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + client->index % options->sources);
  if (bind(client->fd, (struct sockaddr *)&source, sizeof source) < 0)
    die("cannot bind 127.0.0.%u: %s", 1 + client->index % options->sources, strerror(errno));
}

void client_open(struct client *client, struct loop *loop, uint32_t index, bool persistent) {
  const struct options *options = loop->options;
  client->loop = loop;
  client->index = index;
  client->persistent = persistent;
  client->version = (uint8_t)options->version;
  client->websocket = options->websocket;
  client->batches = options->ws_batch;
  if (client->websocket) {
    if (!client->reader) client->reader = allocate(1, sizeof *client->reader);
    *client->reader = (struct websocket_reader){0};
  }
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (client->fd < 0) die("socket: %s", strerror(errno));
  int on = 1;
  setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  bind_source(client, options);
  struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
  if (inet_pton(AF_INET, options->host, &target.sin_addr) != 1) die("--host %s: want an IPv4 address", options->host);
  if (connect(client->fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS)
    die("connect to %s:%d: %s", options->host, options->port, strerror(errno));
  client->state = CLIENT_CONNECTING;
  client->wants_write = true;
  loop->open_count++;
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
  epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, client->fd, &event);
}

void client_close(struct client *client, bool forget_session) {
  if (client->state == CLIENT_CLOSED || client->state == CLIENT_UNUSED) return;
  if (client->state == CLIENT_READY) {
    uint8_t packet[16];
    client_write(client, packet, mqtt_put_disconnect(packet, client->version, forget_session));
    client_seal(client);
    buffer_send(&client->out, client->fd);
  }
  release(client);
}

static void greet(struct client *client) {
  const struct options *options = client->loop->options;
  uint8_t packet[MQTT_CONNECT_BYTES_MAX];
  char id[64];
  snprintf(id, sizeof id, "load-%08x-%u", options->run_id, client->index);
  struct mqtt_connect connect = {
      .version = client->version,
      .client_id = id,
      .clean = !client->persistent,
      .session_expiry_s = client->persistent ? SESSION_EXPIRY_S : 0,
      .user = options->user,
      .password = options->password,
  };
  client->state = CLIENT_GREETING;
  client_write(client, packet, mqtt_put_connect(packet, &connect));
}

void client_subscribe(struct client *client, uint16_t id, const char *filter, int qos) {
  uint8_t packet[MQTT_TEXT_MAX + 32];
  client_write(client, packet, mqtt_put_subscribe(packet, client->version, id, &filter, 1, qos));
}

static void acknowledge(struct client *client, enum mqtt_type type, uint16_t id) {
  mqtt_put_ack(client_reserve(client, 4), type, id);
  client_commit(client, 4);
}

static void on_connack(struct client *client, const uint8_t *body, uint32_t length) {
  char why[64];
  if (client->state != CLIENT_GREETING || length < 2) return fail(client, "an unexpected CONNACK");
  if (body[1]) {
    snprintf(why, sizeof why, "CONNACK refused with code 0x%02x", body[1]);
    return fail(client, why);
  }
  client->state = CLIENT_READY;
  client->loop->ready_count++;
  if (client->loop->handler->ready) client->loop->handler->ready(client);
}

static void on_publish(struct client *client, uint8_t first, const uint8_t *body, uint32_t length) {
  struct mqtt_publish publish;
  if (!mqtt_read_publish(&publish, client->version, first, body, length)) return fail(client, "a malformed PUBLISH");
  if (client->loop->handler->publish) client->loop->handler->publish(client, &publish);
  if (publish.qos == 1) acknowledge(client, MQTT_PUBACK, publish.packet_id);
  else if (publish.qos == 2) acknowledge(client, MQTT_PUBREC, publish.packet_id);
}

static void on_ack(struct client *client, enum mqtt_type type, const uint8_t *body, uint32_t length) {
  if (length < 2) return fail(client, "a malformed acknowledgement");
  uint16_t id = get16(body);
  uint8_t reason = length > 2 ? body[2] : 0;
  if (type == MQTT_PUBREL) return acknowledge(client, MQTT_PUBCOMP, id);
  if (type == MQTT_PUBREC && reason < 0x80) acknowledge(client, MQTT_PUBREL, id);
  if (client->loop->handler->acked) client->loop->handler->acked(client, type, id, reason);
}

static void on_suback(struct client *client, const uint8_t *body, uint32_t length) {
  uint32_t at = 2;
  if (client->version == 5) {
    if (length < 3 || body[2] > 127) return fail(client, "a SUBACK with long properties");
    at += 1u + body[2];
  }
  if (length < at) return fail(client, "a malformed SUBACK");
  if (client->loop->handler->suback) client->loop->handler->suback(client, get16(body), body + at, length - at);
}

static void on_disconnect(struct client *client, const uint8_t *body, uint32_t length) {
  char why[64];
  snprintf(why, sizeof why, "the broker sent DISCONNECT 0x%02x", length ? body[0] : 0);
  fail(client, why);
}

static void on_packet(struct client *client, uint8_t first, const uint8_t *body, uint32_t length) {
  enum mqtt_type type = first >> 4;
  switch (type) {
    case MQTT_PUBLISH: return on_publish(client, first, body, length);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: return on_ack(client, type, body, length);
    case MQTT_CONNACK: return on_connack(client, body, length);
    case MQTT_SUBACK: return on_suback(client, body, length);
    case MQTT_DISCONNECT: return on_disconnect(client, body, length);
    case MQTT_PINGRESP: return;
    default: fail(client, "a packet that no broker sends");
  }
}

/* Handles all whole packets and returns how many bytes they took. */
static size_t consume(struct client *client, const uint8_t *data, size_t length) {
  size_t at = 0;
  uint32_t header, total;
  int whole;
  while ((whole = mqtt_frame(data + at, length - at, &header, &total)) > 0) {
    on_packet(client, data[at], data + at + header, total - header);
    if (client->state == CLIENT_CLOSED) return length;
    at += total;
  }
  if (whole < 0) {
    fail(client, "a malformed packet length");
    return length;
  }
  return at;
}

static void carry(struct client *client, const uint8_t *data, size_t length) {
  if (length > client->carry_capacity) {
    client->carry_capacity = length < 256 ? 256 : (uint32_t)length;
    client->carry = reallocate(client->carry, client->carry_capacity);
  }
  if (length) memcpy(client->carry, data, length);
  client->carry_length = (uint32_t)length;
}

/* Data stands in the shared buffer: `carried` bytes from before, then `fresh` ones. */
static void receive(struct client *client, size_t carried, size_t fresh) {
  uint8_t *data = client->loop->read_buffer;
  if (client->state == CLIENT_UPGRADING) {
    long head = websocket_read_response(data, carried + fresh);
    if (head < 0) return fail(client, "the WebSocket upgrade was refused");
    if (head == 0) return carry(client, data, carried + fresh);
    data += head;
    fresh = carried + fresh - (size_t)head;
    carried = 0;
    greet(client);
  }
  if (client->websocket) {
    bool closed = false;
    client_seal(client);
    size_t before = buffer_length(&client->out);
    fresh = websocket_unwrap(client->reader, data + carried, fresh, &client->out, &closed);
    if (buffer_length(&client->out) > before) loop_touch(client->loop, client);
    if (closed) {
      consume(client, data, carried + fresh);
      return fail(client, "the broker closed the WebSocket");
    }
  }
  size_t length = carried + fresh, used = consume(client, data, length);
  if (client->state == CLIENT_CLOSED) return;
  carry(client, data + used, length - used);
}

static void read_all(struct client *client) {
  for (;;) {
    struct loop *loop = client->loop;
    size_t carried = client->carry_length, room = READ_BUFFER_BYTES - carried;
    ssize_t got = recv(client->fd, loop->read_buffer + carried, room, 0);
    if (got <= 0) {
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      return fail(client, got == 0 ? "the broker closed the connection" : strerror(errno));
    }
    loop->now_ns = clock_ns();
    if (carried) memcpy(loop->read_buffer, client->carry, carried);
    receive(client, carried, (size_t)got);
    if (client->state == CLIENT_CLOSED || (size_t)got < room) return;
  }
}

static void watch(struct client *client, bool wants_write) {
  if (client->wants_write == wants_write) return;
  client->wants_write = wants_write;
  struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0u), .data.ptr = client};
  epoll_ctl(client->loop->epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

void client_flush(struct client *client) {
  if (client->state == CLIENT_CLOSED || client->state == CLIENT_CONNECTING) return;
  client_seal(client);
  enum buffer_sent sent = buffer_send(&client->out, client->fd);
  if (sent == BUFFER_BROKEN) return fail(client, strerror(errno));
  watch(client, sent == BUFFER_BLOCKED);
}

static void on_connected(struct client *client) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error) return fail(client, strerror(error));
  if (client->websocket) {
    client->state = CLIENT_UPGRADING;
    const struct options *options = client->loop->options;
    websocket_put_request(&client->out, options->host, options->port, options->ws_path);
    loop_touch(client->loop, client);
  } else {
    greet(client);
  }
}

void client_event(struct client *client, uint32_t events) {
  if (client->state == CLIENT_CLOSED) return;
  if (client->state == CLIENT_CONNECTING) {
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) on_connected(client);
    return;
  }
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_all(client);
  if (events & EPOLLOUT && client->state != CLIENT_CLOSED) client_flush(client);
}
