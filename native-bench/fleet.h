/* Opens many clients, a bounded number at a time, and waits for things to happen to all of them. */
#ifndef FLEET_H
#define FLEET_H

#include "client.h"

#define FLEET_TIMEOUT_S 30

struct client *fleet_allocate(uint32_t count);

/* Opens clients[0..count), numbered from `first_index`; returns when all have their CONNACK; exits on failure. */
void fleet_open(struct loop *loop, struct client *clients, uint32_t count, uint32_t first_index, bool persistent);

/* Turns the loop until *counter reaches `wanted`; exits when it does not move for FLEET_TIMEOUT_S. */
void fleet_await(struct loop *loop, const uint32_t *counter, uint32_t wanted, const char *what);

void fleet_close(struct client *clients, uint32_t count, bool forget_session);

#endif
