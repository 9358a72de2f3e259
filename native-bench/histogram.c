#include "histogram.h"

static uint64_t bucket_top_ns(uint32_t bucket) {
  if (bucket < 1u << HISTOGRAM_STEP_BITS) return bucket;
  uint32_t shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
  uint64_t step = (bucket & ((1u << HISTOGRAM_STEP_BITS) - 1)) + (1u << HISTOGRAM_STEP_BITS);
  return ((step + 1) << shift) - 1;
}

uint64_t histogram_at(const struct histogram *histogram, double quantile) {
  if (histogram->total == 0) return 0;
  double exact = quantile * (double)histogram->total;
  uint64_t wanted = (uint64_t)exact;
  if ((double)wanted < exact || wanted == 0) wanted++;
  uint64_t seen = 0;
  for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
    seen += histogram->counts[bucket];
    if (seen < wanted) continue;
    uint64_t top = bucket_top_ns(bucket);
    return top < histogram->max_ns ? top : histogram->max_ns;
  }
  return histogram->max_ns;
}
