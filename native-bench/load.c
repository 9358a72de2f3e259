/*
 * load: an MQTT load generator. One thread, one epoll. `load --help` says how to use it.
 *
 *   options    the command line                 client     one MQTT client over TCP or WebSocket
 *   loop       the turns of the event loop      fleet      many clients at once
 *   publisher  a window of messages in flight   flow       exact loss, duplicates, disorder
 *   traffic    fan-out, fan-in, pairs, ...      connect, idle, subscribe, retained   the other scenarios
 *   report     JSON or text                     process    a broker's CPU time and memory from /proc
 */
#include <signal.h>

#include "connect.h"
#include "idle.h"
#include "options.h"
#include "retained.h"
#include "subscribe.h"
#include "traffic.h"

int main(int count, char **arguments) {
  struct options options;
  signal(SIGPIPE, SIG_IGN);
  options_parse(&options, count, arguments);
  switch (options.scenario) {
    case SCENARIO_CONNECT: connect_run(&options); break;
    case SCENARIO_IDLE: idle_run(&options); break;
    case SCENARIO_SUBSCRIBE: subscribe_run(&options); break;
    case SCENARIO_RETAINED: retained_run(&options); break;
    default: traffic_run(&options);
  }
  return 0;
}
