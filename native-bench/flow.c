#include "flow.h"

#include <string.h>

#include "base.h"

#define GAPS_MAX 1000000

static void add_gap(struct flow *flow, uint32_t at, uint64_t from, uint64_t to) {
  if (flow->gap_count == flow->gap_capacity) {
    if (flow->gap_count == GAPS_MAX) die("one flow has over %d gaps; nothing sensible is being measured", GAPS_MAX);
    flow->gap_capacity = flow->gap_capacity ? 2 * flow->gap_capacity : 4;
    flow->gaps = reallocate(flow->gaps, flow->gap_capacity * sizeof *flow->gaps);
  }
  memmove(flow->gaps + at + 1, flow->gaps + at, (flow->gap_count - at) * sizeof *flow->gaps);
  flow->gaps[at] = (struct flow_gap){from, to};
  flow->gap_count++;
}

static void fill(struct flow *flow, uint32_t at, uint64_t sequence) {
  struct flow_gap *gap = &flow->gaps[at];
  flow->missing--;
  if (gap->from == sequence && gap->to == sequence + 1) {
    flow->gap_count--;
    memmove(gap, gap + 1, (flow->gap_count - at) * sizeof *gap);
  } else if (gap->from == sequence) {
    gap->from++;
  } else if (gap->to == sequence + 1) {
    gap->to--;
  } else {
    uint64_t to = gap->to;
    gap->to = sequence;
    add_gap(flow, at + 1, sequence + 1, to);
  }
}

enum flow_verdict flow_record_unexpected(struct flow *flow, uint64_t sequence) {
  if (sequence >= flow->next) {
    add_gap(flow, flow->gap_count, flow->next, sequence);
    flow->missing += sequence - flow->next;
    flow->next = sequence + 1;
    return FLOW_AHEAD;
  }
  uint32_t low = 0, high = flow->gap_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (flow->gaps[middle].to <= sequence) low = middle + 1;
    else high = middle;
  }
  if (low == flow->gap_count || sequence < flow->gaps[low].from) return FLOW_DUPLICATE;
  fill(flow, low, sequence);
  return FLOW_LATE;
}
