#include "deferd/upstream.h"

#include "deferd/conn.h"
#include "deferd/log.h"
#include "deferd/pool.h"

#include <utlist.h>

#define UPSTREAM_BACKOFF_FIRST_MS 100
#define UPSTREAM_BACKOFF_LAST_MS  10000

/* A worker that has answered a barrier reads on at once, if it gets a processor. */
#define UPSTREAM_LOOK_MS 1

const char *upstream_name(const struct upstream_options *options)
{
    return options->name[0] != '\0' && !options->numbered ? options->name : options->address.text;
}

int upstream_open(struct upstream *upstream, struct pool *pool,
                  const struct upstream_options *options, unsigned index)
{
    *upstream = (struct upstream){.options = options, .pool = pool, .index = index};
    upstream->barrier = pool->options->keepalive ? UPSTREAM_BARRIER_UNKNOWN : UPSTREAM_BARRIER_NO;
    uv_timer_t *timers[] = {&upstream->reap, &upstream->back, &upstream->look};
    for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
        timers[i]->data = upstream;
        uv_timer_init(pool->loop, timers[i]);
        uv_unref((uv_handle_t *)timers[i]);
    }
    return 0;
}

int upstream_is_up(const struct upstream *upstream)
{
    return upstream->backoff == 0 || uv_hrtime() >= upstream->down_until;
}

/* The loop's clock may be a little ahead of the one that down_until is of. */
static void upstream_on_back(uv_timer_t *timer)
{
    const struct upstream *upstream = timer->data;
    if (upstream_is_up(upstream)) {
        pool_dispatch(upstream->pool);
    } else {
        uv_timer_start(timer, upstream_on_back, 1, 0);
    }
}

void upstream_failed(struct upstream *upstream, int error)
{
    upstream->stats.failures++;
    if (!upstream_is_up(upstream)) {
        return; /* tried in spite of it, for there was no other */
    }
    unsigned next = upstream->backoff * 2;
    upstream->backoff = next == 0                         ? UPSTREAM_BACKOFF_FIRST_MS
                        : next < UPSTREAM_BACKOFF_LAST_MS ? next
                                                          : UPSTREAM_BACKOFF_LAST_MS;
    upstream->down_until = uv_hrtime() + upstream->backoff * 1000000ULL;
    uv_timer_start(&upstream->back, upstream_on_back, upstream->backoff, 0);
    if (pool_keeps(upstream->pool)) {
        upstream_shut(upstream);
        upstream->barrier = UPSTREAM_BARRIER_UNKNOWN; /* another php-fpm may come up */
    }
    log_line(LOG_ERROR,
             "upstream %s: cannot connect: %s; set aside for %u ms (is php-fpm running, and is "
             "this its listen address?)",
             upstream->options->address.text, uv_strerror(error), upstream->backoff);
}

void upstream_reached(struct upstream *upstream)
{
    if (upstream->backoff != 0) {
        log_line(LOG_NOTICE, "upstream %s: can be reached again", upstream->options->address.text);
        upstream->backoff = 0;
    }
}

void upstream_ask(struct upstream *upstream)
{
    if (upstream->barrier == UPSTREAM_BARRIER_UNKNOWN && upstream_is_up(upstream) &&
        upstream->busy + upstream->kept < upstream->options->max_workers &&
        conn_ask(upstream) == 0) {
        upstream->barrier = UPSTREAM_BARRIER_ASKING;
    }
}

/* Closes connections that were idle for upstream.idle_timeout. The last of the list has been so
 * longest, and every other one is newer: one timer serves all. */
static void upstream_on_reap(uv_timer_t *timer)
{
    struct upstream *upstream = timer->data;
    uint64_t timeout = upstream->pool->options->idle_timeout;
    uint64_t now = uv_now(timer->loop);
    while (upstream->idle != NULL) {
        struct conn *oldest = upstream->idle->prev; /* utlist: the head's prev is the tail */
        if (oldest->idle_since + timeout > now) {
            uv_timer_start(timer, upstream_on_reap, oldest->idle_since + timeout - now, 0);
            return;
        }
        upstream_lose(upstream, oldest);
        conn_close(oldest);
    }
}

void upstream_keep(struct upstream *upstream, struct conn *conn)
{
    conn->idle_since = uv_now(upstream->pool->loop);
    DL_PREPEND(upstream->idle, conn);
    upstream->kept++;
    if (!uv_is_active((uv_handle_t *)&upstream->reap)) {
        uv_timer_start(&upstream->reap, upstream_on_reap, upstream->pool->options->idle_timeout, 0);
    }
}

struct conn *upstream_take(struct upstream *upstream)
{
    struct conn *conn = upstream->idle;
    if (conn != NULL) {
        upstream_lose(upstream, conn);
    }
    return conn;
}

static void upstream_on_look(uv_timer_t *timer)
{
    struct upstream *upstream = timer->data;
    struct conn *conn = NULL;
    int count = 0;
    DL_COUNT(upstream->untaken, conn, count);
    /* Those that are still not read go to the end of the list, and any may leave it meanwhile. */
    for (; count > 0 && upstream->untaken != NULL; count--) {
        conn = upstream->untaken;
        upstream_unwatch(upstream, conn);
        conn_look(conn);
    }
}

void upstream_watch(struct upstream *upstream, struct conn *conn)
{
    DL_APPEND(upstream->untaken, conn);
    conn->listed = 1;
    if (!uv_is_active((uv_handle_t *)&upstream->look)) {
        uv_timer_start(&upstream->look, upstream_on_look, UPSTREAM_LOOK_MS, 0);
    }
}

void upstream_unwatch(struct upstream *upstream, struct conn *conn)
{
    DL_DELETE(upstream->untaken, conn);
    conn->listed = 0;
}

void upstream_lose(struct upstream *upstream, struct conn *conn)
{
    DL_DELETE(upstream->idle, conn);
    upstream->kept--;
}

void upstream_shut(struct upstream *upstream)
{
    struct conn *conn;
    while ((conn = upstream_take(upstream)) != NULL) {
        conn_close(conn);
    }
    if (upstream->asker != NULL) {
        conn_close(upstream->asker);
        upstream->asker = NULL;
        upstream->barrier = UPSTREAM_BARRIER_UNKNOWN;
    }
}
