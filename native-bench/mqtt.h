/* The bytes of MQTT 3.1.1 and 5 that a benchmark needs. Writers return the length written; the caller gives room. */
#ifndef MQTT_H
#define MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mqtt_type {
  MQTT_CONNECT = 1,
  MQTT_CONNACK,
  MQTT_PUBLISH,
  MQTT_PUBACK,
  MQTT_PUBREC,
  MQTT_PUBREL,
  MQTT_PUBCOMP,
  MQTT_SUBSCRIBE,
  MQTT_SUBACK,
  MQTT_UNSUBSCRIBE,
  MQTT_UNSUBACK,
  MQTT_PINGREQ,
  MQTT_PINGRESP,
  MQTT_DISCONNECT,
};

struct mqtt_connect {
  int version; /* 4 or 5 */
  const char *client_id;
  bool clean;
  uint32_t session_expiry_s; /* MQTT 5 only; 0 leaves the property out */
  const char *user, *password; /* may be NULL */
};

/* A PUBLISH as received; pointers into the read buffer. */
struct mqtt_publish {
  const uint8_t *topic, *payload;
  uint32_t topic_length, payload_length;
  uint16_t packet_id;
  uint8_t qos;
  bool retain, dup;
};

/* Where in a prepared PUBLISH the changing parts stand. */
struct mqtt_template {
  uint8_t *bytes;
  uint32_t length, id_offset, payload_offset;
};

#define MQTT_TEXT_MAX 512
#define MQTT_CONNECT_BYTES_MAX (4 * MQTT_TEXT_MAX)

static inline uint16_t get16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint8_t *put16(uint8_t *p, uint32_t value) {
  p[0] = (uint8_t)(value >> 8);
  p[1] = (uint8_t)value;
  return p + 2;
}

/* A packet's fixed header: 1 when it and the whole body are within `available`, 0 when more is needed, -1 malformed.
   `total` is set as soon as the length is known. */
static inline int mqtt_frame(const uint8_t *p, size_t available, uint32_t *header, uint32_t *total) {
  if (available < 2) return 0;
  uint32_t remaining = p[1] & 0x7f, used = 2;
  for (uint32_t shift = 7; p[used - 1] & 0x80; shift += 7) {
    if (shift > 21) return -1;
    if (used >= available) return 0;
    remaining |= (uint32_t)(p[used++] & 0x7f) << shift;
  }
  *header = used;
  *total = used + remaining;
  return *total <= available;
}

uint8_t *mqtt_put_varint(uint8_t *p, uint32_t value);
size_t mqtt_put_connect(uint8_t *out, const struct mqtt_connect *connect);
/* One SUBSCRIBE over `count` filters, each at most MQTT_TEXT_MAX long. */
size_t mqtt_put_subscribe(uint8_t *out, int version, uint16_t id, const char *const *filters, size_t count, int qos);
size_t mqtt_put_ack(uint8_t *out, enum mqtt_type type, uint16_t id);
/* DISCONNECT; in MQTT 5 with session expiry 0 where `forget` asks for it. */
size_t mqtt_put_disconnect(uint8_t *out, int version, bool forget);

/* Allocates a PUBLISH with a payload of `payload` bytes of filler. */
struct mqtt_template mqtt_publish_template(int version, const char *topic, int qos, bool retain, size_t payload);

/* Reads a PUBLISH body; false when malformed. */
bool mqtt_read_publish(struct mqtt_publish *out, int version, uint8_t first, const uint8_t *body, uint32_t length);

#endif
