#include "deferd/pool.h"

#include "deferd/client.h"
#include "deferd/conn.h"
#include "deferd/log.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/server.h"

#include <stdlib.h>
#include <utlist.h>

/* While a backlog is full: when to try again if no slot comes back before. */
#define POOL_RETRY_FIRST_MS 2
#define POOL_RETRY_LAST_MS  64

/* How often at most a full backlog is worth a line. */
#define POOL_SAY_MS 1000

/* While draining: how long a request that has begun to arrive may take to. */
#define POOL_EXPIRE_MS 5000

/* How often it is tried again to hand idle connections on meanwhile. */
#define POOL_DRAIN_MS 10

static void pool_arm_queue_timer(struct pool *pool);

unsigned pool_options_workers(const struct pool_options *options)
{
    unsigned workers = 0;
    for (unsigned i = 0; i < options->upstream_count; i++) {
        workers += options->upstreams[i].max_workers;
    }
    return workers;
}

int pool_open(struct pool *pool, struct proxy *proxy, const struct pool_options *options)
{
    *pool = (struct pool){
        .proxy = proxy, .loop = proxy->loop, .options = options, .paused = options->paused};
    uv_timer_t *timers[] = {&pool->retry, &pool->queue_timer, &pool->defer_timer, &pool->expire};
    for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
        timers[i]->data = pool;
        uv_timer_init(proxy->loop, timers[i]);
    }
    pool->upstreams = calloc(options->upstream_count, sizeof(*pool->upstreams));
    if (pool->upstreams == NULL) {
        return UV_ENOMEM;
    }
    for (unsigned i = 0; i < options->upstream_count; i++) {
        int rc = upstream_open(&pool->upstreams[i], pool, &options->upstreams[i], i);
        if (rc != 0) {
            return rc;
        }
    }
    pool->has_pages = options->status_path[0] != '\0' || options->ping_path[0] != '\0';
    pool->workers = pool_options_workers(options);
    pool->places = share_of(&options->defer_max_workers, pool->workers);
    int rc = queue_open(&pool->queue, options->classes, options->class_count, pool->workers);
    for (unsigned i = 0; rc == 0 && i < options->upstream_count; i++) {
        upstream_ask(&pool->upstreams[i]);
    }
    return rc;
}

int pool_keeps(const struct pool *pool)
{
    return pool->options->keepalive;
}

/* --- slots ------------------------------------------------------------------------------------ */

static void pool_give_slot(struct pool *pool, struct request *request)
{
    if (request->upstream != NULL) {
        request->upstream->busy--;
        request->class->busy--;
        pool->busy--;
        request->upstream = NULL;
    }
}

static void pool_take_slot(struct pool *pool, struct request *request, struct upstream *upstream)
{
    queue_remove(&pool->queue, request);
    request->upstream = upstream;
    upstream->busy++;
    request->class->busy++;
    pool->busy++;
    if (pool->busy > pool->stats.busy_peak) {
        pool->stats.busy_peak = pool->busy;
    }
    pool->stats.all_busy += pool->busy == pool->workers;
}

/* Is a less busy than b, in proportion to its workers? */
static int pool_less_busy(const struct upstream *a, const struct upstream *b)
{
    return (uint64_t)a->busy * b->options->max_workers <
           (uint64_t)b->busy * a->options->max_workers;
}

/* The upstreams a request may go to, a bit each: those that could be connected as far as is known,
 * and if there is none, the others all the same, for one may be back. Never one that could not be
 * connected for this request before. */
static uint64_t pool_candidates(const struct pool *pool, const struct request *request)
{
    uint64_t up = 0;
    uint64_t all = 0;
    for (unsigned i = 0; i < pool->options->upstream_count; i++) {
        all |= 1ULL << i;
        if (upstream_is_up(&pool->upstreams[i])) {
            up |= 1ULL << i;
        }
    }
    up &= ~request->tried;
    return up != 0 ? up : all & ~request->tried;
}

/* The least busy of these that has a free slot; NULL if none has. */
static struct upstream *pool_pick(const struct pool *pool, uint64_t candidates)
{
    struct upstream *best = NULL;
    for (unsigned i = 0; i < pool->options->upstream_count; i++) {
        struct upstream *upstream = &pool->upstreams[i];
        if ((candidates & 1ULL << i) && upstream->busy < upstream->options->max_workers &&
            (best == NULL || pool_less_busy(upstream, best))) {
            best = upstream;
        }
    }
    return best;
}

static void pool_on_retry(uv_timer_t *timer)
{
    pool_dispatch(timer->data);
}

/* Says at most once a second why requests wait although there are slots, and tries again soon. */
static void pool_wait(struct pool *pool, const struct upstream *upstream, int error)
{
    uint64_t now = uv_now(pool->loop);
    if (pool->wait_said == 0 || now - pool->wait_said >= POOL_SAY_MS) {
        pool->wait_said = now;
        if (error == UV_EAGAIN) {
            /* Other front ends use these workers too, or there are fewer than max_workers says. */
            log_line(LOG_WARNING,
                     "upstream %s: its backlog is full; requests wait (is max_workers %u more than "
                     "pm.max_children?)",
                     upstream->options->address.text, upstream->options->max_workers);
        } else {
            log_line(LOG_ERROR,
                     "upstream %s: no connection can be made here: %s; requests wait (raise the "
                     "limit of open files?)",
                     upstream->options->address.text, uv_strerror(error));
        }
    }
    if (pool->retry_ms == 0) {
        pool->retry_ms = POOL_RETRY_FIRST_MS;
    } else if (pool->retry_ms < POOL_RETRY_LAST_MS) {
        pool->retry_ms *= 2;
    }
    uv_timer_start(&pool->retry, pool_on_retry, pool->retry_ms, 0);
}

/* Is this machine short of something? Then the upstream is not to blame. */
static int pool_is_own_shortage(int error)
{
    return error == UV_EMFILE || error == UV_ENFILE || error == UV_ENOBUFS || error == UV_ENOMEM ||
           error == UV_EADDRNOTAVAIL;
}

int pool_connect_failed(struct pool *pool, struct request *request, int error)
{
    struct upstream *upstream = request->upstream;
    pool_give_slot(pool, request);
    queue_push(&pool->queue, request, 1);
    if (error == UV_EAGAIN) {
        upstream->stats.backlog_full++;
        pool->full |= 1ULL << upstream->index;
        pool_wait(pool, upstream, error);
    } else if (pool_is_own_shortage(error)) {
        pool->full = UINT64_MAX;
        pool_wait(pool, upstream, error);
    } else {
        request->tried |= 1ULL << upstream->index;
        upstream_failed(upstream, error);
        return 1;
    }
    return 0;
}

static void pool_no_upstream(struct request *request)
{
    log_line(LOG_ERROR, "request %llu: no upstream can be connected; answered 502",
             (unsigned long long)request->id);
    request_refuse(request, 502, "The application server cannot be reached.", 0,
                   OUTCOME_UPSTREAM_FAILED);
}

/* Tries one request. Returns 0 if no more can be dispatched now. */
static int pool_dispatch_one(struct pool *pool, struct request *request)
{
    uint64_t candidates = pool_candidates(pool, request);
    if (candidates == 0) {
        pool_no_upstream(request);
        return 1;
    }
    struct upstream *upstream = pool_pick(pool, candidates & ~pool->full);
    if (upstream == NULL) {
        request->tried = 0; /* by the time it is its turn again, one of them may be back */
        return 0;
    }
    pool_take_slot(pool, request, upstream);
    int rc = request_dispatch(request);
    if (rc != 0) {
        pool_connect_failed(pool, request, rc);
        return 1;
    }
    upstream->stats.requests++;
    if (pool->full == 0) {
        pool->retry_ms = 0;
    }
    return 1;
}

/* A loop, not a recursion: what it dispatches may fail at once and give its slot back. */
void pool_dispatch(struct pool *pool)
{
    struct request *request;
    if (pool->dispatching) {
        return;
    }
    pool->dispatching = 1;
    pool->full = 0;
    while (!pool->paused && pool->queue.waiting > 0 &&
           (request = queue_next(&pool->queue)) != NULL && pool_dispatch_one(pool, request)) {
    }
    pool->dispatching = 0;
    if (pool->queue.waiting > 0) {
        pool_arm_queue_timer(pool);
    }
}

void pool_pause(struct pool *pool)
{
    pool->paused = 1;
}

void pool_resume(struct pool *pool)
{
    pool->paused = 0;
    pool_dispatch(pool);
}

void pool_shut_idle(struct pool *pool)
{
    for (unsigned i = 0; i < pool->options->upstream_count; i++) {
        upstream_shut(&pool->upstreams[i]);
    }
}

/* --- the queue -------------------------------------------------------------------------------- */

static void pool_on_queue_timer(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    struct request *request;
    uint64_t deadline;
    while ((request = queue_oldest(&pool->queue, &deadline)) != NULL && deadline <= uv_hrtime()) {
        request_queue_timeout(request);
    }
    pool_arm_queue_timer(pool);
}

/* One timer for all: it is armed for the request whose time is up first, which may be the newest,
 * for each class has a timeout of its own. A request that leaves earlier lets it fire for nothing,
 * which is cheaper than to stop it each time. */
static void pool_arm_queue_timer(struct pool *pool)
{
    uint64_t deadline;
    uint64_t now = uv_hrtime();
    if (queue_oldest(&pool->queue, &deadline) == NULL) {
        return;
    }
    uint64_t ms = deadline > now ? (deadline - now) / 1000000 + 1 : 0;
    if (!uv_is_active((uv_handle_t *)&pool->queue_timer) ||
        uv_timer_get_due_in(&pool->queue_timer) > ms) {
        uv_timer_start(&pool->queue_timer, pool_on_queue_timer, ms, 0);
    }
}

/* Said once for each name would need a list of names that peers make; said once says enough. */
static struct queue_class *pool_class(struct pool *pool, const struct request *request)
{
    char name[256];
    const struct slice *wanted = &request->head.class_name;
    struct queue_class *class =
        wanted->len > 0 ? queue_class(&pool->queue, wanted->data, wanted->len) : NULL;
    if (class == NULL && wanted->len > 0 && !pool->class_said) {
        pool->class_said = 1;
        log_line(LOG_WARNING,
                 "request %llu: DEFERD_CLASS \"%s\" is no class that is configured; it and others "
                 "like it go to the default class",
                 (unsigned long long)request->id,
                 log_escape(name, sizeof(name), wanted->data, wanted->len));
    }
    return class != NULL ? class : &pool->queue.classes[0];
}

void pool_submit(struct pool *pool, struct request *request)
{
    struct queue_class *class = pool_class(pool, request);
    uint64_t id = request->id;
    request->class = class;
    uint64_t submitted = request->submitted; /* it may be over before this function is */
    DL_APPEND(pool->requests, request);
    queue_push(&pool->queue, request, 0);
    pool_dispatch(pool);
    /* If it was dispatched it may be gone by now; otherwise it is the last of its class. Looked at,
     * because requests that came back after a loss can make the queue longer than its maximum. */
    const struct request *last = class->waiting != NULL ? class->waiting->queue_prev : NULL;
    if (pool->queue.waiting > pool->options->queue_max && last != NULL && last->id == id) {
        log_line(LOG_WARNING, "request %llu: the queue is full, queue.max %u; answered 503",
                 (unsigned long long)id, pool->options->queue_max);
        request_refuse(request, 503, "All workers are busy.", 1, OUTCOME_QUEUE_FULL);
    }
    stats_request_came(pool, submitted);
}

void pool_requeue(struct pool *pool, struct request *request)
{
    pool_give_slot(pool, request);
    queue_push(&pool->queue, request, 1);
    pool_dispatch(pool);
}

/* --- deferred phases -------------------------------------------------------------------------- */

static void pool_arm_defer_timer(struct pool *pool);

static void pool_on_defer_timer(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    uint64_t timeout = pool->options->defer_timeout * 1000000;
    while (pool->phases != NULL && pool->phases->deferred + timeout <= uv_hrtime()) {
        request_defer_timeout(pool->phases);
    }
    pool_arm_defer_timer(pool);
}

/* As the queue's timer: one for all, armed for the oldest. */
static void pool_arm_defer_timer(struct pool *pool)
{
    uint64_t timeout = pool->options->defer_timeout * 1000000;
    if (timeout == 0 || pool->phases == NULL || uv_is_active((uv_handle_t *)&pool->defer_timer)) {
        return;
    }
    uint64_t at = pool->phases->deferred + timeout;
    uint64_t now = uv_hrtime();
    uv_timer_start(&pool->defer_timer, pool_on_defer_timer, at > now ? (at - now) / 1000000 + 1 : 0,
                   0);
}

void pool_begin_phase(struct pool *pool, struct request *request)
{
    DL_APPEND2(pool->phases, request, phase_prev, phase_next);
    request->in_phase = 1;
    pool->stats.phases++;
    request->marked = request->marker_seen;
    pool->stats.marked += request->marked;
    if (pool->stats.marked > pool->stats.marked_peak) {
        pool->stats.marked_peak = pool->stats.marked;
    }
    if (pool->placed < pool->places) {
        pool->placed++;
        request->placed = 1;
    } else {
        DL_APPEND2(pool->held, request, queue_prev, queue_next);
    }
    pool_arm_defer_timer(pool);
}

void pool_unhold(struct pool *pool, struct request *request)
{
    DL_DELETE2(pool->held, request, queue_prev, queue_next);
}

/* A phase ends; its place goes to the one that waits longest. */
static void pool_end_phase(struct pool *pool, struct request *request)
{
    DL_DELETE2(pool->phases, request, phase_prev, phase_next);
    pool->stats.phases--;
    pool->stats.marked -= request->marked;
    if (!request->placed) {
        return;
    }
    struct request *next = pool->held;
    if (next == NULL) {
        pool->placed--;
        return;
    }
    pool_unhold(pool, next);
    next->placed = 1;
    request_place(next);
}

void pool_forget(struct pool *pool, struct request *request)
{
    DL_DELETE(pool->requests, request);
    if (request->queued) {
        queue_remove(&pool->queue, request);
    }
    struct upstream *upstream = request->upstream;
    pool_give_slot(pool, request);
    if (upstream != NULL && upstream->barrier == UPSTREAM_BARRIER_UNKNOWN &&
        !pool->proxy->draining) {
        upstream_ask(upstream);
    }
    if (request->in_phase) {
        pool_end_phase(pool, request);
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Again and again: connections that could not be handed on at once, and in the end those on which a
 * request has begun to arrive and does not. */
static void pool_on_expire(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    struct client *client = NULL;
    struct client *next = NULL;
    int expired = uv_now(pool->loop) - pool->drained_at >= POOL_EXPIRE_MS;
    DL_FOREACH_SAFE(pool->clients, client, next)
    {
        if (expired) {
            client_expire(client);
        } else {
            client_drain(client);
        }
    }
}

void pool_drain(struct pool *pool)
{
    struct client *client = NULL;
    struct client *next = NULL;
    if (pool->server != NULL) {
        server_close(pool->server);
        pool->server = NULL;
    }
    DL_FOREACH_SAFE(pool->clients, client, next)
    {
        client_drain(client);
    }
    pool_shut_idle(pool);
    pool_dispatch(pool);
    uv_unref((uv_handle_t *)&pool->queue_timer); /* what is left is not waiting for them */
    uv_unref((uv_handle_t *)&pool->defer_timer);
    pool->drained_at = uv_now(pool->loop);
    uv_timer_start(&pool->expire, pool_on_expire, POOL_DRAIN_MS, POOL_DRAIN_MS);
    uv_unref((uv_handle_t *)&pool->expire);
}

void pool_free(struct pool *pool)
{
    queue_free(&pool->queue);
    free(pool->upstreams);
    *pool = (struct pool){0};
}
