#include "mqtt.h"

#include <string.h>

#include "base.h"

uint8_t *mqtt_put_varint(uint8_t *p, uint32_t value) {
  do {
    *p++ = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>= 7;
  } while (value > 0);
  return p;
}

static uint8_t *put_text(uint8_t *p, const char *text) {
  size_t length = strlen(text);
  if (length > MQTT_TEXT_MAX) die("text over %d bytes: %.40s...", MQTT_TEXT_MAX, text);
  p = put16(p, (uint32_t)length);
  memcpy(p, text, length);
  return p + length;
}

static size_t varint_size(uint32_t value) {
  return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

/* Puts the fixed header in front of a body that was written at `out + 5`, and closes the gap. */
static size_t frame(uint8_t *out, uint8_t first, const uint8_t *body_end) {
  uint32_t length = (uint32_t)(body_end - (out + 5));
  out[0] = first;
  uint8_t *body = mqtt_put_varint(out + 1, length);
  memmove(body, out + 5, length);
  return (size_t)(body + length - out);
}

size_t mqtt_put_connect(uint8_t *out, const struct mqtt_connect *connect) {
  uint8_t *p = put_text(out + 5, "MQTT");
  *p++ = (uint8_t)connect->version;
  *p++ = (uint8_t)((connect->clean ? 0x02 : 0) | (connect->user ? 0x80 : 0) | (connect->password ? 0x40 : 0));
  p = put16(p, 0);
  if (connect->version == 5) {
    *p++ = connect->session_expiry_s ? 5 : 0;
    if (connect->session_expiry_s) {
      *p++ = 0x11;
      p = put16(p, connect->session_expiry_s >> 16);
      p = put16(p, connect->session_expiry_s & 0xffff);
    }
  }
  p = put_text(p, connect->client_id);
  if (connect->user) p = put_text(p, connect->user);
  if (connect->password) p = put_text(p, connect->password);
  return frame(out, MQTT_CONNECT << 4, p);
}

size_t mqtt_put_subscribe(uint8_t *out, int version, uint16_t id, const char *const *filters, size_t count, int qos) {
  uint8_t *p = put16(out + 5, id);
  if (version == 5) *p++ = 0;
  for (size_t i = 0; i < count; i++) {
    p = put_text(p, filters[i]);
    *p++ = (uint8_t)qos;
  }
  return frame(out, MQTT_SUBSCRIBE << 4 | 2, p);
}

size_t mqtt_put_ack(uint8_t *out, enum mqtt_type type, uint16_t id) {
  out[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
  out[1] = 2;
  put16(out + 2, id);
  return 4;
}

size_t mqtt_put_disconnect(uint8_t *out, int version, bool forget) {
  static const uint8_t forgetting[] = {MQTT_DISCONNECT << 4, 7, 0, 5, 0x11, 0, 0, 0, 0};
  size_t length = version == 5 && forget ? sizeof forgetting : 2;
  memcpy(out, forgetting, length);
  if (length == 2) out[1] = 0;
  return length;
}

struct mqtt_template mqtt_publish_template(int version, const char *topic, int qos, bool retain, size_t payload) {
  size_t body = 2 + strlen(topic) + (qos ? 2 : 0) + (version == 5 ? 1 : 0) + payload;
  struct mqtt_template made = {.length = (uint32_t)(1 + varint_size((uint32_t)body) + body)};
  made.bytes = allocate(1, made.length);
  made.bytes[0] = (uint8_t)(MQTT_PUBLISH << 4 | qos << 1 | (retain ? 1 : 0));
  uint8_t *p = put_text(mqtt_put_varint(made.bytes + 1, (uint32_t)body), topic);
  made.id_offset = (uint32_t)(p - made.bytes);
  if (qos) p += 2;
  if (version == 5) *p++ = 0;
  made.payload_offset = (uint32_t)(p - made.bytes);
  for (size_t i = 0; i < payload; i++) p[i] = (uint8_t)('a' + i % 26);
  return made;
}

bool mqtt_read_publish(struct mqtt_publish *out, int version, uint8_t first, const uint8_t *body, uint32_t length) {
  if (length < 2) return false;
  out->qos = first >> 1 & 3;
  out->retain = first & 1;
  out->dup = first & 8;
  out->topic = body + 2;
  out->topic_length = get16(body);
  uint32_t at = 2 + out->topic_length;
  if (out->qos) {
    if (at + 2 > length) return false;
    out->packet_id = get16(body + at);
    at += 2;
  }
  if (version == 5) {
    uint32_t properties = 0, shift = 0;
    do {
      if (at >= length || shift > 21) return false;
      properties |= (uint32_t)(body[at] & 0x7f) << shift;
      shift += 7;
    } while (body[at++] & 0x80);
    at += properties;
  }
  if (at > length) return false;
  out->payload = body + at;
  out->payload_length = length - at;
  return true;
}
