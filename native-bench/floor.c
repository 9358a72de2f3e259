/*
 * floor: the least that a single-threaded broker can do for its clients, as a yardstick. One epoll loop reads, finds
 * the receivers of a topic in a table that is made at its first PUBLISH, copies the packet to each of them and writes
 * once per connection and turn (--plain: once per message). MQTT 3.1.1, QoS 0 and 1, exact filters and a trailing /+
 * or /# taken as a prefix. No sessions, no authentication, no limits, no checks, no redelivery: not a broker.
 *
 * A receiver that takes less than it is sent is waited for as soon as 4 MiB are due to it, and everybody waits along.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"
#include "buffer.h"
#include "mqtt.h"

#define READ_BYTES (256u << 10)
#define PENDING_BYTES_MAX (4u << 20)
#define TOPIC_BUCKETS 65536

struct peer {
  int fd;
  uint16_t last_id;
  bool dirty, wants_write, closed;
  struct buffer out;
  uint8_t *carry;
  uint32_t carry_length, carry_capacity;
  struct peer *next_doomed;
};

struct subscription {
  struct peer *peer;
  char *filter;
  uint32_t length;
  bool prefix;
  uint8_t qos;
};

struct receiver {
  struct peer *peer;
  uint8_t qos;
};

struct topic {
  struct topic *next;
  struct receiver *receivers;
  uint32_t count, length;
  char text[];
};

static bool plain;
static int epoll_fd;
static uint8_t read_buffer[READ_BYTES];
static struct subscription *subscriptions;
static uint32_t subscription_count, subscription_capacity;
static struct topic *topics[TOPIC_BUCKETS];
static bool topics_known;
static struct peer **dirty;
static size_t dirty_count, dirty_capacity;
static struct peer *doomed;

/* The peer goes at the turn's end, when nothing points to it any more. */
static void close_peer(struct peer *peer) {
  if (peer->closed) return;
  peer->closed = true;
  peer->next_doomed = doomed;
  doomed = peer;
}

static void flush(struct peer *peer) {
  if (peer->closed) return;
  enum buffer_sent sent = buffer_send(&peer->out, peer->fd);
  if (sent == BUFFER_BROKEN) return close_peer(peer);
  if ((sent == BUFFER_BLOCKED) == peer->wants_write) return;
  peer->wants_write = !peer->wants_write;
  struct epoll_event event = {.events = EPOLLIN | (peer->wants_write ? EPOLLOUT : 0u), .data.ptr = peer};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, peer->fd, &event);
}

static void touch(struct peer *peer) {
  if (plain) flush(peer);
  while (buffer_length(&peer->out) > PENDING_BYTES_MAX && !peer->closed) {
    struct pollfd ready = {peer->fd, POLLOUT, 0};
    poll(&ready, 1, -1);
    flush(peer);
  }
  if (peer->dirty) return;
  peer->dirty = true;
  if (dirty_count == dirty_capacity) {
    dirty_capacity = dirty_capacity ? 2 * dirty_capacity : 1024;
    dirty = reallocate(dirty, dirty_capacity * sizeof *dirty);
  }
  dirty[dirty_count++] = peer;
}

static void forget_topics(void) {
  if (!topics_known) return;
  topics_known = false;
  for (uint32_t i = 0; i < TOPIC_BUCKETS; i++) {
    for (struct topic *topic = topics[i], *next; topic; topic = next) {
      next = topic->next;
      free(topic->receivers);
      free(topic);
    }
    topics[i] = NULL;
  }
}

static void bury_doomed(void) {
  if (!doomed) return;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < subscription_count; i++) {
    if (subscriptions[i].peer->closed) free(subscriptions[i].filter);
    else subscriptions[kept++] = subscriptions[i];
  }
  if (kept < subscription_count) forget_topics();
  subscription_count = kept;
  for (struct peer *peer = doomed, *next; peer; peer = next) {
    next = peer->next_doomed;
    close(peer->fd);
    buffer_free(&peer->out);
    free(peer->carry);
    free(peer);
  }
  doomed = NULL;
}

static void subscribe(struct peer *peer, const uint8_t *body, uint32_t length) {
  uint8_t *ack = buffer_reserve(&peer->out, 5), codes = 0;
  uint32_t at = 2;
  while (at + 3 <= length) {
    uint32_t text = get16(body + at);
    if (at + 3 + text > length || codes == 100) break;
    if (subscription_count == subscription_capacity) {
      subscription_capacity = subscription_capacity ? 2 * subscription_capacity : 1024;
      subscriptions = reallocate(subscriptions, subscription_capacity * sizeof *subscriptions);
    }
    const char *filter = (const char *)body + at + 2;
    bool prefix = text > 0 && (filter[text - 1] == '+' || filter[text - 1] == '#');
    struct subscription *made = &subscriptions[subscription_count++];
    *made = (struct subscription){peer, strndup(filter, text), text - prefix, prefix, body[at + 2 + text] ? 1 : 0};
    at += 3 + text;
    ack = buffer_reserve(&peer->out, 5u + codes);
    ack[4 + codes++] = made->qos;
  }
  forget_topics();
  ack[0] = MQTT_SUBACK << 4;
  ack[1] = 2 + codes;
  put16(ack + 2, get16(body));
  peer->out.end += 4u + codes;
  touch(peer);
}

static struct topic *make_topic(const char *text, uint32_t length) {
  struct topic *topic = allocate(1, sizeof *topic + length);
  topic->length = length;
  memcpy(topic->text, text, length);
  topic->receivers = allocate(subscription_count, sizeof *topic->receivers);
  for (uint32_t i = 0; i < subscription_count; i++) {
    const struct subscription *s = &subscriptions[i];
    if (s->prefix ? length < s->length : length != s->length) continue;
    if (memcmp(s->filter, text, s->length) != 0) continue;
    topic->receivers[topic->count++] = (struct receiver){s->peer, s->qos};
  }
  return topic;
}

static struct topic *find_topic(const char *text, uint32_t length) {
  uint32_t hash = 2166136261u;
  for (uint32_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)text[i]) * 16777619u;
  struct topic **slot = &topics[hash % TOPIC_BUCKETS];
  for (struct topic *topic = *slot; topic; topic = topic->next)
    if (topic->length == length && memcmp(topic->text, text, length) == 0) return topic;
  struct topic *topic = make_topic(text, length);
  topic->next = *slot;
  topics_known = true;
  return *slot = topic;
}

static void deliver(const struct receiver *to, uint8_t first, const struct mqtt_publish *publish) {
  struct peer *peer = to->peer;
  uint8_t qos = publish->qos < to->qos ? publish->qos : to->qos;
  uint32_t length = 2 + publish->topic_length + (qos ? 2 : 0) + publish->payload_length;
  uint8_t *p = buffer_reserve(&peer->out, length + 5), *from = p;
  *p++ = (uint8_t)((first & 0xf0) | qos << 1);
  p = put16(mqtt_put_varint(p, length), publish->topic_length);
  memcpy(p, publish->topic, publish->topic_length);
  p += publish->topic_length;
  if (qos) {
    if (++peer->last_id == 0) peer->last_id = 1;
    p = put16(p, peer->last_id);
  }
  memcpy(p, publish->payload, publish->payload_length);
  peer->out.end += (size_t)(p + publish->payload_length - from);
  touch(peer);
}

static void on_publish(struct peer *peer, uint8_t first, const uint8_t *body, uint32_t length) {
  struct mqtt_publish publish;
  if (!mqtt_read_publish(&publish, 4, first, body, length) || publish.qos == 2) return close_peer(peer);
  const struct topic *topic = find_topic((const char *)publish.topic, publish.topic_length);
  for (uint32_t i = 0; i < topic->count; i++) deliver(&topic->receivers[i], first, &publish);
  if (!publish.qos) return;
  peer->out.end += mqtt_put_ack(buffer_reserve(&peer->out, 4), MQTT_PUBACK, publish.packet_id);
  touch(peer);
}

static void answer(struct peer *peer, uint8_t first) {
  static const uint8_t connack[] = {MQTT_CONNACK << 4, 2, 0, 0}, pingresp[] = {MQTT_PINGRESP << 4, 0};
  if (first >> 4 == MQTT_CONNECT) buffer_append(&peer->out, connack, sizeof connack);
  else buffer_append(&peer->out, pingresp, sizeof pingresp);
  touch(peer);
}

static void on_packet(struct peer *peer, uint8_t first, const uint8_t *body, uint32_t length) {
  switch (first >> 4) {
    case MQTT_PUBLISH: return on_publish(peer, first, body, length);
    case MQTT_PUBACK: return;
    case MQTT_CONNECT:
    case MQTT_PINGREQ: return answer(peer, first);
    case MQTT_SUBSCRIBE: return subscribe(peer, body, length);
    default: close_peer(peer);
  }
}

static void receive(struct peer *peer) {
  if (peer->carry_length) memcpy(read_buffer, peer->carry, peer->carry_length);
  ssize_t got = recv(peer->fd, read_buffer + peer->carry_length, READ_BYTES - peer->carry_length, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return close_peer(peer);
  size_t length = peer->carry_length + (size_t)got, at = 0;
  uint32_t header, total;
  int whole;
  while ((whole = mqtt_frame(read_buffer + at, length - at, &header, &total)) > 0) {
    on_packet(peer, read_buffer[at], read_buffer + at + header, total - header);
    if (peer->closed) return;
    at += total;
  }
  if (whole < 0) return close_peer(peer);
  peer->carry_length = (uint32_t)(length - at);
  if (peer->carry_length > peer->carry_capacity) {
    peer->carry_capacity = 2 * peer->carry_length;
    peer->carry = reallocate(peer->carry, peer->carry_capacity);
  }
  if (peer->carry_length) memcpy(peer->carry, read_buffer + at, peer->carry_length);
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct peer *peer = allocate(1, sizeof *peer);
    peer->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
  }
}

static void serve(int listener) {
  struct epoll_event events[256];
  for (;;) {
    int count = epoll_wait(epoll_fd, events, 256, -1);
    for (int i = 0; i < count; i++) {
      struct peer *peer = events[i].data.ptr;
      if (!peer) accept_all(listener);
      else if (!peer->closed && events[i].events & ~EPOLLOUT) receive(peer);
      else if (!peer->closed) touch(peer);
    }
    for (size_t i = 0; i < dirty_count; i++) {
      dirty[i]->dirty = false;
      flush(dirty[i]);
    }
    dirty_count = 0;
    bury_doomed();
  }
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
    die("cannot listen on 127.0.0.1:%d: %s", port, strerror(errno));
  return fd;
}

int main(int count, char **arguments) {
  int port = 1883;
  program_name = "floor";
  for (int i = 1; i < count; i++) {
    if (strcmp(arguments[i], "--plain") == 0) plain = true;
    else if (strcmp(arguments[i], "--port") == 0 && i + 1 < count) port = atoi(arguments[++i]);
    else die("usage: floor [--port N] [--plain]");
  }
  signal(SIGPIPE, SIG_IGN);
  raise_file_limit(20000);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  int listener = listen_on(port);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
  serve(listener);
}
