/*
 * What is counted: one list, from which the fields that the data path increments, the metrics with
 * their names and help, and docs/metrics.md are made. Pure: no I/O, no clock, no allocation.
 *
 * COUNTER(field, name, help)       a field of the scope's struct stats_…, which only grows
 * RISING(expression, name, help)   the same, looked up when it is asked for
 * GAUGE(expression, name, help)    a value, looked up when it is asked for
 * OUTCOMES(field, name, help)      a counter for each outcome (deferd/outcome.h), in label outcome
 * TIMES(field, name, help)         a histogram of durations
 *
 * Expressions see the scope's object by its name: proxy, pool, class, upstream; and now, which is
 * uv_hrtime(). A metric's full name begins with deferd_, and a counter's ends in _total.
 */
#ifndef DEFERD_STATS_H
#define DEFERD_STATS_H

#include "deferd/outcome.h"

#include <stdint.h>

/* Without labels. */
#define STATS_PROXY(COUNTER, RISING, GAUGE, OUTCOMES, TIMES)                                       \
    GAUGE(status->started, start_time_seconds, "When this process started, in Unix time")          \
    GAUGE(status_memory(), resident_memory_bytes, "Memory this process has resident")              \
    RISING(status_cpu(), cpu_seconds, "CPU time this process has used")                            \
    GAUGE(proxy->sharing, draining_workers, "Workers of deferd that drain, after a reload")        \
    GAUGE(proxy->client_count, client_connections, "Connections of web servers that are open")     \
    GAUGE(proxy->max_conns, client_connections_limit, "How many of them there may be")

/* Label pool. */
#define STATS_POOL(COUNTER, RISING, GAUGE, OUTCOMES, TIMES)                                        \
    COUNTER(accepted, connections_accepted, "Connections of web servers that were taken")          \
    COUNTER(refused, connections_refused, "Connections of web servers that were not taken")        \
    GAUGE(pool->stats.connections, connections, "Connections of web servers that are open")        \
    COUNTER(pages, pages, "Requests for status_path and ping.path; they count nowhere else")       \
    COUNTER(submitted, requests_received, "Requests that came completely")                         \
    GAUGE(pool->options->queue_max, queue_limit, "How many requests may wait: queue.max")          \
    GAUGE(pool->stats.queue_peak, queue_peak, "The most requests that ever waited at once")        \
    GAUGE(stats_queue_age(pool, now), queue_oldest_seconds,                                        \
          "How long the request that has waited longest has waited")                               \
    GAUGE(pool->stats.busy_peak, workers_busy_peak, "The most workers that ever were busy")        \
    COUNTER(all_busy, workers_all_busy, "How often the last free worker became busy")              \
    GAUGE(pool->stats.phases, deferred_phases, "Deferred phases under way")                        \
    GAUGE(stats_held(pool), deferred_phases_held,                                                  \
          "Those of them whose response's end is held back by defer.max_workers")                  \
    GAUGE(pool->stats.marked_peak, deferred_phases_peak,                                           \
          "The most that ever were, begun by the marker")                                          \
    GAUGE(peers_count_phases(status->peers, pool->options->name), deferred_phases_draining,        \
          "Deferred phases under way in workers of deferd that drain")                             \
    GAUGE(pool->places, deferred_phases_limit, "How many may be: defer.max_workers")               \
    COUNTER(slow, deferred_phases_slow, "Those that took longer than defer_slowlog_timeout")       \
    COUNTER(tasks_done, tasks_done, "Deferred tasks that ended well")                              \
    COUNTER(tasks_failed, tasks_failed, "Deferred tasks that failed")                              \
    COUNTER(tasks_skipped, tasks_skipped, "Deferred tasks that were skipped")                      \
    COUNTER(tasks_unfinished, tasks_unfinished,                                                    \
            "Deferred tasks of which nothing was heard before their phase was over")

/* Labels pool and class. */
#define STATS_CLASS(COUNTER, RISING, GAUGE, OUTCOMES, TIMES)                                       \
    OUTCOMES(outcomes, requests, "Requests that are over, by how they ended")                      \
    GAUGE(class->length, queue_length, "Requests that wait for a worker")                          \
    GAUGE(class->busy, class_workers_busy, "Workers that requests of the class hold")              \
    GAUGE(class->max_workers, class_workers_limit, "How many they may hold")                       \
    TIMES(queue, queue_seconds, "Time from a request's last param until it got a worker")          \
    TIMES(response, response_seconds, "Time from a request's last param to its response's end")    \
    TIMES(deferred, deferred_seconds, "Time that deferred phases took")

/* Labels pool and upstream. */
#define STATS_UPSTREAM(COUNTER, RISING, GAUGE, OUTCOMES, TIMES)                                    \
    GAUGE(upstream_is_up(upstream), upstream_up, "1 if the php-fpm can be reached, else 0")        \
    GAUGE(upstream->options->max_workers, workers, "Workers of the php-fpm: max_workers")          \
    GAUGE(upstream->busy, workers_busy, "Workers that requests hold, deferred phases included")    \
    GAUGE(upstream->kept, upstream_connections_idle, "Connections kept for the next request")      \
    COUNTER(requests, upstream_requests, "Requests that were given to it")                         \
    COUNTER(resent, upstream_requests_resent,                                                      \
            "Requests that were lost there unanswered, and sent again")                            \
    COUNTER(failures, upstream_connect_failures, "Connections that could not be made")             \
    COUNTER(backlog_full, upstream_backlog_full, "Connections that its backlog had no room for")

/* The upper bounds of the histograms' buckets: nanoseconds, and what the label says. */
#define STATS_BOUNDS(X)                                                                            \
    X(1000000, "0.001")                                                                            \
    X(2500000, "0.0025")                                                                           \
    X(5000000, "0.005")                                                                            \
    X(10000000, "0.01")                                                                            \
    X(25000000, "0.025")                                                                           \
    X(50000000, "0.05")                                                                            \
    X(100000000, "0.1")                                                                            \
    X(250000000, "0.25")                                                                           \
    X(500000000, "0.5")                                                                            \
    X(1000000000, "1.0")                                                                           \
    X(2500000000, "2.5")                                                                           \
    X(5000000000, "5.0")                                                                           \
    X(10000000000, "10.0")                                                                         \
    X(30000000000, "30.0")                                                                         \
    X(60000000000, "60.0")                                                                         \
    X(300000000000, "300.0")

#define STATS_BOUND_ENUMERATOR(ns, text) STATS_BOUND_##ns,
enum { STATS_BOUNDS(STATS_BOUND_ENUMERATOR) STATS_BUCKETS };

struct stats_times {
    uint64_t buckets[STATS_BUCKETS + 1]; /* not cumulative; the last has no bound */
    uint64_t sum;                        /* nanoseconds */
};

#define STATS_NO_FIELD(expression, name, help)
#define STATS_COUNTER_FIELD(field, name, help)  uint64_t field;
#define STATS_OUTCOMES_FIELD(field, name, help) uint64_t field[OUTCOME_COUNT];
#define STATS_TIMES_FIELD(field, name, help)    struct stats_times field;

#define STATS_FIELDS(scope)                                                                        \
    STATS_##scope(STATS_COUNTER_FIELD, STATS_NO_FIELD, STATS_NO_FIELD, STATS_OUTCOMES_FIELD,       \
                  STATS_TIMES_FIELD)

struct stats_pool {
    STATS_FIELDS(POOL)
    /* What gauges of the pool need and nobody else keeps. */
    unsigned connections;
    unsigned phases;
    unsigned marked; /* those that began with the marker: the others are mostly over at once */
    unsigned marked_peak;
    unsigned queue_peak;
    unsigned busy_peak;
};

struct stats_class {
    STATS_FIELDS(CLASS)
};

struct stats_upstream {
    STATS_FIELDS(UPSTREAM)
};

struct pool;
struct request;

/* Counts a duration. */
void stats_add_time(struct stats_times *times, uint64_t ns);

/* A request came completely at this time, and has joined the queue or was dispatched at once. */
void stats_request_came(struct pool *pool, uint64_t submitted);

/* A request is over; its times are in it. */
void stats_request_ended(struct pool *pool, const struct request *request, enum outcome outcome);

/* How many requests of the pool ended so. */
uint64_t stats_outcome(const struct pool *pool, enum outcome outcome);

/* For gauges. */
double stats_queue_age(const struct pool *pool, uint64_t now);
unsigned stats_held(const struct pool *pool);

#endif
