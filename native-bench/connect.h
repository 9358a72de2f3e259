/* Connections per second: connect, CONNACK, DISCONNECT, over and over. */
#ifndef CONNECT_H
#define CONNECT_H

#include "options.h"

void connect_run(const struct options *options);

#endif
