/*
 * One php-fpm address: its worker slots, the connections kept to it, and whether it can be reached.
 */
#ifndef DEFERD_UPSTREAM_H
#define DEFERD_UPSTREAM_H

#include "deferd/address.h"
#include "deferd/stats.h"

#include <stdint.h>
#include <uv.h>

struct conn;
struct pool;
struct request;

struct upstream_options {
    char name[32]; /* of upstream[NAME]; empty if there is but one */
    int numbered;  /* a flag's: the name is a number that nobody gave it */
    struct address address;
    unsigned max_workers; /* requests it works on at once: its pm.max_children */
    char fpm_pool[256];   /* php-fpm's file that says both, or empty */
};

/* Does this php-fpm survive GET_VALUES, which all keeping rests on (fact 9)? */
enum upstream_barrier {
    UPSTREAM_BARRIER_UNKNOWN,
    UPSTREAM_BARRIER_ASKING, /* a connection that asks is open */
    UPSTREAM_BARRIER_YES,
    UPSTREAM_BARRIER_NO, /* older than 8.2.13, or no php-fpm */
};

struct upstream {
    const struct upstream_options *options; /* borrowed */
    struct pool *pool;                      /* borrowed */
    unsigned index;                         /* its place in pool->upstreams */
    unsigned busy;                          /* slots held by requests */
    unsigned kept;                          /* idle connections, each of which pins a worker too */
    struct conn *idle;                      /* most recently used first */
    struct conn *untaken;                   /* those whose request is about to be read */
    struct conn *asker;                     /* the connection that asks for barrier, or NULL */
    enum upstream_barrier barrier;
    unsigned backoff;    /* milliseconds, 0 while it can be reached */
    uint64_t down_until; /* uv_hrtime() */
    uv_timer_t reap;     /* closes idle connections */
    uv_timer_t back;     /* when it may be tried again: for requests that wait meanwhile */
    uv_timer_t look;     /* looks again what was read */
    struct stats_upstream stats;
};

/* What it is called in metrics and on the status page: its name, or if nobody gave it one its
 * address. No two of a pool are called the same. */
const char *upstream_name(const struct upstream_options *options);

/* Returns 0 or UV_E…. */
int upstream_open(struct upstream *upstream, struct pool *pool,
                  const struct upstream_options *options, unsigned index);

/* Could it be reached, as far as is known? */
int upstream_is_up(const struct upstream *upstream);

/* A connect failed: sets it aside for a while that grows from failure to failure. */
void upstream_failed(struct upstream *upstream, int error);

/* A connect succeeded. */
void upstream_reached(struct upstream *upstream);

/* Asks whether this php-fpm survives GET_VALUES, if that is not known and a slot is free. */
void upstream_ask(struct upstream *upstream);

/* A connection that may be used again. */
void upstream_keep(struct upstream *upstream, struct conn *conn);

/* Takes an idle connection out, the most recently used first; NULL if there is none. */
struct conn *upstream_take(struct upstream *upstream);

/* Has conn_look called for the connection soon, and no more. */
void upstream_watch(struct upstream *upstream, struct conn *conn);
void upstream_unwatch(struct upstream *upstream, struct conn *conn);

/* A connection that was idle is gone. */
void upstream_lose(struct upstream *upstream, struct conn *conn);

/* Closes all connections that serve no request. */
void upstream_shut(struct upstream *upstream);

#endif
