/*
 * The pool: so many worker slots, the requests that hold one, and the queue of those that wait for
 * one. A slot stands for one php-fpm worker and is held from dispatch to the end of the upstream
 * connection, deferred phase included.
 */
#ifndef DEFERD_POOL_H
#define DEFERD_POOL_H

#include "deferd/address.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct client;
struct request;
struct server;

/* The shared read buffer: callbacks of the loop use it one after the other. */
#define POOL_SCRATCH 65536

struct pool_options {
    struct address listen;
    mode_t listen_mode; /* of a unix listening socket */
    struct address upstream;
    unsigned max_workers; /* worker slots, at least 1 */
    size_t max_params;    /* bytes of params a request may have */
};

struct pool {
    uv_loop_t *loop;                    /* borrowed */
    const struct pool_options *options; /* borrowed */
    struct server *server;              /* owned; NULL once draining */
    struct client *clients;             /* all connections of web servers */
    uint64_t client_count;
    struct request *requests; /* all requests from their params' end to their own end */
    struct request *queue;    /* those that wait for a slot, first come first */
    unsigned busy;            /* slots held */
    uint64_t last_request_id;
    uint64_t last_client_id;
    uint64_t max_conns; /* connections of web servers at once; GET_VALUES tells it */
    uv_timer_t retry;   /* tries again to dispatch after the upstream's backlog was full */
    uint64_t full_said; /* uv_now() of the last line about a full backlog */
    uv_timer_t expire;  /* bounds the wait for half requests while draining */
    unsigned retry_ms;  /* its delay, 0 when the upstream was not full the last time */
    int dispatching;    /* a dispatch is under way further up the stack */
    int draining;       /* no new connections; those that are idle close */
    uint8_t *scratch;   /* owned, POOL_SCRATCH bytes */
};

/* Returns 0 or UV_E…. Does not listen yet. */
int pool_open(struct pool *pool, uv_loop_t *loop, const struct pool_options *options);

/* Queues a request whose params are complete, and dispatches it at once if a slot is free. */
void pool_submit(struct pool *pool, struct request *request);

/* Takes a request that is queued out of the queue. */
void pool_withdraw(struct pool *pool, struct request *request);

/* Gives back a slot, which goes to the first in the queue. */
void pool_release(struct pool *pool);

/* Forgets a request that pool_submit was told of. */
void pool_forget(struct pool *pool, struct request *request);

/* Stops listening and closes idle connections; requests go on. The loop ends when the last has. */
void pool_drain(struct pool *pool);

/* Frees what the pool owns, after the loop has ended. */
void pool_free(struct pool *pool);

#endif
