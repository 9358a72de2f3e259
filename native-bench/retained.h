/* Set many retained messages, read them all through one wildcard, clear them again. */
#ifndef RETAINED_H
#define RETAINED_H

#include "options.h"

void retained_run(const struct options *options);

#endif
