/* The client's side of WebSocket (RFC 6455): upgrade, masked frames out, frames in unwrapped where they lie. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

#define WEBSOCKET_HEADER_MAX 14

struct websocket_reader {
  uint64_t remaining; /* payload bytes of the current frame still to come */
  uint8_t header[10], header_length;
  uint8_t opcode;
  uint8_t control_length;
  uint8_t control[125];
};

void websocket_put_request(struct buffer *out, const char *host, int port, const char *path);

/* The length of a complete "101 Switching Protocols" answer, 0 when more is needed, -1 when refused. */
long websocket_read_response(const uint8_t *data, size_t length);

/* Bytes that a client frame's header takes in front of `length` bytes of payload. */
static inline size_t websocket_header_size(size_t length) {
  return length < 126 ? 6 : length < 65536 ? 8 : 14;
}

/* Writes a header at `at` and masks the payload that already stands behind it. */
void websocket_seal(uint8_t *at, uint8_t opcode, size_t length);

/* Moves the payloads of all frames in `data` together to its start and returns their length. Pings are answered into
   `replies`; `closed` is set on a close frame or on one that a server may not send. */
size_t websocket_unwrap(struct websocket_reader *reader, uint8_t *data, size_t length, struct buffer *replies,
                        bool *closed);

#endif
