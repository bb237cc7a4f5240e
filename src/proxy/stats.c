#include "deferd/stats.h"

#include "deferd/pool.h"
#include "deferd/request.h"
#include "deferd/window.h"

#include <utlist.h>

#define STATS_BOUND(ns, text) ns##u,

static const uint64_t stats_bounds[] = {STATS_BOUNDS(STATS_BOUND)};

void stats_add_time(struct stats_times *times, uint64_t ns)
{
    unsigned i = 0;
    while (i < STATS_BUCKETS && ns > stats_bounds[i]) {
        i++;
    }
    times->buckets[i]++;
    times->sum += ns;
}

void stats_request_came(struct pool *pool, uint64_t submitted)
{
    struct stats_pool *stats = &pool->stats;
    struct window_slot *slot = window_now(&pool->window, submitted);
    stats->submitted++;
    if (pool->queue.waiting > stats->queue_peak) {
        stats->queue_peak = pool->queue.waiting;
    }
    if (pool->queue.waiting > slot->waiting) {
        slot->waiting = pool->queue.waiting;
    }
    if (pool->busy > slot->busy) {
        slot->busy = pool->busy;
    }
}

static void stats_tasks(struct stats_pool *stats, const struct deferral *deferral)
{
    stats->tasks_done += deferral->done;
    stats->tasks_failed += deferral->failed;
    stats->tasks_skipped += deferral->skipped;
    stats->tasks_unfinished +=
        deferral->total - deferral->done - deferral->failed - deferral->skipped;
}

static uint64_t stats_span(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

/* The phases that an outcome speaks of. A connection that waits for its barrier's answer is in one
 * too, but that is over before anybody would call it so. */
static int stats_had_phase(const struct request *request, enum outcome outcome)
{
    return request->deferred != 0 && outcome != OUTCOME_ANSWERED;
}

void stats_request_ended(struct pool *pool, const struct request *request, enum outcome outcome)
{
    uint64_t now = request->ended;
    struct queue_class *class = request->class != NULL ? request->class : &pool->queue.classes[0];
    struct stats_class *stats = &class->stats;
    struct window_slot *slot = window_now(&pool->window, now);

    stats->outcomes[outcome]++;
    slot->requests++;
    slot->failed += outcome_is_failure(outcome);
    if (request->submitted != 0) {
        uint64_t got = request->dispatched != 0 ? request->dispatched : now;
        stats_add_time(&stats->queue, stats_span(request->submitted, got));
        window_add(slot, WINDOW_QUEUE, stats_span(request->submitted, got));
    }
    if (request->submitted != 0 && request->answered != 0) {
        uint64_t ns = stats_span(request->submitted, request->answered);
        stats_add_time(&stats->response, ns);
        window_add(slot, WINDOW_RESPONSE, ns);
    }
    if (stats_had_phase(request, outcome)) {
        uint64_t ns = stats_span(request->deferred, now);
        stats_add_time(&stats->deferred, ns);
        window_add(slot, WINDOW_DEFERRED, ns);
        stats_tasks(&pool->stats, &request->deferral);
    }
}

double stats_queue_age(const struct pool *pool, uint64_t now)
{
    uint64_t oldest = now;
    for (unsigned i = 0; i < pool->queue.count; i++) {
        const struct request *first = pool->queue.classes[i].waiting;
        if (first != NULL && first->submitted < oldest) {
            oldest = first->submitted;
        }
    }
    return (double)(now - oldest) / 1e9;
}

unsigned stats_held(const struct pool *pool)
{
    unsigned count = 0;
    const struct request *request = NULL;
    DL_COUNT2(pool->held, request, count, queue_next);
    return count;
}
