#include "connect.h"

#include <stdio.h>

#include "base.h"
#include "fleet.h"
#include "histogram.h"
#include "report.h"

static struct {
  struct loop loop;
  struct client *clients;
  uint64_t *opened_ns;
  uint32_t *again; /* slots to be opened anew in the next turn */
  uint32_t again_count, next_index;
  bool measuring, stopping;
  uint64_t done, failed;
  struct histogram latency;
} churn;

static void on_ready(struct client *client) {
  uint32_t slot = (uint32_t)(client - churn.clients);
  if (churn.measuring) {
    churn.done++;
    histogram_add(&churn.latency, churn.loop.now_ns - churn.opened_ns[slot]);
  }
  client_close(client, true);
  churn.again[churn.again_count++] = slot;
}

static void on_closed(struct client *client, const char *why) {
  if (churn.failed++ < 3) fprintf(stderr, "load: connection %u: %s\n", client->index, why);
  churn.again[churn.again_count++] = (uint32_t)(client - churn.clients);
}

static void on_turn(void) {
  if (churn.stopping) return;
  for (uint32_t i = 0; i < churn.again_count; i++) {
    uint32_t slot = churn.again[i];
    churn.opened_ns[slot] = clock_ns();
    client_open(&churn.clients[slot], &churn.loop, churn.next_index++, false);
  }
  churn.again_count = 0;
}

static const struct client_handler handler = {.ready = on_ready, .closed = on_closed, .turn = on_turn};

void connect_run(const struct options *options) {
  loop_start(&churn.loop, options, &handler);
  churn.clients = fleet_allocate(options->window);
  churn.opened_ns = allocate(options->window, sizeof *churn.opened_ns);
  churn.again = allocate(options->window, sizeof *churn.again);
  for (uint32_t i = 0; i < options->window; i++) churn.again[churn.again_count++] = i;
  loop_run(&churn.loop, clock_ns() + (uint64_t)(options->warmup_s * (double)NANOSECONDS));

  struct usage_span usage;
  usage_begin(&usage, options);
  churn.measuring = true;
  uint64_t from_ns = clock_ns();
  loop_run(&churn.loop, from_ns + (uint64_t)(options->seconds * (double)NANOSECONDS));
  churn.measuring = false;
  double seconds = (double)(clock_ns() - from_ns) / (double)NANOSECONDS;
  usage_end(&usage, options, seconds);
  churn.stopping = true;
  fleet_close(churn.clients, options->window, true);

  report_begin(options);
  report_number("seconds", seconds);
  report_count("connections", churn.done);
  report_number("connectionsPerSecond", (double)churn.done / seconds);
  report_count("failed", churn.failed);
  report_latency("latencyUs", &churn.latency);
  report_usage(&usage, churn.done);
  report_end();
}
