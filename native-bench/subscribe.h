/* Distinct filters subscribed per second, by acknowledged filters. */
#ifndef SUBSCRIBE_H
#define SUBSCRIBE_H

#include "options.h"

void subscribe_run(const struct options *options);

#endif
