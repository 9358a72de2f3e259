/* Latencies in log-linear buckets: 64 steps to each power of two, so a value is known within 1.6 %. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_STEP_BITS) << HISTOGRAM_STEP_BITS)

struct histogram {
  uint64_t counts[HISTOGRAM_BUCKETS];
  uint64_t total, max_ns;
};

static inline uint32_t histogram_bucket(uint64_t ns) {
  if (ns < 1u << HISTOGRAM_STEP_BITS) return (uint32_t)ns;
  uint32_t shift = 63 - HISTOGRAM_STEP_BITS - (uint32_t)__builtin_clzll(ns);
  return (shift + 1) << HISTOGRAM_STEP_BITS | (uint32_t)(ns >> shift & ((1u << HISTOGRAM_STEP_BITS) - 1));
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns) {
  histogram->counts[histogram_bucket(ns)]++;
  histogram->total++;
  if (ns > histogram->max_ns) histogram->max_ns = ns;
}

/* The latency that the fraction `quantile` of all values does not exceed; 0 when empty. */
uint64_t histogram_at(const struct histogram *histogram, double quantile);

#endif
