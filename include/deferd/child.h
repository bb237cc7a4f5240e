/*
 * A worker process, seen from its master.
 */
#ifndef DEFERD_CHILD_H
#define DEFERD_CHILD_H

#include "deferd/config.h"
#include "deferd/sockets.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct channel;
struct child;

/* A line from a child. */
typedef void (*child_line_cb)(struct child *child, char *line);

struct child {
    void *owner; /* borrowed */
    child_line_cb on_line;
    struct child *prev, *next;
    pid_t pid;
    struct channel *channel; /* NULL once it is closed */
    uint64_t started;        /* uv_now() */
    char why[512];           /* why it failed, as far as somebody said so */
    int asked;               /* pulse: whether it is alive, and it has not answered */
    uint64_t silent;         /* milliseconds since then */
    uint64_t left;           /* until it must be ready, or have ended; 0: it may take its time */
    int hung;                /* it was killed for one of these */
};

/* The configuration as a file that has no name: whoever goes on with it must not depend on what
 * stands in its file by then. Returns a descriptor, close-on-exec, or -1. */
int child_config_fd(const struct config *config);

/* Starts binary as a worker with this configuration and the sockets it wants, all of which must be
 * there. Returns NULL with a sentence in err. */
struct child *child_spawn(uv_loop_t *loop, const char *binary, const struct config *config,
                          struct sockets *sockets, child_line_cb on_line, char *err,
                          size_t err_size);

/* One that runs already; fd: of its channel, which is taken over, or -1. Returns NULL without
 * memory. */
struct child *child_adopt(uv_loop_t *loop, pid_t pid, int fd, child_line_cb on_line);

/* Sends a line, unless it does not listen any more. */
__attribute__((format(printf, 2, 3))) void child_tell(const struct child *child, const char *format,
                                                      ...);

/* How it ended, by what waitpid says: a sentence. */
void child_describe_end(const struct child *child, int status, char *out, size_t size);

/* Kills all of a list. */
void child_kill_all(const struct child *list);

/* Forgets it; the process goes on. */
void child_free(struct child *child);

#endif
