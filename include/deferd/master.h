/*
 * The master: holds the listening sockets, keeps one worker running, and replaces it on a reload.
 */
#ifndef DEFERD_MASTER_H
#define DEFERD_MASTER_H

#include "deferd/options.h"

/* Runs until it is told to end. argv: the command line, for its workers. Returns the process's exit
 * status. */
int master_run(struct options *options, char **argv);

#endif
