/*
 * What one binary tells the next that takes its process over: the sockets, the workers, the pid
 * file and the configuration, as descriptors that are not closed on exec, and text in the
 * environment that says what they are.
 */
#ifndef DEFERD_HANDOVER_H
#define DEFERD_HANDOVER_H

#include "deferd/config.h"
#include "deferd/sockets.h"

#include <sys/types.h>

/* The descriptor of the configuration alone, for whoever parses the command line. */
#define HANDOVER_CONFIG "DEFERD_CONFIG_FD"

/* More than this drain at once only if somebody reloads without end; the rest end unseen. */
#define HANDOVER_CHILDREN_MAX 256

struct child;

struct handover {
    struct sockets *sockets; /* borrowed */
    struct {
        pid_t pid;
        int fd; /* of its channel, -1 if that is closed */
        int current;
        uint64_t left; /* milliseconds it has to end, 0: it may take its time */
    } children[HANDOVER_CHILDREN_MAX];
    unsigned child_count;
    int pid_fd; /* of the pid file, -1 without one */
    char pid_path[256];
};

/* Adds a worker. */
void handover_add(struct handover *handover, const struct child *child, int current);

/* Puts it into the environment, and keeps the descriptors open over exec. Returns 0, or -1 without
 * memory or descriptors. */
int handover_write(const struct handover *handover, const struct config *config);

/* exec failed: takes all that back. */
void handover_undo(const struct handover *handover);

/* Is there one? */
int handover_is_there(void);

/* Reads it; the sockets go to handover->sockets. */
void handover_read(struct handover *handover);

#endif
