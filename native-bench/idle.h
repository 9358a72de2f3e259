/* Many silent connections with one own subscription each: what each costs the broker in memory. */
#ifndef IDLE_H
#define IDLE_H

#include "options.h"

void idle_run(const struct options *options);

#endif
