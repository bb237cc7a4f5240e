/*
 * The worker: the process that does the work, on its own or under a master.
 */
#ifndef DEFERD_WORKER_H
#define DEFERD_WORKER_H

#include "deferd/options.h"

/* How many descriptors it takes for this many worker slots and connections of web servers. */
uint64_t worker_files_for(uint64_t workers, uint64_t clients);

/* Runs until it is drained. Under a master its channel and sockets are at SOCKETS_CHANNEL and
 * SOCKETS_FIRST_FD; on its own it binds them itself. Returns the process's exit status. */
int worker_run(struct options *options, int under_master);

#endif
