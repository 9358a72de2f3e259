#include "buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base.h"

#define BUFFER_BYTES_MAX (256u << 20)

void buffer_grow(struct buffer *buffer, size_t bytes) {
  size_t length = buffer_length(buffer);
  if (buffer->start > 0) {
    memmove(buffer->data, buffer->data + buffer->start, length);
    buffer->start = 0;
    buffer->end = length;
    if (buffer->capacity - length >= bytes) return;
  }
  size_t capacity = buffer->capacity ? buffer->capacity : 256;
  while (capacity - length < bytes) capacity *= 2;
  if (capacity > BUFFER_BYTES_MAX) die("a connection has over %u MiB waiting to be sent", BUFFER_BYTES_MAX >> 20);
  buffer->data = reallocate(buffer->data, capacity);
  buffer->capacity = capacity;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length) {
  memcpy(buffer_reserve(buffer, length), bytes, length);
  buffer->end += length;
}

enum buffer_sent buffer_send(struct buffer *buffer, int fd) {
  while (buffer->start < buffer->end) {
    ssize_t sent = send(fd, buffer->data + buffer->start, buffer_length(buffer), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN ? BUFFER_BLOCKED : BUFFER_BROKEN;
    }
    buffer->start += (size_t)sent;
  }
  buffer->start = buffer->end = 0;
  return BUFFER_DRAINED;
}

void buffer_free(struct buffer *buffer) {
  free(buffer->data);
  *buffer = (struct buffer){0};
}
