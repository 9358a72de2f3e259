#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#include "base.h"
#include "client.h"

#define EVENTS_PER_TURN 256

void loop_start(struct loop *loop, const struct options *options, const struct client_handler *handler) {
  *loop = (struct loop){.options = options, .handler = handler};
  loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (loop->epoll_fd < 0) die("epoll_create1 failed");
  loop->read_buffer = allocate(1, READ_BUFFER_BYTES);
  loop->now_ns = clock_ns();
  /* The default slack of 50 us would be seen as latency at a fixed rate. */
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
}

void loop_touch(struct loop *loop, struct client *client) {
  if (client->dirty) return;
  client->dirty = true;
  if (loop->dirty_count == loop->dirty_capacity) {
    loop->dirty_capacity = loop->dirty_capacity ? 2 * loop->dirty_capacity : 1024;
    loop->dirty = reallocate(loop->dirty, loop->dirty_capacity * sizeof *loop->dirty);
  }
  loop->dirty[loop->dirty_count++] = client;
}

static void flush(struct loop *loop) {
  for (size_t i = 0; i < loop->dirty_count; i++) {
    loop->dirty[i]->dirty = false;
    client_flush(loop->dirty[i]);
  }
  loop->dirty_count = 0;
}

void loop_turn(struct loop *loop, uint64_t until_ns) {
  struct epoll_event events[EVENTS_PER_TURN];
  if (loop->handler->turn) loop->handler->turn();
  flush(loop);
  uint64_t now_ns = clock_ns(), wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
  struct timespec wait = {(time_t)(wait_ns / NANOSECONDS), (long)(wait_ns % NANOSECONDS)};
  int count = epoll_pwait2(loop->epoll_fd, events, EVENTS_PER_TURN, &wait, NULL);
  if (count < 0 && errno != EINTR) die("epoll_pwait2 failed: errno %d", errno);
  loop->now_ns = clock_ns();
  for (int i = 0; i < count; i++) client_event(events[i].data.ptr, events[i].events);
}

void loop_run(struct loop *loop, uint64_t until_ns) {
  do loop_turn(loop, until_ns);
  while (loop->now_ns < until_ns);
}
