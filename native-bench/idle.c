#include "idle.h"

#include <stdio.h>

#include "base.h"
#include "fleet.h"
#include "report.h"

static struct {
  const struct options *options;
  struct loop loop;
  uint32_t subscribed;
  uint64_t disconnects;
} idle;

static void on_ready(struct client *client) {
  char filter[128];
  snprintf(filter, sizeof filter, "idle/%08x/%u", idle.options->run_id, client->index);
  client_subscribe(client, 1, filter, idle.options->subscriber_qos);
}

static void on_suback(struct client *client, uint16_t id, const uint8_t *codes, size_t count) {
  (void)id;
  if (count != 1 || codes[0] >= 0x80) die("client %u: SUBACK code 0x%02x", client->index, count ? codes[0] : 0xff);
  idle.subscribed++;
}

static void on_closed(struct client *client, const char *why) {
  if (idle.disconnects++ < 3) fprintf(stderr, "load: client %u: %s\n", client->index, why);
}

static const struct client_handler handler = {.ready = on_ready, .suback = on_suback, .closed = on_closed};

static double open_all(struct client *clients, uint32_t count, uint32_t first) {
  uint64_t from_ns = clock_ns();
  fleet_open(&idle.loop, clients, count, first, false);
  fleet_await(&idle.loop, &idle.subscribed, first + count, "subscribe");
  return (double)(clock_ns() - from_ns) / (double)NANOSECONDS;
}

static void settle(void) {
  loop_run(&idle.loop, clock_ns() + (uint64_t)(idle.options->settle_s * (double)NANOSECONDS));
}

static void report_memory(const char *name, uint64_t from_kb, uint64_t to_kb, uint32_t connections) {
  report_number(name, ((double)to_kb - (double)from_kb) * 1024 / connections);
}

void idle_run(const struct options *options) {
  idle.options = options;
  loop_start(&idle.loop, options, &handler);
  struct client *primers = fleet_allocate(options->prime), *clients = fleet_allocate(options->connections);
  struct usage_span usage, quiet;
  open_all(primers, options->prime, 0);
  settle();
  usage_begin(&usage, options);
  double seconds = open_all(clients, options->connections, options->prime);
  settle();
  usage_end(&usage, options, seconds);
  usage_begin(&quiet, options);
  loop_run(&idle.loop, clock_ns() + NANOSECONDS);
  usage_end(&quiet, options, 1);

  report_begin(options);
  report_count("connections", options->connections);
  report_count("disconnects", idle.disconnects);
  report_number("openSeconds", seconds);
  report_number("opensPerSecond", options->connections / seconds);
  if (usage.known) {
    const struct process_usage *from = &usage.broker_from, *to = &usage.broker_to;
    report_open("bytesPerConnection");
    report_memory("pss", from->pss_kb, to->pss_kb, options->connections);
    report_memory("rss", from->rss_kb, to->rss_kb, options->connections);
    report_memory("anonymous", from->anonymous_kb, to->anonymous_kb, options->connections);
    report_close();
    report_number("cpuUsPerConnection", (to->cpu_s - from->cpu_s) * 1e6 / options->connections);
    report_number("idleCores", quiet.broker_to.cpu_s - quiet.broker_from.cpu_s);
  }
  report_usage(&usage, 0);
  report_end();
  fleet_close(clients, options->connections, true);
  fleet_close(primers, options->prime, true);
}
