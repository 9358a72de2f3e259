/* What both programs need of the operating system: the clock, memory that never fails, a way to give up. */
#ifndef BASE_H
#define BASE_H

#include <stddef.h>
#include <stdint.h>

#define NANOSECONDS 1000000000ull

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_ns(void);

/* Prints "load: message" (or "floor: message") to stderr and exits with status 1. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Zeroed memory for `count` items; exits when there is none. */
void *allocate(size_t count, size_t size);
void *reallocate(void *memory, size_t bytes);

/* Raises the soft (and, where permitted, the hard) limit of open files to hold `wanted` descriptors. */
void raise_file_limit(size_t wanted);

extern const char *program_name;

#endif
