/*
 * A worker that drains hands the connections of web servers that serve no request on to the worker
 * that works: closed, they would fail a request that is already on its way to them. It hands it
 * the stream on which it tells of its phases, too.
 */
#ifndef DEFERD_HANDOFF_H
#define DEFERD_HANDOFF_H

#include "deferd/peer.h"
#include "deferd/proxy.h"

#include <uv.h>

/* Two ends that all workers of a master share: the ones that drain write, the one that works reads.
 * What is written while none works waits for the next. Returns 0, or -1 with errno. */
int handoff_make(int fds[2]);

struct handoff {
    struct proxy *proxy; /* borrowed */
    struct peers *peers; /* borrowed */
    int write_fd;        /* owned; -1 without a master */
    int read_fd;
    uv_poll_t poll;
    int reading;
};

/* Takes the descriptors over, and connections from now on. Returns 0 or UV_E…. */
int handoff_open(struct handoff *handoff, struct proxy *proxy, struct peers *peers, int read_fd,
                 int write_fd);

/* Takes no more connections: this worker drains. */
void handoff_stop(struct handoff *handoff);

/* In a pool's place: a teller's stream. No pool can have this name. */
#define HANDOFF_PHASES "+phases"

/* Hands a connection on; the caller closes its own descriptor then. Returns 0, UV_EAGAIN: later, or
 * another UV_E…: it cannot be. */
int handoff_send(const struct handoff *handoff, const char *pool, int fd);

#endif
