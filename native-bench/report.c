#include "report.h"

#include <stdio.h>

#include "base.h"

static bool human, first = true;
static int depth;

static void name_it(const char *name) {
  if (human) {
    printf("%*s%-*s ", 2 * depth, "", 26 - 2 * depth, name);
  } else {
    printf("%s\n%*s\"%s\": ", first ? "" : ",", 2 * (depth + 1), "", name);
    first = false;
  }
}

static void end_line(void) {
  if (human) putchar('\n');
}

void report_open(const char *section) {
  name_it(section);
  if (human) putchar('\n');
  else putchar('{');
  first = true;
  depth++;
}

void report_close(void) {
  depth--;
  first = false;
  if (!human) printf("\n%*s}", 2 * (depth + 1), "");
}

void report_count(const char *name, uint64_t value) {
  name_it(name);
  printf("%llu", (unsigned long long)value);
  end_line();
}

void report_number(const char *name, double value) {
  name_it(name);
  printf(value >= 1000 ? "%.0f" : "%.3f", value);
  end_line();
}

void report_text(const char *name, const char *value) {
  name_it(name);
  printf(human ? "%s" : "\"%s\"", value);
  end_line();
}

void report_truth(const char *name, bool value) {
  name_it(name);
  printf("%s", value ? "true" : "false");
  end_line();
}

void report_begin(const struct options *options) {
  human = options->human;
  if (!human) putchar('{');
  report_text("scenario", options->scenario_name);
  report_text("transport", !options->websocket ? "tcp" : options->ws_batch ? "ws, batched frames" : "ws");
  report_text("mqtt", options->version == 5 ? "5" : "3.1.1");
}

void report_end(void) {
  if (!human) printf("\n}\n");
}

void report_latency(const char *section, const struct histogram *histogram) {
  if (!histogram->total) return;
  report_open(section);
  report_number("p50", (double)histogram_at(histogram, 0.5) / 1e3);
  report_number("p90", (double)histogram_at(histogram, 0.9) / 1e3);
  report_number("p99", (double)histogram_at(histogram, 0.99) / 1e3);
  report_number("p999", (double)histogram_at(histogram, 0.999) / 1e3);
  report_number("max", (double)histogram->max_ns / 1e3);
  report_close();
}

void usage_begin(struct usage_span *span, const struct options *options) {
  span->known = options->pid && process_read(options->pid, &span->broker_from);
  if (options->pid && !span->known) die("--pid %d: no such process, or not readable", options->pid);
  span->own_from_s = process_own_cpu_s();
}

void usage_end(struct usage_span *span, const struct options *options, double seconds) {
  span->own_to_s = process_own_cpu_s();
  span->seconds = seconds;
  if (span->known && !process_read(options->pid, &span->broker_to)) die("the broker (pid %d) has ended", options->pid);
}

void report_usage(const struct usage_span *span, uint64_t messages) {
  double own_s = span->own_to_s - span->own_from_s;
  if (span->known) {
    double cpu_s = span->broker_to.cpu_s - span->broker_from.cpu_s;
    report_open("broker");
    report_number("cpuSeconds", cpu_s);
    report_number("cores", span->seconds > 0 ? cpu_s / span->seconds : 0);
    if (messages) report_number("cpuUsPerMessage", cpu_s * 1e6 / (double)messages);
    report_count("threads", span->broker_to.threads);
    report_count("rssKb", span->broker_to.rss_kb);
    report_count("anonymousKb", span->broker_to.anonymous_kb);
    report_count("pssKb", span->broker_to.pss_kb);
    report_close();
  }
  report_open("generator");
  report_number("cpuSeconds", own_s);
  report_number("cores", span->seconds > 0 ? own_s / span->seconds : 0);
  report_close();
}
