#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

const char *program_name = "load";

uint64_t clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NANOSECONDS + (uint64_t)now.tv_nsec;
}

void die(const char *format, ...) {
  va_list arguments;
  fprintf(stderr, "%s: ", program_name);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) die("out of memory");
  return memory;
}

void *reallocate(void *memory, size_t bytes) {
  memory = realloc(memory, bytes);
  if (!memory) die("out of memory");
  return memory;
}

void raise_file_limit(size_t wanted) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return;
  struct rlimit raised = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return;
  raised.rlim_cur = raised.rlim_max = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &raised);
  if (limit.rlim_max < wanted) die("needs %zu open files, the limit is %zu (ulimit -n)", wanted, (size_t)limit.rlim_max);
}
