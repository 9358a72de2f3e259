/*
 * A flow is what one receiver has seen of one publisher: sequence numbers 0, 1, 2 ... It knows exactly which numbers
 * are missing below the highest seen, so a late message (disorder) and a repeated one (duplicate) are told apart.
 */
#ifndef FLOW_H
#define FLOW_H

#include <stdint.h>

enum flow_verdict { FLOW_IN_ORDER, FLOW_AHEAD, FLOW_LATE, FLOW_DUPLICATE };

struct flow_gap {
  uint64_t from, to; /* to is exclusive */
};

struct flow {
  uint64_t next;
  uint64_t missing; /* over all gaps */
  struct flow_gap *gaps;
  uint32_t gap_count, gap_capacity;
};

enum flow_verdict flow_record_unexpected(struct flow *flow, uint64_t sequence);

static inline enum flow_verdict flow_record(struct flow *flow, uint64_t sequence) {
  if (sequence != flow->next) return flow_record_unexpected(flow, sequence);
  flow->next++;
  return FLOW_IN_ORDER;
}

/* How many different numbers have been seen. */
static inline uint64_t flow_received(const struct flow *flow) {
  return flow->next - flow->missing;
}

#endif
