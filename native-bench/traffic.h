/* The scenarios that move messages: fan-out, fan-in, pairs, shared, persistent. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "options.h"

/* Runs the whole scenario and reports. */
void traffic_run(const struct options *options);

#endif
