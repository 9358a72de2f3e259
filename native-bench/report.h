/* Writes results as they are handed in: as one JSON object, or indented text for people. */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "options.h"
#include "process.h"

void report_begin(const struct options *options);
void report_end(void);
void report_open(const char *section);
void report_close(void);
void report_count(const char *name, uint64_t value);
void report_number(const char *name, double value);
void report_text(const char *name, const char *value);
void report_truth(const char *name, bool value);

/* A section with p50, p90, p99, p99.9, max in microseconds; nothing when it is empty. */
void report_latency(const char *section, const struct histogram *histogram);

/* The broker's and our own use of the machine between two readings; the broker's only where --pid was given. */
struct usage_span {
  struct process_usage broker_from, broker_to;
  double own_from_s, own_to_s, seconds;
  bool known;
};
void usage_begin(struct usage_span *span, const struct options *options);
void usage_end(struct usage_span *span, const struct options *options, double seconds);
void report_usage(const struct usage_span *span, uint64_t messages);

#endif
