#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base.h"

static const char *const scenario_names[] = {"fan-out", "fan-in",  "pairs",     "shared",  "persistent",
                                             "connect", "idle",    "subscribe", "retained"};

static const char help[] =
    "load: an MQTT load generator that counts every message\n"
    "\n"
    "  load SCENARIO [options]        one JSON object on stdout; --human for text\n"
    "\n"
    "Scenarios of traffic (closed loop by --window, or open by --rate):\n"
    "  fan-out     -P publishers (1) -> -S subscribers (1000), all on one topic\n"
    "  fan-in      -P publishers (100), each on its topic -> -S subscribers (1) on a wildcard\n"
    "  pairs       -P publishers (200), each to one subscriber of its own\n"
    "  shared      -P publishers (100) -> -S members (10) of one $share group (--ordered: $oshare)\n"
    "  persistent  -P publishers (16), QoS 1 -> -S subscribers (1) that are online with a kept session\n"
    "Other scenarios:\n"
    "  connect     connect, CONNACK, DISCONNECT, again: --window at a time, connections/s\n"
    "  idle        open -C connections (10000), one own subscription each: broker memory per connection\n"
    "  subscribe   --filters distinct filters (100000) over -C clients (10): acknowledged filters/s\n"
    "  retained    set --retained messages (100000) by -P publishers, then read all by one wildcard\n"
    "\n"
    "Where to:\n"
    "  --host ADDR (127.0.0.1)   IPv4 address        --port N (1883; 8080 with --ws)\n"
    "  --ws                      over WebSocket      --ws-path PATH (/mqtt)\n"
    "  --ws-batch                one frame for all packets that a client sends at a time, instead of one for each\n"
    "  --version 4|5 (4)         3.1.1 or 5          --user NAME --password TEXT\n"
    "  --pid PID                 the broker's process: report its CPU time and memory\n"
    "  --sources N (auto)        spread clients over 127.0.0.1 .. 127.0.0.N, 20000 on each\n"
    "  --connect-burst N (200)   connections being opened at a time\n"
    "\n"
    "Load:\n"
    "  -P, --publishers N   -S, --subscribers N   -C, --connections N\n"
    "  --qos 0|1|2 (0)           QoS of publishers    --sub-qos (as --qos)\n"
    "  --payload BYTES (64)      24 to 131072\n"
    "  --window N (64)           messages in flight, for each publisher\n"
    "  --window-by acks|deliveries|both\n"
    "                            what ends a message's flight. QoS 0 (default deliveries): as many deliveries\n"
    "                            as it has receivers. QoS 1, 2 (default acks): PUBACK or PUBCOMP. both: later of the two\n"
    "  --rate R                  messages/s of each publisher instead of a window; latency counts from the\n"
    "                            moment a message was due\n"
    "  --filters-per-packet N (1)    --wild PERCENT (0) of filters with a '+'   --prime N (500, see idle)\n"
    "\n"
    "Time, in seconds:\n"
    "  --warmup (2)  --seconds (5)  --drain (10: give up when nothing came for so long)\n"
    "  --settle (3: before memory is read)  --stall (1: write off what is missing and send on)\n"
    "\n"
    "What is counted: every payload carries run, publisher, sequence number and time. Of all messages sent in\n"
    "the whole run, 'lost' did not arrive until the end, 'duplicates' came again, 'disordered' came after a later one\n"
    "of the same publisher, 'stray' belonged to another run or another receiver. Rates and latencies are of the\n"
    "measured seconds alone. 'idle' opens --prime connections before the first reading, so that the broker's\n"
    "one-time costs are not counted as memory of connections.\n"
    "\n"
    "Examples:\n"
    "  load fan-out --port 1883 --pid $(pidof mosquitto) --human\n"
    "  load pairs -P 200 --rate 100 --qos 1 --ws\n";

enum {
  OPTION_HOST = 256, OPTION_PORT, OPTION_WS, OPTION_WS_BATCH, OPTION_WS_PATH, OPTION_VERSION, OPTION_USER, OPTION_PASSWORD, OPTION_PID,
  OPTION_SOURCES, OPTION_BURST, OPTION_QOS, OPTION_SUB_QOS, OPTION_PAYLOAD, OPTION_WINDOW, OPTION_WINDOW_BY,
  OPTION_RATE, OPTION_FILTERS, OPTION_FILTERS_PER_PACKET, OPTION_WILD, OPTION_RETAINED, OPTION_PRIME, OPTION_ORDERED,
  OPTION_WARMUP, OPTION_SECONDS, OPTION_DRAIN, OPTION_SETTLE, OPTION_STALL, OPTION_HUMAN, OPTION_HELP,
};

static const struct option long_options[] = {
    {"host", 1, 0, OPTION_HOST},
    {"port", 1, 0, OPTION_PORT},
    {"ws", 0, 0, OPTION_WS},
    {"ws-batch", 0, 0, OPTION_WS_BATCH},
    {"ws-path", 1, 0, OPTION_WS_PATH},
    {"version", 1, 0, OPTION_VERSION},
    {"user", 1, 0, OPTION_USER},
    {"password", 1, 0, OPTION_PASSWORD},
    {"pid", 1, 0, OPTION_PID},
    {"sources", 1, 0, OPTION_SOURCES},
    {"connect-burst", 1, 0, OPTION_BURST},
    {"publishers", 1, 0, 'P'},
    {"subscribers", 1, 0, 'S'},
    {"connections", 1, 0, 'C'},
    {"qos", 1, 0, OPTION_QOS},
    {"sub-qos", 1, 0, OPTION_SUB_QOS},
    {"payload", 1, 0, OPTION_PAYLOAD},
    {"window", 1, 0, OPTION_WINDOW},
    {"window-by", 1, 0, OPTION_WINDOW_BY},
    {"rate", 1, 0, OPTION_RATE},
    {"filters", 1, 0, OPTION_FILTERS},
    {"filters-per-packet", 1, 0, OPTION_FILTERS_PER_PACKET},
    {"wild", 1, 0, OPTION_WILD},
    {"retained", 1, 0, OPTION_RETAINED},
    {"prime", 1, 0, OPTION_PRIME},
    {"ordered", 0, 0, OPTION_ORDERED},
    {"warmup", 1, 0, OPTION_WARMUP},
    {"seconds", 1, 0, OPTION_SECONDS},
    {"drain", 1, 0, OPTION_DRAIN},
    {"settle", 1, 0, OPTION_SETTLE},
    {"stall", 1, 0, OPTION_STALL},
    {"human", 0, 0, OPTION_HUMAN},
    {"help", 0, 0, OPTION_HELP},
    {0, 0, 0, 0},
};

static uint32_t whole(const char *name, const char *text, long low, long high) {
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || *end || value < low || value > high) die("--%s %s: want %ld to %ld", name, text, low, high);
  return (uint32_t)value;
}

static double decimal(const char *name, const char *text, double high) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end || !(value >= 0 && value <= high)) die("--%s %s: want 0 to %g", name, text, high);
  return value;
}

static enum window_by window_by(const char *text) {
  if (strcmp(text, "acks") == 0) return WINDOW_BY_ACKS;
  if (strcmp(text, "deliveries") == 0) return WINDOW_BY_DELIVERIES;
  if (strcmp(text, "both") == 0) return WINDOW_BY_BOTH;
  die("--window-by %s: want acks, deliveries or both", text);
}

static void apply(struct options *o, int option, const char *name) {
  switch (option) {
    case OPTION_HOST: o->host = optarg; break;
    case OPTION_PORT: o->port = (int)whole(name, optarg, 1, 65535); break;
    case OPTION_WS: o->websocket = true; break;
    case OPTION_WS_BATCH: o->websocket = o->ws_batch = true; break;
    case OPTION_WS_PATH: o->ws_path = optarg; break;
    case OPTION_VERSION: o->version = (int)whole(name, optarg, 4, 5); break;
    case OPTION_USER: o->user = optarg; break;
    case OPTION_PASSWORD: o->password = optarg; break;
    case OPTION_PID: o->pid = (int)whole(name, optarg, 1, 1 << 30); break;
    case OPTION_SOURCES: o->sources = whole(name, optarg, 1, 250); break;
    case OPTION_BURST: o->connect_burst = whole(name, optarg, 1, 10000); break;
    case 'P': o->publishers = whole("publishers", optarg, 1, 1000000); break;
    case 'S': o->subscribers = whole("subscribers", optarg, 1, 1000000); break;
    case 'C': o->connections = whole("connections", optarg, 1, 1000000); break;
    case OPTION_QOS: o->qos = (int)whole(name, optarg, 0, 2); break;
    case OPTION_SUB_QOS: o->subscriber_qos = (int)whole(name, optarg, 0, 2); break;
    case OPTION_PAYLOAD: o->payload = whole(name, optarg, PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX); break;
    case OPTION_WINDOW: o->window = whole(name, optarg, 1, 30000); break;
    case OPTION_WINDOW_BY: o->window_by = window_by(optarg); break;
    case OPTION_RATE: o->rate = decimal(name, optarg, 1e7); break;
    case OPTION_FILTERS: o->filters = whole(name, optarg, 1, 100000000); break;
    case OPTION_FILTERS_PER_PACKET: o->filters_per_packet = whole(name, optarg, 1, 100); break;
    case OPTION_WILD: o->wild_percent = whole(name, optarg, 0, 100); break;
    case OPTION_RETAINED: o->retained = whole(name, optarg, 1, 100000000); break;
    case OPTION_PRIME: o->prime = whole(name, optarg, 0, 100000); break;
    case OPTION_ORDERED: o->ordered = true; break;
    case OPTION_WARMUP: o->warmup_s = decimal(name, optarg, 86400); break;
    case OPTION_SECONDS: o->seconds = decimal(name, optarg, 86400); break;
    case OPTION_DRAIN: o->drain_s = decimal(name, optarg, 86400); break;
    case OPTION_SETTLE: o->settle_s = decimal(name, optarg, 86400); break;
    case OPTION_STALL: o->stall_s = decimal(name, optarg, 86400); break;
    case OPTION_HUMAN: o->human = true; break;
    case OPTION_HELP: fputs(help, stdout); exit(0);
    default: die("see load --help");
  }
}

static void set_scenario(struct options *o, const char *name) {
  for (size_t i = 0; i < sizeof scenario_names / sizeof *scenario_names; i++) {
    if (strcmp(name, scenario_names[i]) != 0) continue;
    o->scenario = (enum scenario)i;
    o->scenario_name = scenario_names[i];
    return;
  }
  die("no scenario '%s'; see load --help", name);
}

static void set_defaults(struct options *o) {
  static const uint32_t publishers[] = {1, 100, 200, 100, 16, 0, 0, 0, 10};
  static const uint32_t subscribers[] = {1000, 1, 0, 10, 1, 0, 0, 0, 1};
  if (!o->publishers) o->publishers = publishers[o->scenario];
  if (!o->subscribers) o->subscribers = subscribers[o->scenario];
  if (o->scenario == SCENARIO_PAIRS) o->subscribers = o->publishers;
  if (!o->connections) o->connections = o->scenario == SCENARIO_IDLE ? 10000 : 10;
  if (o->qos < 0) o->qos = o->scenario == SCENARIO_PERSISTENT || o->scenario == SCENARIO_RETAINED ? 1 : 0;
  if (o->subscriber_qos < 0) o->subscriber_qos = o->qos;
  if (!o->port) o->port = o->websocket ? 8080 : 1883;
  if (!o->window_by) o->window_by = o->qos ? WINDOW_BY_ACKS : WINDOW_BY_DELIVERIES;
  if (!o->qos && o->window_by & WINDOW_BY_ACKS) die("--window-by: QoS 0 has no acks");
  uint32_t all = o->publishers + o->subscribers + o->connections + o->prime;
  if (!o->sources) o->sources = 1 + all / 20000;
  raise_file_limit(all + o->window + 64);
}

void options_parse(struct options *o, int count, char **arguments) {
  *o = (struct options){
      .host = "127.0.0.1", .ws_path = "/mqtt", .version = 4, .qos = -1, .subscriber_qos = -1, .payload = 64,
      .window = 64, .connect_burst = 200, .filters = 100000, .filters_per_packet = 1, .retained = 100000,
      .prime = 500, .warmup_s = 2, .seconds = 5, .drain_s = 10, .settle_s = 3, .stall_s = 1,
  };
  int option, index = 0;
  while ((option = getopt_long(count, arguments, "P:S:C:", long_options, &index)) != -1)
    apply(o, option, long_options[index].name);
  if (optind != count - 1) die("name one scenario; see load --help");
  set_scenario(o, arguments[optind]);
  set_defaults(o);
  o->run_id = (uint32_t)(clock_ns() / 1000 ^ (uint64_t)getpid() << 20);
}
