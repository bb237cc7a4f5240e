/*
 * What a worker may not be allowed to do, and has its master do: signals to php-fpm.
 */
#ifndef DEFERD_ERRAND_H
#define DEFERD_ERRAND_H

#include "deferd/child.h"
#include "deferd/config.h"

/* Runs the errand that a line of the child's asks for, and tells it how that went. The
 * configuration is the master's own. Returns 0 if the line asks for none. */
int errand_run(const struct config *config, const struct child *child, const char *line);

#endif
