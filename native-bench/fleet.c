#include "fleet.h"

#include "base.h"

struct client *fleet_allocate(uint32_t count) {
  return allocate(count, sizeof(struct client));
}

void fleet_await(struct loop *loop, const uint32_t *counter, uint32_t wanted, const char *what) {
  uint32_t last = *counter;
  uint64_t deadline_ns = clock_ns() + FLEET_TIMEOUT_S * NANOSECONDS;
  while (*counter < wanted) {
    loop_turn(loop, loop->now_ns + NANOSECONDS / 10);
    if (*counter != last) {
      last = *counter;
      deadline_ns = loop->now_ns + FLEET_TIMEOUT_S * NANOSECONDS;
    } else if (loop->now_ns > deadline_ns) {
      die("%s: only %u of %u after %d s of silence", what, *counter, wanted, FLEET_TIMEOUT_S);
    }
  }
}

void fleet_open(struct loop *loop, struct client *clients, uint32_t count, uint32_t first_index, bool persistent) {
  uint32_t before = loop->ready_count, burst = loop->options->connect_burst;
  for (uint32_t i = 0; i < count; i++) {
    if (loop->open_count - loop->ready_count >= burst) fleet_await(loop, &loop->ready_count, before + i - burst / 2, "connect");
    client_open(&clients[i], loop, first_index + i, persistent);
  }
  fleet_await(loop, &loop->ready_count, before + count, "connect");
}

void fleet_close(struct client *clients, uint32_t count, bool forget_session) {
  for (uint32_t i = 0; i < count; i++) client_close(&clients[i], forget_session);
}
