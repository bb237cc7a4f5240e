/*
 * The numbers of requests: one count that all workers of a master share, so that a number never
 * means two requests, whatever is reloaded, upgraded or dies meanwhile.
 */
#ifndef DEFERD_NUMBERS_H
#define DEFERD_NUMBERS_H

#include <stdatomic.h>
#include <stdint.h>

/* Memory with the count in it, 0, whose size nobody can change. Returns a descriptor,
 * close-on-exec, or -1 with errno. */
int numbers_make(void);

/* The count behind this descriptor, which may be closed then. NULL with errno. */
_Atomic uint64_t *numbers_open(int fd);

#endif
