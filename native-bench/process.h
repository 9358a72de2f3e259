/* What a process has used, read from /proc. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct process_usage {
  double cpu_s; /* user and system time of all its threads, 10 ms steps */
  uint64_t rss_kb, anonymous_kb, pss_kb, threads;
};

/* False when there is no such process (or it may not be read). */
bool process_read(int pid, struct process_usage *usage);

/* This process's own CPU time in seconds. */
double process_own_cpu_s(void);

#endif
