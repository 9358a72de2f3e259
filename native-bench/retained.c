#include "retained.h"

#include <stdio.h>
#include <stdlib.h>

#include "base.h"
#include "fleet.h"
#include "flow.h"
#include "publisher.h"
#include "report.h"

enum phase { PHASE_SET, PHASE_READ, PHASE_CLEAR };

/* A topic is <run>/<number>; topic n is set by publisher n % P, and its payload says n, so one flow checks them all. */
static struct {
  const struct options *options;
  struct loop loop;
  struct client *clients, reader;
  enum phase phase;
  uint32_t *next, *in_flight; /* by publisher: the next topic to set, packets not yet acknowledged */
  uint32_t acked, received, refused, cleared;
  uint64_t duplicates, stray, not_retained;
  struct flow seen, gone;
  bool sending;
} retaining;

static void send_one(struct client *client, uint32_t number) {
  const struct options *o = retaining.options;
  uint32_t publisher = number % o->publishers;
  char topic[64];
  snprintf(topic, sizeof topic, "r/%08x/%u", o->run_id, number);
  bool clear = retaining.phase == PHASE_CLEAR;
  struct mqtt_template packet = mqtt_publish_template(o->version, topic, 1, true, clear ? 0 : o->payload);
  put16(packet.bytes + packet.id_offset, 1 + number / o->publishers % 65535);
  if (!clear) {
    struct stamp stamp = {o->run_id, publisher, number, clock_ns()};
    memcpy(packet.bytes + packet.payload_offset, &stamp, sizeof stamp);
  }
  client_write(client, packet.bytes, packet.length);
  free(packet.bytes);
}

static void on_turn(void) {
  const struct options *o = retaining.options;
  if (!retaining.sending) return;
  for (uint32_t i = 0; i < o->publishers; i++) {
    for (; retaining.in_flight[i] < o->window && retaining.next[i] < o->retained; retaining.next[i] += o->publishers) {
      send_one(&retaining.clients[i], retaining.next[i]);
      retaining.in_flight[i]++;
    }
  }
}

static void on_acked(struct client *client, enum mqtt_type type, uint16_t id, uint8_t reason) {
  (void)type, (void)id;
  retaining.in_flight[client->index]--;
  retaining.acked++;
  if (reason >= 0x80) retaining.refused++;
}

/* The number in a topic of this run, or UINT32_MAX. */
static uint32_t topic_number(const struct mqtt_publish *publish) {
  const struct options *o = retaining.options;
  char text[64];
  uint32_t run_id, number;
  if (publish->topic_length >= sizeof text) return UINT32_MAX;
  memcpy(text, publish->topic, publish->topic_length);
  text[publish->topic_length] = 0;
  if (sscanf(text, "r/%8x/%u", &run_id, &number) != 2) return UINT32_MAX;
  return run_id == o->run_id && number < o->retained ? number : UINT32_MAX;
}

/* The reader's subscription is still there when the topics are cleared, so it is sent the empty messages that do it. */
static void on_cleared(const struct mqtt_publish *publish) {
  uint32_t number = topic_number(publish);
  if (publish->payload_length > 0 || publish->retain || number == UINT32_MAX) retaining.stray++;
  else if (flow_record(&retaining.gone, number) == FLOW_DUPLICATE) retaining.duplicates++;
  else retaining.cleared++;
}

static void on_publish(struct client *client, const struct mqtt_publish *publish) {
  (void)client;
  if (retaining.phase == PHASE_CLEAR) {
    on_cleared(publish);
    return;
  }
  struct stamp stamp;
  if (publish->payload_length != retaining.options->payload) {
    retaining.stray++;
    return;
  }
  memcpy(&stamp, publish->payload, sizeof stamp);
  if (stamp.run_id != retaining.options->run_id || stamp.sequence >= retaining.options->retained) {
    retaining.stray++;
    return;
  }
  if (!publish->retain) retaining.not_retained++;
  if (flow_record(&retaining.seen, stamp.sequence) == FLOW_DUPLICATE) retaining.duplicates++;
  else retaining.received++;
}

static const struct client_handler handler = {.acked = on_acked, .publish = on_publish, .turn = on_turn};

/* Publishes to every topic and returns the seconds until the last acknowledgement. */
static double publish_all(enum phase phase) {
  const struct options *o = retaining.options;
  retaining.phase = phase;
  retaining.acked = 0;
  for (uint32_t i = 0; i < o->publishers; i++) retaining.next[i] = i;
  uint64_t from_ns = clock_ns();
  retaining.sending = true;
  fleet_await(&retaining.loop, &retaining.acked, o->retained, "retained PUBACK");
  retaining.sending = false;
  return (double)(clock_ns() - from_ns) / (double)NANOSECONDS;
}

/* Waits until all have come, or none has for the drain time; returns the seconds until the last one came. */
static double await_all(const uint32_t *count, uint64_t from_ns) {
  const struct options *o = retaining.options;
  uint64_t moved_ns = from_ns;
  uint32_t last = 0;
  while (*count < o->retained) {
    loop_turn(&retaining.loop, retaining.loop.now_ns + NANOSECONDS / 10);
    if (*count != last) moved_ns = retaining.loop.now_ns;
    last = *count;
    if (retaining.loop.now_ns > moved_ns + (uint64_t)(o->drain_s * (double)NANOSECONDS)) break;
  }
  return (double)(moved_ns - from_ns) / (double)NANOSECONDS;
}

/* Subscribes and takes all. */
static double read_all(void) {
  const struct options *o = retaining.options;
  char filter[64];
  snprintf(filter, sizeof filter, "r/%08x/+", o->run_id);
  retaining.phase = PHASE_READ;
  uint64_t from_ns = clock_ns();
  client_subscribe(&retaining.reader, 1, filter, o->subscriber_qos);
  return await_all(&retaining.received, from_ns);
}

void retained_run(const struct options *options) {
  retaining.options = options;
  if (options->qos != 1) die("retained: only --qos 1, whose acknowledgements tell when all are set");
  loop_start(&retaining.loop, options, &handler);
  retaining.clients = fleet_allocate(options->publishers);
  retaining.next = allocate(options->publishers, sizeof *retaining.next);
  retaining.in_flight = allocate(options->publishers, sizeof *retaining.in_flight);
  fleet_open(&retaining.loop, retaining.clients, options->publishers, 0, false);
  fleet_open(&retaining.loop, &retaining.reader, 1, options->publishers, false);
  struct usage_span usage;
  usage_begin(&usage, options);
  double set_s = publish_all(PHASE_SET), read_s = read_all();
  usage_end(&usage, options, set_s + read_s);
  double clear_s = publish_all(PHASE_CLEAR);
  await_all(&retaining.cleared, clock_ns());

  report_begin(options);
  report_count("retained", options->retained);
  report_number("setsPerSecond", options->retained / set_s);
  report_number("readSeconds", read_s);
  report_number("readsPerSecond", retaining.received / read_s);
  report_number("clearsPerSecond", options->retained / clear_s);
  report_open("accounts");
  report_count("received", retaining.received);
  report_count("lost", options->retained - retaining.received);
  report_count("clearsReceived", retaining.cleared);
  report_count("duplicates", retaining.duplicates);
  report_count("stray", retaining.stray);
  report_count("withoutRetainFlag", retaining.not_retained);
  report_count("refused", retaining.refused);
  report_close();
  report_usage(&usage, options->retained);
  report_end();
  fleet_close(retaining.clients, options->publishers, true);
  client_close(&retaining.reader, true);
}
