#include "deferd/pool.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/request.h"
#include "deferd/server.h"

#include <stdlib.h>
#include <utlist.h>

/* While the upstream's backlog is full: when to try again if no slot comes back before. */
#define POOL_RETRY_FIRST_MS 2
#define POOL_RETRY_LAST_MS  64

/* How often at most a full backlog is worth a line. */
#define POOL_SAY_MS 1000

/* While draining: how long a request that has begun to arrive may take to. */
#define POOL_EXPIRE_MS 5000

static void pool_dispatch(struct pool *pool);

int pool_open(struct pool *pool, uv_loop_t *loop, const struct pool_options *options)
{
    *pool = (struct pool){.loop = loop, .options = options};
    pool->scratch = malloc(POOL_SCRATCH);
    if (pool->scratch == NULL) {
        return UV_ENOMEM;
    }
    pool->retry.data = pool;
    pool->expire.data = pool;
    uv_timer_init(loop, &pool->expire);
    return uv_timer_init(loop, &pool->retry);
}

static void pool_on_retry(uv_timer_t *timer)
{
    pool_dispatch(timer->data);
}

/* The backlog is full: other front ends use these workers too, or there are fewer of them than
 * max_workers says. */
static void pool_wait_for_upstream(struct pool *pool)
{
    uint64_t now = uv_now(pool->loop);
    if (pool->full_said == 0 || now - pool->full_said >= POOL_SAY_MS) {
        pool->full_said = now;
        log_line(LOG_WARNING,
                 "upstream %s: its backlog is full; requests wait (is max-workers %u more than "
                 "pm.max_children?)",
                 pool->options->upstream.text, pool->options->max_workers);
    }
    if (pool->retry_ms == 0) {
        pool->retry_ms = POOL_RETRY_FIRST_MS;
    } else if (pool->retry_ms < POOL_RETRY_LAST_MS) {
        pool->retry_ms *= 2;
    }
    uv_timer_start(&pool->retry, pool_on_retry, pool->retry_ms, 0);
}

/* Gives free slots to those that wait, first come first. A loop, not a recursion: what it
 * dispatches may fail at once and give its slot back. */
static void pool_dispatch(struct pool *pool)
{
    if (pool->dispatching) {
        return;
    }
    pool->dispatching = 1;
    while (pool->queue != NULL && pool->busy < pool->options->max_workers) {
        struct request *request = pool->queue;
        pool_withdraw(pool, request);
        pool->busy++;
        if (request_dispatch(request) == UV_EAGAIN) {
            pool->busy--;
            DL_PREPEND2(pool->queue, request, queue_prev, queue_next);
            pool_wait_for_upstream(pool);
            break;
        }
        pool->retry_ms = 0;
    }
    pool->dispatching = 0;
}

void pool_submit(struct pool *pool, struct request *request)
{
    DL_APPEND(pool->requests, request);
    DL_APPEND2(pool->queue, request, queue_prev, queue_next);
    pool_dispatch(pool);
}

void pool_withdraw(struct pool *pool, struct request *request)
{
    DL_DELETE2(pool->queue, request, queue_prev, queue_next);
}

void pool_release(struct pool *pool)
{
    pool->busy--;
    pool_dispatch(pool);
}

void pool_forget(struct pool *pool, struct request *request)
{
    DL_DELETE(pool->requests, request);
}

static void pool_on_expire(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    struct client *client = NULL;
    struct client *next = NULL;
    DL_FOREACH_SAFE(pool->clients, client, next)
    {
        client_expire(client);
    }
}

void pool_drain(struct pool *pool)
{
    struct client *client = NULL;
    struct client *next = NULL;
    pool->draining = 1;
    if (pool->server != NULL) {
        server_close(pool->server);
        pool->server = NULL;
    }
    DL_FOREACH_SAFE(pool->clients, client, next)
    {
        client_drain(client);
    }
    uv_timer_start(&pool->expire, pool_on_expire, POOL_EXPIRE_MS, 0);
    uv_unref((uv_handle_t *)&pool->expire);
}

void pool_free(struct pool *pool)
{
    if (pool->retry.data != NULL && !uv_is_closing((uv_handle_t *)&pool->retry)) {
        uv_close((uv_handle_t *)&pool->retry, NULL);
    }
    free(pool->scratch);
    pool->scratch = NULL;
}
