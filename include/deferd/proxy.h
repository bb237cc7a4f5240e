/*
 * The proxy: all pools of a process, and what they share.
 */
#ifndef DEFERD_PROXY_H
#define DEFERD_PROXY_H

#include "deferd/outcome.h"
#include "deferd/page.h"
#include "deferd/pool.h"

#include <stdatomic.h>
#include <stdint.h>
#include <uv.h>

/* The shared read buffer: callbacks of the loop use it one after the other. */
#define PROXY_SCRATCH 65536

/* What the layer above hears of; NULL for what it does not want to. */
struct proxy_events {
    /* The header block of a request's response is complete. */
    void (*response_began)(void *arg, struct request *request, const uint8_t *head, size_t len);
    /* A request's deferred phase begins; afterwards its params may go. */
    void (*phase_began)(void *arg, struct request *request);
    /* A request is over; it is freed afterwards. */
    void (*request_ended)(void *arg, const struct request *request, enum outcome outcome);
    /* The page that deferd itself answers this request with, a reference that the caller releases;
     * NULL if it is for the application. Its params are complete. */
    struct page *(*page)(void *arg, const struct request *request);
    /* While draining: hands a web server's connection without a request on to another process.
     * Returns 0, then it is to be closed here; UV_EAGAIN: later; another UV_E…: it cannot be. */
    int (*hand_over)(void *arg, const struct pool *pool, int fd);
    void *arg;
};

struct proxy {
    struct proxy_events events;
    uv_loop_t *loop;    /* borrowed */
    struct pool *pools; /* owned */
    unsigned pool_count;
    uint64_t request_count;    /* requests that ever came to this process */
    _Atomic uint64_t *numbers; /* borrowed; the last number of a request; NULL: request_count is */
    uint64_t last_client_id;
    uint64_t client_count; /* connections of web servers */
    struct page_budget page_budget;
    uint64_t max_conns;   /* how many of them there may be; GET_VALUES tells it */
    int draining;         /* no new connections; those that are idle close */
    const char *stop_dir; /* borrowed; where stop files are made, empty or NULL for none */
    int know_workers;     /* take a pidfd of each deferred phase's worker */
    int sharing;          /* with so many workers that drain: no connection to php-fpm is kept */
    uint8_t *scratch;     /* owned, PROXY_SCRATCH bytes */
};

/* Makes a pool of each of these options, which stay the caller's. *proxy is zeroed but for
 * max_conns, numbers, sharing, stop_dir, know_workers and events. Nothing listens yet. Returns 0 or
 * UV_E…; after an error too proxy_free is due. */
int proxy_open(struct proxy *proxy, uv_loop_t *loop, struct pool_options *const *options,
               unsigned count);

/* The request of this id, if it is in its deferred phase; or NULL. */
struct request *proxy_phase(const struct proxy *proxy, uint64_t id);

/* The number of a request that begins: no other one of these workers has it. */
uint64_t proxy_number(struct proxy *proxy);

/* The pool of this name, or NULL. */
struct pool *proxy_pool(const struct proxy *proxy, const char *name);

/* Has pool i listen on a bound socket, which it takes over. Returns 0, or -1 with a sentence in
 * err.
 */
int proxy_listen(struct proxy *proxy, unsigned i, const struct listener *listener, char *err,
                 size_t err_size);

/* Worker slots in all pools, and how many of them are held. */
unsigned proxy_workers(const struct proxy *proxy);
unsigned proxy_busy(const struct proxy *proxy);

/* Stops listening; requests go on. The loop ends when the last has. Idle connections are closed, or
 * handed on if events say how. */
void proxy_drain(struct proxy *proxy);

/* No pool is paused any more. */
void proxy_resume(struct proxy *proxy);

/* Logs each request that is not over, as one that is cut. */
void proxy_log_cut(const struct proxy *proxy);

/* Frees what it owns, after the loop has ended. */
void proxy_free(struct proxy *proxy);

#endif
