/* Bytes waiting to be sent: appended at the end, sent from the start, compacted when that is free. */
#ifndef BUFFER_H
#define BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
  uint8_t *data;
  size_t start, end, capacity;
};

enum buffer_sent { BUFFER_DRAINED, BUFFER_BLOCKED, BUFFER_BROKEN };

static inline size_t buffer_length(const struct buffer *buffer) {
  return buffer->end - buffer->start;
}

void buffer_grow(struct buffer *buffer, size_t bytes);

/* Room for `bytes` more at the end; the caller fills it and then advances `end`. */
static inline uint8_t *buffer_reserve(struct buffer *buffer, size_t bytes) {
  if (buffer->capacity - buffer->end < bytes) buffer_grow(buffer, bytes);
  return buffer->data + buffer->end;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length);

/* Sends all there is in as few calls as the socket takes. */
enum buffer_sent buffer_send(struct buffer *buffer, int fd);

void buffer_free(struct buffer *buffer);

#endif
