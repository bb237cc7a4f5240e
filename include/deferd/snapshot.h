/*
 * A pool as it is now, as a JSON object: what the status page shows in all its formats.
 */
#ifndef DEFERD_SNAPSHOT_H
#define DEFERD_SNAPSHOT_H

#include "deferd/status.h"

#include <jansson.h>

/* At most so many processes are listed, and of each so many tasks. */
#define SNAPSHOT_PROCESSES 512
#define SNAPSHOT_TASKS     16

/* Returns NULL without memory. full: processes, failures and the history too. */
json_t *snapshot_make(const struct status *status, const struct pool *pool, int full);

#endif
