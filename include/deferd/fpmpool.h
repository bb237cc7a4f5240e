/*
 * A pool as php-fpm's own configuration has it.
 */
#ifndef DEFERD_FPMPOOL_H
#define DEFERD_FPMPOOL_H

#include <stddef.h>

struct fpmpool {
    char name[64];
    char listen[256];  /* as it is written, with $pool replaced */
    char connect[256]; /* the same as an address to connect to: a port alone is one of this machine
                        */
    unsigned max_children;
};

/* Reads a file with one pool. Returns 0, or -1 with a sentence in err. */
int fpmpool_read(struct fpmpool *out, const char *path, char *err, size_t err_size);

#endif
