/*
 * The pool: worker slots at one or more php-fpm addresses, the queue for them, and the places for
 * deferred phases. A slot stands for one php-fpm worker and is held from dispatch until that worker
 * is known, or must be taken, to be free: deferred phase included.
 */
#ifndef DEFERD_POOL_H
#define DEFERD_POOL_H

#include "deferd/address.h"
#include "deferd/client_list.h"
#include "deferd/queue.h"
#include "deferd/stats.h"
#include "deferd/upstream.h"
#include "deferd/window.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct client;
struct proxy;
struct request;
struct server;

#define POOL_UPSTREAMS_MAX 64
#define POOL_CLASSES_MAX   32

/* All durations are milliseconds. */
struct pool_options {
    char name[32];
    struct address listen;
    mode_t listen_mode; /* of a unix listening socket, as the next two */
    char listen_owner[64];
    char listen_group[64];
    unsigned listen_backlog;
    struct upstream_options upstreams[POOL_UPSTREAMS_MAX];
    unsigned upstream_count;
    struct class_options classes[POOL_CLASSES_MAX]; /* the first is "default" */
    unsigned class_count;
    unsigned max_workers;           /* of upstreams that do not say; 0 if not given */
    size_t max_params;              /* bytes of params a request may have */
    unsigned queue_max;             /* requests that may wait */
    struct share defer_max_workers; /* deferred phases that may be under way at once */
    uint64_t queue_timeout;         /* of classes that do not say */
    uint64_t defer_timeout;         /* how long one may take; 0: for ever */
    uint64_t idle_timeout;          /* how long a connection is kept unused */
    int keepalive;                  /* keep connections at all */
    char fpm_pid[256];              /* path of php-fpm's pid file, or empty */
    char access_log[256];           /* paths, or empty */
    char access_format[1024];
    char slowlog[256];
    uint64_t slowlog_timeout; /* when a deferred phase is slow; 0: never */
    struct client_list allowed_clients;
    char status_path[256]; /* SCRIPT_NAMEs that deferd answers itself; empty for none */
    char ping_path[256];
    char ping_response[256];
    int paused; /* no directive: deferctl's pause, which the master remembers for its workers */
};

struct pool {
    struct proxy *proxy;                /* borrowed */
    uv_loop_t *loop;                    /* borrowed */
    const struct pool_options *options; /* borrowed */
    struct server *server;              /* owned; NULL once draining */
    struct client *clients;             /* all connections of web servers */
    struct request *requests;           /* all requests from their params' end to their own end */
    struct request *phases;             /* deferred phases, the oldest first */
    struct request *held;               /* those of them that wait for a place, the oldest first */
    struct queue queue;
    struct upstream *upstreams; /* owned; options->upstream_count of them */
    unsigned workers;           /* slots in all */
    unsigned busy;              /* slots held */
    unsigned places;            /* defer.max_workers in workers */
    unsigned placed;            /* places taken */
    uv_timer_t retry;           /* tries again to dispatch after a backlog was full */
    uint64_t full;              /* upstreams that took no connection in this dispatch, a bit each */
    uint64_t wait_said;         /* uv_now() of the last line about that */
    uv_timer_t queue_timer;     /* for the request whose time in the queue is up first */
    uv_timer_t defer_timer;     /* for the phase whose time is up first */
    uv_timer_t expire;          /* bounds the wait for half requests while draining */
    uint64_t drained_at;        /* uv_now() when the drain began */
    unsigned retry_ms;          /* retry's delay, 0 when no backlog was full the last time */
    int paused;                 /* nothing is dispatched; requests wait */
    char forbidden[64];         /* the last address that listen.allowed_clients did not have */
    int has_pages;              /* status_path or ping.path is set */
    int class_said;             /* a DEFERD_CLASS that is none was logged */
    int dispatching;            /* a dispatch is under way further up the stack */
    struct stats_pool stats;
    struct window window;
};

/* Worker slots at all its upstreams. */
unsigned pool_options_workers(const struct pool_options *options);

/* Returns 0 or UV_E…; after an error too pool_free is due. Does not listen yet. */
int pool_open(struct pool *pool, struct proxy *proxy, const struct pool_options *options);

/* May connections be kept? */
int pool_keeps(const struct pool *pool);

/* A request whose params are complete: queues it and dispatches it at once if a slot is free; or
 * refuses it when the queue is full. */
void pool_submit(struct pool *pool, struct request *request);

/* A request got no connection; what it is, error tells. It waits for another try.
 * Returns 1 if pool_dispatch may be it at once, 0 if only time helps. */
int pool_connect_failed(struct pool *pool, struct request *request, int error);

/* A request lost its connection and goes to the front of its queue; its slot is given back. */
void pool_requeue(struct pool *pool, struct request *request);

/* A request ends: it leaves the queue, gives back its slot and its place. pool_dispatch is to
 * follow when it is freed. */
void pool_forget(struct pool *pool, struct request *request);

/* Gives free slots to those that wait. */
void pool_dispatch(struct pool *pool);

/* Holds all requests back in the queue, and lets them go again, also while draining. What runs goes
 * on. */
void pool_pause(struct pool *pool);
void pool_resume(struct pool *pool);

/* Closes the connections to php-fpm that serve no request, which pin its workers. */
void pool_shut_idle(struct pool *pool);

/* A request's deferred phase begins: sets its placed if there is a place, and otherwise has it
 * wait for one. */
void pool_begin_phase(struct pool *pool, struct request *request);

/* The request waits for a place no more. */
void pool_unhold(struct pool *pool, struct request *request);

/* Stops listening and closes idle connections; requests go on. The loop ends when the last has. */
void pool_drain(struct pool *pool);

/* Frees what the pool owns, after the loop has ended. */
void pool_free(struct pool *pool);

#endif
