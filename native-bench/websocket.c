#include "websocket.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { OPCODE_CONTINUE = 0, OPCODE_TEXT = 1, OPCODE_BINARY = 2, OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };

void websocket_put_request(struct buffer *out, const char *host, int port, const char *path) {
  char request[1024];
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: c2hvYWxtcS1sb2FkdGVzdA==\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Protocol: mqtt\r\n\r\n",
                        path, host, port);
  buffer_append(out, request, (size_t)length);
}

long websocket_read_response(const uint8_t *data, size_t length) {
  const uint8_t *end = memmem(data, length, "\r\n\r\n", 4);
  if (!end) return length < 4096 ? 0 : -1;
  if (length < 12 || strncmp((const char *)data, "HTTP/1.1 101", 12) != 0) return -1;
  return end + 4 - data;
}

void websocket_seal(uint8_t *at, uint8_t opcode, size_t length) {
  static uint32_t seed = 0x9e3779b9;
  seed = seed * 1664525 + 1013904223;
  size_t header = 2;
  at[0] = 0x80 | opcode;
  if (length < 126) {
    at[1] = (uint8_t)(0x80 | length);
  } else if (length < 65536) {
    at[1] = 0x80 | 126;
    at[2] = (uint8_t)(length >> 8);
    at[3] = (uint8_t)length;
    header = 4;
  } else {
    at[1] = 0x80 | 127;
    for (int i = 0; i < 8; i++) at[2 + i] = (uint8_t)((uint64_t)length >> (56 - 8 * i));
    header = 10;
  }
  memcpy(at + header, &seed, 4);
  uint8_t *payload = at + header + 4;
  uint64_t mask = (uint64_t)seed << 32 | seed, word;
  size_t i = 0;
  for (; i + 8 <= length; i += 8) {
    memcpy(&word, payload + i, 8);
    word ^= mask;
    memcpy(payload + i, &word, 8);
  }
  for (; i < length; i++) payload[i] ^= (uint8_t)(seed >> 8 * (i % 4));
}

/* Takes header bytes one by one until the frame's header is whole; true when it is. */
static bool read_header(struct websocket_reader *reader, const uint8_t **from, const uint8_t *end, bool *closed) {
  while (*from < end) {
    reader->header[reader->header_length++] = *(*from)++;
    if (reader->header_length < 2) continue;
    uint8_t small = reader->header[1] & 0x7f;
    size_t wanted = small == 127 ? 10 : small == 126 ? 4 : 2;
    if (reader->header_length < wanted) continue;
    reader->opcode = reader->header[0] & 0x0f;
    reader->remaining = small;
    if (wanted > 2) {
      reader->remaining = 0;
      for (size_t i = 2; i < wanted; i++) reader->remaining = reader->remaining << 8 | reader->header[i];
    }
    reader->header_length = 0;
    reader->control_length = 0;
    if (reader->header[1] & 0x80 || reader->opcode == OPCODE_TEXT) *closed = true;
    if (reader->opcode >= OPCODE_CLOSE && reader->remaining > 125) *closed = true;
    return !*closed;
  }
  return false;
}

static void end_control(struct websocket_reader *reader, struct buffer *replies, bool *closed) {
  if (reader->opcode == OPCODE_CLOSE) *closed = true;
  if (reader->opcode != OPCODE_PING) return;
  uint8_t *at = buffer_reserve(replies, 6 + sizeof reader->control);
  memcpy(at + 6, reader->control, reader->control_length);
  websocket_seal(at, OPCODE_PONG, reader->control_length);
  replies->end += 6u + reader->control_length;
}

size_t websocket_unwrap(struct websocket_reader *reader, uint8_t *data, size_t length, struct buffer *replies,
                        bool *closed) {
  const uint8_t *from = data, *end = data + length;
  uint8_t *to = data;
  while (from < end) {
    if (reader->remaining == 0) {
      if (!read_header(reader, &from, end, closed)) break;
      if (reader->remaining == 0 && reader->opcode >= OPCODE_CLOSE) end_control(reader, replies, closed);
      if (*closed) break;
    }
    size_t take = (size_t)(end - from) < reader->remaining ? (size_t)(end - from) : reader->remaining;
    reader->remaining -= take;
    if (reader->opcode >= OPCODE_CLOSE) {
      memcpy(reader->control + reader->control_length, from, take);
      reader->control_length = (uint8_t)(reader->control_length + take);
      if (reader->remaining == 0 && take > 0) end_control(reader, replies, closed);
      if (*closed) break;
    } else {
      memmove(to, from, take);
      to += take;
    }
    from += take;
  }
  return (size_t)(to - data);
}
