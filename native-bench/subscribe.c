#include "subscribe.h"

#include <stdio.h>

#include "base.h"
#include "fleet.h"
#include "histogram.h"
#include "report.h"

#define FILTER_TEXT_MAX 64

struct subscriber {
  uint32_t number, sent, in_flight; /* sent counts filters, in_flight packets */
  uint16_t last_id;
};

static struct {
  const struct options *options;
  struct loop loop;
  struct subscriber *subscribers;
  struct client *clients;
  uint32_t acked;
  uint64_t refused;
  bool sending;
} subscribing;

/* A tree of a hundred filters to a branch; a share of them, spread evenly, with a '+' for the branch. */
static void filter_of(char *out, uint32_t client, uint32_t number) {
  uint32_t run = subscribing.options->run_id;
  if (number % 100 < subscribing.options->wild_percent)
    snprintf(out, FILTER_TEXT_MAX, "s/%08x/%u/+/%u", run, client, number);
  else snprintf(out, FILTER_TEXT_MAX, "s/%08x/%u/%u/%u", run, client, number / 100, number);
}

static uint32_t share_of(uint32_t client) {
  const struct options *o = subscribing.options;
  return o->filters / o->connections + (client < o->filters % o->connections);
}

static bool subscribe_next(struct client *client, struct subscriber *subscriber) {
  const struct options *o = subscribing.options;
  char texts[100][FILTER_TEXT_MAX];
  const char *filters[100];
  uint32_t left = share_of(subscriber->number) - subscriber->sent;
  uint32_t count = left < o->filters_per_packet ? left : o->filters_per_packet;
  if (count == 0 || subscriber->in_flight >= o->window) return false;
  for (uint32_t i = 0; i < count; i++) {
    filter_of(texts[i], subscriber->number, subscriber->sent + i);
    filters[i] = texts[i];
  }
  uint8_t packet[100 * (FILTER_TEXT_MAX + 3) + 16];
  if (++subscriber->last_id == 0) subscriber->last_id = 1;
  client_write(client, packet, mqtt_put_subscribe(packet, o->version, subscriber->last_id, filters, count, o->subscriber_qos));
  subscriber->sent += count;
  subscriber->in_flight++;
  return true;
}

static void on_suback(struct client *client, uint16_t id, const uint8_t *codes, size_t count) {
  (void)id;
  struct subscriber *subscriber = client->owner;
  subscriber->in_flight--;
  subscribing.acked += (uint32_t)count;
  for (size_t i = 0; i < count; i++) subscribing.refused += codes[i] >= 0x80;
}

static void on_turn(void) {
  if (!subscribing.sending) return;
  for (uint32_t i = 0; i < subscribing.options->connections; i++)
    while (subscribe_next(&subscribing.clients[i], &subscribing.subscribers[i])) continue;
}

static const struct client_handler handler = {.suback = on_suback, .turn = on_turn};

void subscribe_run(const struct options *options) {
  subscribing.options = options;
  loop_start(&subscribing.loop, options, &handler);
  subscribing.clients = fleet_allocate(options->connections);
  subscribing.subscribers = allocate(options->connections, sizeof *subscribing.subscribers);
  fleet_open(&subscribing.loop, subscribing.clients, options->connections, 0, false);
  for (uint32_t i = 0; i < options->connections; i++) {
    subscribing.subscribers[i].number = i;
    subscribing.clients[i].owner = &subscribing.subscribers[i];
  }
  struct usage_span usage;
  usage_begin(&usage, options);
  uint64_t from_ns = clock_ns();
  subscribing.sending = true;
  fleet_await(&subscribing.loop, &subscribing.acked, options->filters, "subscribe");
  double seconds = (double)(clock_ns() - from_ns) / (double)NANOSECONDS;
  usage_end(&usage, options, seconds);

  report_begin(options);
  report_count("connections", options->connections);
  report_count("filters", options->filters);
  report_count("filtersPerPacket", options->filters_per_packet);
  report_count("window", options->window);
  report_count("refused", subscribing.refused);
  report_number("seconds", seconds);
  report_number("filtersPerSecond", options->filters / seconds);
  if (usage.known) {
    double grown_kb = (double)usage.broker_to.pss_kb - (double)usage.broker_from.pss_kb;
    report_number("bytesPerFilter", grown_kb * 1024 / options->filters);
  }
  report_usage(&usage, options->filters);
  report_end();
  fleet_close(subscribing.clients, options->connections, true);
}
