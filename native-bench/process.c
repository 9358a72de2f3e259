#include "process.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static bool read_cpu(int pid, struct process_usage *usage) {
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return false;
  bool read = fgets(line, sizeof line, file);
  fclose(file);
  const char *after_name = read ? strrchr(line, ')') : NULL;
  unsigned long user, kernel;
  if (!after_name) return false;
  if (sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2) return false;
  usage->cpu_s = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
  return true;
}

/* Picks "Name:   123 kB" lines out of a /proc file. */
static void read_fields(const char *path, const char *const *names, uint64_t *const *values, int count) {
  char line[256];
  FILE *file = fopen(path, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    for (int i = 0; i < count; i++) {
      size_t length = strlen(names[i]);
      unsigned long value;
      if (strncmp(line, names[i], length) == 0 && sscanf(line + length, ": %lu", &value) == 1) *values[i] = value;
    }
  }
  fclose(file);
}

bool process_read(int pid, struct process_usage *usage) {
  char path[64];
  *usage = (struct process_usage){0};
  if (!read_cpu(pid, usage)) return false;
  const char *status_names[] = {"VmRSS", "RssAnon", "Threads"};
  uint64_t *status_values[] = {&usage->rss_kb, &usage->anonymous_kb, &usage->threads};
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  read_fields(path, status_names, status_values, 3);
  const char *map_names[] = {"Pss"};
  uint64_t *map_values[] = {&usage->pss_kb};
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
  read_fields(path, map_names, map_values, 1);
  return true;
}

double process_own_cpu_s(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
