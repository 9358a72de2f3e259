/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum scenario {
  SCENARIO_FAN_OUT,
  SCENARIO_FAN_IN,
  SCENARIO_PAIRS,
  SCENARIO_SHARED,
  SCENARIO_PERSISTENT,
  SCENARIO_CONNECT,
  SCENARIO_IDLE,
  SCENARIO_SUBSCRIBE,
  SCENARIO_RETAINED,
};

enum window_by { WINDOW_BY_ACKS = 1, WINDOW_BY_DELIVERIES = 2, WINDOW_BY_BOTH = 3 };

struct options {
  enum scenario scenario;
  const char *scenario_name;
  const char *host, *ws_path, *user, *password;
  int port, version, qos, subscriber_qos, pid;
  bool websocket, ws_batch, human, ordered;
  uint32_t publishers, subscribers, connections, window, payload, sources, connect_burst;
  uint32_t filters, filters_per_packet, wild_percent, retained, prime;
  enum window_by window_by;
  double rate, warmup_s, seconds, drain_s, settle_s, stall_s;
  uint32_t run_id;
};

#define PAYLOAD_BYTES_MIN 24
#define PAYLOAD_BYTES_MAX 131072

/* Parses and checks; exits with a one-line error, or after --help. */
void options_parse(struct options *options, int count, char **arguments);

#endif
