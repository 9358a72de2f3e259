#include "traffic.h"

#include <stdio.h>

#include "base.h"
#include "fleet.h"
#include "flow.h"
#include "histogram.h"
#include "publisher.h"
#include "report.h"

enum phase { PHASE_SETUP, PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN };

/* How receivers and publishers meet: everyone hears everyone, each hears its own, or the group shares. */
enum meeting { MEET_ALL, MEET_OWN, MEET_GROUP };

struct counts {
  uint64_t received, duplicates, disordered, stray, moved, unknown_acks, disconnects, stalls;
};

static struct {
  const struct options *options;
  struct loop loop;
  enum phase phase;
  enum meeting meeting;
  struct client *publisher_clients, *subscribers;
  struct publisher *publishers;
  struct publisher **queue; /* publishers whose window may have room again */
  uint32_t queue_count, subscribed;
  struct flow *flows;
  uint64_t *member_next; /* shared: by member and publisher, one above the highest number seen */
  uint32_t *last_member; /* shared: by publisher */
  struct counts counts;
  uint64_t received_measured;
  struct histogram latency, ack_latency;
  uint64_t rate_start_ns, rate_count, next_tick_ns;
} traffic;

static void enqueue(struct publisher *publisher) {
  if (publisher->queued) return;
  publisher->queued = true;
  traffic.queue[traffic.queue_count++] = publisher;
}

/* Group members may be overtaken by each other, so order is judged per member and repetition for the group. */
static void record_shared(uint32_t member, const struct stamp *stamp) {
  uint32_t at = stamp->publisher;
  if (traffic.last_member[at] != member + 1) {
    if (traffic.last_member[at]) traffic.counts.moved++;
    traffic.last_member[at] = member + 1;
  }
  uint64_t *next = &traffic.member_next[(uint64_t)member * traffic.options->publishers + at];
  bool late = stamp->sequence < *next;
  if (!late) *next = stamp->sequence + 1;
  if (flow_record(&traffic.flows[at], stamp->sequence) == FLOW_DUPLICATE) traffic.counts.duplicates++;
  else if (late) traffic.counts.disordered++;
}

static void record(uint32_t subscriber, const struct stamp *stamp) {
  if (traffic.meeting == MEET_GROUP) return record_shared(subscriber, stamp);
  uint64_t at = subscriber;
  if (traffic.meeting == MEET_ALL) at = at * traffic.options->publishers + stamp->publisher;
  enum flow_verdict verdict = flow_record(&traffic.flows[at], stamp->sequence);
  if (verdict == FLOW_DUPLICATE) traffic.counts.duplicates++;
  else if (verdict == FLOW_LATE) traffic.counts.disordered++;
}

static void on_publish(struct client *client, const struct mqtt_publish *publish) {
  struct stamp stamp;
  uint32_t subscriber = client->index;
  if (publish->payload_length != traffic.options->payload) {
    traffic.counts.stray++;
    return;
  }
  memcpy(&stamp, publish->payload, sizeof stamp);
  bool known = stamp.run_id == traffic.options->run_id && stamp.publisher < traffic.options->publishers;
  if (!known || (traffic.meeting == MEET_OWN && stamp.publisher != subscriber)) {
    traffic.counts.stray++;
    return;
  }
  struct publisher *publisher = &traffic.publishers[stamp.publisher];
  traffic.counts.received++;
  publisher->delivered++;
  enqueue(publisher);
  record(subscriber, &stamp);
  if (traffic.phase == PHASE_MEASURE) {
    traffic.received_measured++;
    uint64_t now_ns = traffic.loop.now_ns;
    histogram_add(&traffic.latency, now_ns > stamp.sent_ns ? now_ns - stamp.sent_ns : 0);
  }
}

static void on_acked(struct client *client, enum mqtt_type type, uint16_t id, uint8_t reason) {
  struct publisher *publisher = client->owner;
  struct histogram *latency = traffic.phase == PHASE_MEASURE ? &traffic.ack_latency : NULL;
  if (!publisher || !publisher_acked(publisher, type, id, reason, latency)) {
    traffic.counts.unknown_acks++;
    return;
  }
  enqueue(publisher);
}

static void on_suback(struct client *client, uint16_t id, const uint8_t *codes, size_t count) {
  (void)id;
  if (count != 1 || codes[0] != traffic.options->subscriber_qos)
    die("subscriber %u: SUBACK code 0x%02x", client->index, count ? codes[0] : 0xff);
  traffic.subscribed++;
}

static void on_closed(struct client *client, const char *why) {
  if (traffic.phase == PHASE_SETUP) die("client %u: %s", client->index, why);
  if (traffic.counts.disconnects++ < 3) fprintf(stderr, "load: client %u: %s\n", client->index, why);
}

/* The k-th message of a fixed rate belongs to publisher k % P and is due k / (P * rate) after the start. */
static uint64_t due_ns(uint64_t k) {
  double per_second = traffic.options->rate * traffic.options->publishers;
  return traffic.rate_start_ns + (uint64_t)((double)k * (double)NANOSECONDS / per_second);
}

static void send_due(uint64_t now_ns) {
  for (uint64_t due; (due = due_ns(traffic.rate_count)) <= now_ns; traffic.rate_count++) {
    struct publisher *publisher = &traffic.publishers[traffic.rate_count % traffic.options->publishers];
    if (!publisher_send(publisher, due)) publisher->throttled++;
  }
}

static void check_stalls(uint64_t now_ns) {
  if (now_ns < traffic.next_tick_ns) return;
  traffic.next_tick_ns = now_ns + NANOSECONDS / 20;
  uint64_t stall_ns = (uint64_t)(traffic.options->stall_s * (double)NANOSECONDS);
  for (uint32_t i = 0; i < traffic.options->publishers; i++) {
    if (!publisher_check_stall(&traffic.publishers[i], now_ns, stall_ns)) continue;
    traffic.counts.stalls++;
    enqueue(&traffic.publishers[i]);
  }
}

static void on_turn(void) {
  bool sending = traffic.phase == PHASE_WARMUP || traffic.phase == PHASE_MEASURE;
  uint64_t now_ns = clock_ns();
  if (sending && traffic.options->rate > 0) send_due(now_ns);
  for (uint32_t i = 0; i < traffic.queue_count; i++) {
    traffic.queue[i]->queued = false;
    if (sending && traffic.options->rate == 0) publisher_fill(traffic.queue[i], now_ns);
  }
  traffic.queue_count = 0;
  if (sending && traffic.options->window_by & WINDOW_BY_DELIVERIES) check_stalls(now_ns);
}

static const struct client_handler handler = {
    .publish = on_publish, .acked = on_acked, .suback = on_suback, .closed = on_closed, .turn = on_turn};

static void topic_of(char *out, size_t size, uint32_t number) {
  if (traffic.options->scenario == SCENARIO_FAN_OUT) snprintf(out, size, "b/%08x", traffic.options->run_id);
  else snprintf(out, size, "b/%08x/%u", traffic.options->run_id, number);
}

static void filter_of(char *out, size_t size, uint32_t number) {
  const struct options *o = traffic.options;
  if (o->scenario == SCENARIO_FAN_OUT || o->scenario == SCENARIO_PAIRS) topic_of(out, size, number);
  else if (o->scenario == SCENARIO_SHARED)
    snprintf(out, size, "%s/g%08x/b/%08x/+", o->ordered ? "$oshare" : "$share", o->run_id, o->run_id);
  else snprintf(out, size, "b/%08x/+", o->run_id);
}

static void open_subscribers(void) {
  const struct options *o = traffic.options;
  char filter[128];
  traffic.subscribers = fleet_allocate(o->subscribers);
  fleet_open(&traffic.loop, traffic.subscribers, o->subscribers, 0, o->scenario == SCENARIO_PERSISTENT);
  for (uint32_t i = 0; i < o->subscribers; i++) {
    filter_of(filter, sizeof filter, i);
    client_subscribe(&traffic.subscribers[i], 1, filter, o->subscriber_qos);
  }
  fleet_await(&traffic.loop, &traffic.subscribed, o->subscribers, "subscribe");
}

static void open_publishers(void) {
  const struct options *o = traffic.options;
  char topic[128];
  traffic.publisher_clients = fleet_allocate(o->publishers);
  traffic.publishers = allocate(o->publishers, sizeof *traffic.publishers);
  traffic.queue = allocate(o->publishers, sizeof *traffic.queue);
  fleet_open(&traffic.loop, traffic.publisher_clients, o->publishers, o->subscribers, false);
  uint32_t fan = traffic.meeting == MEET_ALL ? o->subscribers : 1;
  for (uint32_t i = 0; i < o->publishers; i++) {
    topic_of(topic, sizeof topic, i);
    publisher_start(&traffic.publishers[i], &traffic.publisher_clients[i], i, topic, fan);
    traffic.publisher_clients[i].owner = &traffic.publishers[i];
  }
}

static void allocate_ledger(void) {
  const struct options *o = traffic.options;
  uint64_t flows = o->publishers;
  traffic.meeting = MEET_ALL;
  if (o->scenario == SCENARIO_PAIRS) traffic.meeting = MEET_OWN;
  if (o->scenario == SCENARIO_SHARED) traffic.meeting = MEET_GROUP;
  if (traffic.meeting == MEET_ALL) flows *= o->subscribers;
  traffic.flows = allocate(flows, sizeof *traffic.flows);
  if (traffic.meeting != MEET_GROUP) return;
  traffic.member_next = allocate((uint64_t)o->publishers * o->subscribers, sizeof *traffic.member_next);
  traffic.last_member = allocate(o->publishers, sizeof *traffic.last_member);
}

static uint64_t total_sent(void) {
  uint64_t sent = 0;
  for (uint32_t i = 0; i < traffic.options->publishers; i++) sent += traffic.publishers[i].sent;
  return sent;
}

static uint64_t total_in_flight(void) {
  uint64_t in_flight = 0;
  for (uint32_t i = 0; i < traffic.options->publishers; i++) in_flight += traffic.publishers[i].in_flight;
  return in_flight;
}

/* Different messages seen, each counted once per receiver that should have it. */
static uint64_t total_distinct(void) {
  return traffic.counts.received - traffic.counts.duplicates;
}

/* Waits until all is accounted for, and then a little longer for duplicates. False after drain_s of silence. */
static bool drain(uint64_t expected) {
  uint64_t patience_ns = (uint64_t)(traffic.options->drain_s * (double)NANOSECONDS);
  uint64_t mark = 0, mark_ns = clock_ns();
  traffic.phase = PHASE_DRAIN;
  while (total_distinct() < expected || total_in_flight() > 0) {
    loop_turn(&traffic.loop, traffic.loop.now_ns + NANOSECONDS / 50);
    uint64_t now_mark = traffic.counts.received - total_in_flight();
    if (now_mark != mark) {
      mark = now_mark;
      mark_ns = traffic.loop.now_ns;
    } else if (traffic.loop.now_ns - mark_ns > patience_ns) {
      return false;
    }
  }
  loop_run(&traffic.loop, clock_ns() + NANOSECONDS / 10);
  return true;
}

static void report_load(void) {
  const struct options *o = traffic.options;
  report_open("load");
  report_count("publishers", o->publishers);
  report_count("subscribers", o->subscribers);
  report_count("publishQos", (uint64_t)o->qos);
  report_count("subscribeQos", (uint64_t)o->subscriber_qos);
  report_count("payloadBytes", o->payload);
  if (o->rate > 0) report_number("ratePerPublisher", o->rate);
  else report_count("window", o->window);
  report_text("windowBy", o->window_by == WINDOW_BY_ACKS ? "acks" : o->window_by == WINDOW_BY_DELIVERIES ? "deliveries" : "both");
  report_close();
}

static void report_accounts(uint64_t sent, uint64_t expected, bool drained, double drain_s) {
  uint64_t refused = 0, throttled = 0;
  for (uint32_t i = 0; i < traffic.options->publishers; i++) {
    refused += traffic.publishers[i].refused;
    throttled += traffic.publishers[i].throttled;
  }
  report_open("accounts");
  report_count("sent", sent);
  report_count("expected", expected);
  report_count("received", traffic.counts.received);
  report_count("lost", expected - total_distinct());
  report_count("duplicates", traffic.counts.duplicates);
  report_count("disordered", traffic.counts.disordered);
  report_count("stray", traffic.counts.stray);
  if (traffic.meeting == MEET_GROUP) report_count("movedBetweenMembers", traffic.counts.moved);
  report_count("unacknowledged", total_in_flight());
  report_count("unknownAcks", traffic.counts.unknown_acks);
  report_count("refused", refused);
  report_count("throttled", throttled);
  report_count("stalls", traffic.counts.stalls);
  report_count("disconnects", traffic.counts.disconnects);
  report_truth("drained", drained);
  report_number("drainSeconds", drain_s);
  report_close();
}

/* Turns until then, waking for each message that falls due at a fixed rate. */
static void run_until(uint64_t end_ns) {
  do {
    uint64_t until_ns = end_ns;
    if (traffic.options->rate > 0) {
      uint64_t due = due_ns(traffic.rate_count);
      if (due < until_ns) until_ns = due;
    } else if (until_ns > traffic.loop.now_ns + NANOSECONDS / 20) {
      until_ns = traffic.loop.now_ns + NANOSECONDS / 20;
    }
    loop_turn(&traffic.loop, until_ns);
  } while (traffic.loop.now_ns < end_ns);
}

void traffic_run(const struct options *options) {
  traffic.options = options;
  loop_start(&traffic.loop, options, &handler);
  allocate_ledger();
  open_subscribers();
  open_publishers();
  traffic.phase = PHASE_WARMUP;
  traffic.rate_start_ns = clock_ns();
  for (uint32_t i = 0; i < options->publishers; i++) enqueue(&traffic.publishers[i]);
  run_until(clock_ns() + (uint64_t)(options->warmup_s * (double)NANOSECONDS));

  struct usage_span usage;
  uint64_t sent_before = total_sent();
  usage_begin(&usage, options);
  uint64_t from_ns = clock_ns();
  traffic.phase = PHASE_MEASURE;
  run_until(from_ns + (uint64_t)(options->seconds * (double)NANOSECONDS));
  double seconds = (double)(clock_ns() - from_ns) / (double)NANOSECONDS;
  usage_end(&usage, options, seconds);
  uint64_t sent = total_sent(), sent_measured = sent - sent_before;
  uint64_t expected = traffic.meeting == MEET_ALL ? sent * options->subscribers : sent;
  uint64_t drain_from_ns = clock_ns();
  bool drained = drain(expected);
  double drain_s = (double)(clock_ns() - drain_from_ns) / (double)NANOSECONDS;

  report_begin(options);
  report_load();
  report_number("seconds", seconds);
  report_number("publishesPerSecond", (double)sent_measured / seconds);
  report_number("deliveriesPerSecond", (double)traffic.received_measured / seconds);
  report_latency("latencyUs", &traffic.latency);
  report_latency("ackLatencyUs", &traffic.ack_latency);
  report_accounts(sent, expected, drained, drain_s);
  report_usage(&usage, traffic.received_measured);
  report_end();
  traffic.phase = PHASE_DRAIN;
  fleet_close(traffic.publisher_clients, options->publishers, true);
  fleet_close(traffic.subscribers, options->subscribers, true);
}
