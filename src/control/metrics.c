/*
 * One pass over the list for each metric: all samples of one must stand together, whatever pool
 * they are of.
 */
#include "deferd/metrics.h"

#include "deferd/log.h"
#include "deferd/pool.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#ifndef DEFERD_VERSION
#define DEFERD_VERSION "unknown"
#endif

enum metric_kind {
    METRIC_COUNTER,
    METRIC_GAUGE,
    METRIC_OUTCOMES,
    METRIC_TIMES,
};

enum metric_scope {
    METRIC_PROXY,
    METRIC_POOL,
    METRIC_CLASS,
    METRIC_UPSTREAM,
};

/* What the expressions of the list are evaluated for. */
struct metric_object {
    const struct status *status;
    const struct proxy *proxy;
    const struct pool *pool;
    const struct queue_class *class;
    const struct upstream *upstream;
    uint64_t now;
};

struct metric {
    enum metric_scope scope;
    enum metric_kind kind;
    const char *name; /* without deferd_ and _total */
    const char *help;
    double (*value)(const struct metric_object *object); /* NULL for the kinds below */
    const uint64_t *(*outcomes)(const struct metric_object *object);
    const struct stats_times *(*times)(const struct metric_object *object);
};

/* --- the list, as functions and as a table ---------------------------------------------------- */

/* Each function sees all objects by their names; those that its scope has not are NULL. */
#define METRIC_VALUE(expression, name)                                                             \
    static double metric_##name(const struct metric_object *object)                                \
    {                                                                                              \
        const struct status *status = object->status;                                              \
        const struct proxy *proxy = object->proxy;                                                 \
        const struct pool *pool = object->pool;                                                    \
        const struct queue_class *class = object->class;                                           \
        const struct upstream *upstream = object->upstream;                                        \
        uint64_t now = object->now;                                                                \
        (void)status, (void)proxy, (void)pool, (void)class, (void)upstream, (void)now;             \
        return (double)(expression);                                                               \
    }

#define METRIC_LOOKUP(expression, name, help)      METRIC_VALUE(expression, name)
#define METRIC_POOL_COUNTER(field, name, help)     METRIC_VALUE(pool->stats.field, name)
#define METRIC_UPSTREAM_COUNTER(field, name, help) METRIC_VALUE(upstream->stats.field, name)
#define METRIC_NO_FUNCTION(field, name, help)
#define METRIC_OUTCOMES_FUNCTION(field, name, help)                                                \
    static const uint64_t *metric_##name(const struct metric_object *object)                       \
    {                                                                                              \
        return object->class->stats.field;                                                         \
    }
#define METRIC_TIMES_FUNCTION(field, name, help)                                                   \
    static const struct stats_times *metric_##name(const struct metric_object *object)             \
    {                                                                                              \
        return &object->class->stats.field;                                                        \
    }

STATS_PROXY(METRIC_NO_FUNCTION, METRIC_LOOKUP, METRIC_LOOKUP, METRIC_NO_FUNCTION,
            METRIC_NO_FUNCTION)
STATS_POOL(METRIC_POOL_COUNTER, METRIC_LOOKUP, METRIC_LOOKUP, METRIC_NO_FUNCTION,
           METRIC_NO_FUNCTION)
STATS_CLASS(METRIC_NO_FUNCTION, METRIC_LOOKUP, METRIC_LOOKUP, METRIC_OUTCOMES_FUNCTION,
            METRIC_TIMES_FUNCTION)
STATS_UPSTREAM(METRIC_UPSTREAM_COUNTER, METRIC_LOOKUP, METRIC_LOOKUP, METRIC_NO_FUNCTION,
               METRIC_NO_FUNCTION)

/* The rows need the scope, which the list's lines do not name. */
#define METRIC_ROW(scope, kind, name, help, member)                                                \
    {METRIC_##scope, METRIC_##kind, #name, help, .member = metric_##name},

#define PROXY_ROW_RISING(expr, name, help)     METRIC_ROW(PROXY, COUNTER, name, help, value)
#define PROXY_ROW_GAUGE(expr, name, help)      METRIC_ROW(PROXY, GAUGE, name, help, value)
#define POOL_ROW_COUNTER(expr, name, help)     METRIC_ROW(POOL, COUNTER, name, help, value)
#define POOL_ROW_GAUGE(expr, name, help)       METRIC_ROW(POOL, GAUGE, name, help, value)
#define CLASS_ROW_GAUGE(expr, name, help)      METRIC_ROW(CLASS, GAUGE, name, help, value)
#define CLASS_ROW_OUTCOMES(expr, name, help)   METRIC_ROW(CLASS, OUTCOMES, name, help, outcomes)
#define CLASS_ROW_TIMES(expr, name, help)      METRIC_ROW(CLASS, TIMES, name, help, times)
#define UPSTREAM_ROW_COUNTER(expr, name, help) METRIC_ROW(UPSTREAM, COUNTER, name, help, value)
#define UPSTREAM_ROW_GAUGE(expr, name, help)   METRIC_ROW(UPSTREAM, GAUGE, name, help, value)

static const struct metric metrics[] = {
    STATS_PROXY(PROXY_ROW_COUNTER, PROXY_ROW_RISING, PROXY_ROW_GAUGE, , )
        STATS_POOL(POOL_ROW_COUNTER, POOL_ROW_RISING, POOL_ROW_GAUGE, , )
            STATS_CLASS(CLASS_ROW_COUNTER, CLASS_ROW_RISING, CLASS_ROW_GAUGE, CLASS_ROW_OUTCOMES,
                        CLASS_ROW_TIMES)
                STATS_UPSTREAM(UPSTREAM_ROW_COUNTER, UPSTREAM_ROW_RISING, UPSTREAM_ROW_GAUGE, , )};

#define METRIC_COUNT (sizeof(metrics) / sizeof(metrics[0]))

/* --- writing ---------------------------------------------------------------------------------- */

/* The longest line but for the help. */
#define METRICS_LINE_MAX 2048

struct metrics_output {
    struct buf *out;
    int openmetrics;
    int failed;
};

__attribute__((format(printf, 2, 3))) static void metrics_print(struct metrics_output *output,
                                                                const char *format, ...)
{
    va_list args;
    if (buf_reserve(output->out, METRICS_LINE_MAX) != 0) {
        output->failed = 1;
        return;
    }
    va_start(args, format);
    int n = vsnprintf((char *)output->out->data + output->out->len, METRICS_LINE_MAX, format, args);
    va_end(args);
    output->out->len += (size_t)n < METRICS_LINE_MAX ? (size_t)n : METRICS_LINE_MAX - 1;
}

/* Whole numbers as such. */
static void metrics_number(struct metrics_output *output, double value)
{
    int whole = value == (double)(int64_t)value;
    metrics_print(output, whole ? " %.0f\n" : " %.9f\n", value);
}

/* A label's value: log_escape leaves only backslashes to escape. */
static const char *metrics_label(char *out, size_t size, const char *text)
{
    char escaped[4 * ADDRESS_TEXT_MAX + 1];
    size_t at = 0;
    log_escape(escaped, sizeof(escaped), text, strlen(text));
    for (const char *p = escaped; *p != '\0' && at + 2 < size; p++) {
        if (*p == '\\') {
            out[at++] = '\\';
        }
        out[at++] = *p;
    }
    out[at] = '\0';
    return out;
}

/* The labels of an object without braces. */
static void metrics_labels(const struct metric *metric, const struct metric_object *object,
                           char *out, size_t size)
{
    char label[ADDRESS_TEXT_MAX * 5];
    out[0] = '\0';
    if (metric->scope == METRIC_PROXY) {
        return;
    }
    int n = snprintf(out, size, "pool=\"%s\"", object->pool->options->name);
    if (metric->scope == METRIC_CLASS) {
        snprintf(out + n, size - (size_t)n, ",class=\"%s\"", object->class->options->name);
    } else if (metric->scope == METRIC_UPSTREAM) {
        snprintf(out + n, size - (size_t)n, ",upstream=\"%s\"",
                 metrics_label(label, sizeof(label), upstream_name(object->upstream->options)));
    }
}

static void metrics_outcomes(struct metrics_output *output, const struct metric *metric,
                             const struct metric_object *object, const char *labels)
{
    const uint64_t *counts = metric->outcomes(object);
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        metrics_print(output, "deferd_%s_total{%s,outcome=\"%s\"}", metric->name, labels,
                      outcome_name((enum outcome)i));
        metrics_number(output, (double)counts[i]);
    }
}

#define METRICS_BOUND(ns, text) text,

static void metrics_times(struct metrics_output *output, const struct metric *metric,
                          const struct metric_object *object, const char *labels)
{
    static const char *const bounds[] = {STATS_BOUNDS(METRICS_BOUND) "+Inf"};
    const struct stats_times *times = metric->times(object);
    uint64_t count = 0;
    for (unsigned i = 0; i <= STATS_BUCKETS; i++) {
        count += times->buckets[i];
        metrics_print(output, "deferd_%s_bucket{%s,le=\"%s\"} %llu\n", metric->name, labels,
                      bounds[i], (unsigned long long)count);
    }
    metrics_print(output, "deferd_%s_count{%s} %llu\n", metric->name, labels,
                  (unsigned long long)count);
    metrics_print(output, "deferd_%s_sum{%s}", metric->name, labels);
    metrics_number(output, (double)times->sum / 1e9);
}

static void metrics_sample(struct metrics_output *output, const struct metric *metric,
                           const struct metric_object *object)
{
    char labels[ADDRESS_TEXT_MAX * 6];
    metrics_labels(metric, object, labels, sizeof(labels));
    switch (metric->kind) {
    case METRIC_OUTCOMES:
        metrics_outcomes(output, metric, object, labels);
        break;
    case METRIC_TIMES:
        metrics_times(output, metric, object, labels);
        break;
    default:
        metrics_print(output, "deferd_%s%s%s%s%s", metric->name,
                      metric->kind == METRIC_COUNTER ? "_total" : "", labels[0] ? "{" : "", labels,
                      labels[0] ? "}" : "");
        metrics_number(output, metric->value(object));
        break;
    }
}

/* --- which objects ---------------------------------------------------------------------------- */

static void metrics_of_pool(struct metrics_output *output, const struct metric *metric,
                            struct metric_object *object)
{
    const struct pool *pool = object->pool;
    switch (metric->scope) {
    case METRIC_CLASS:
        for (unsigned i = 0; i < pool->queue.count; i++) {
            object->class = &pool->queue.classes[i];
            metrics_sample(output, metric, object);
        }
        break;
    case METRIC_UPSTREAM:
        for (unsigned i = 0; i < pool->options->upstream_count; i++) {
            object->upstream = &pool->upstreams[i];
            metrics_sample(output, metric, object);
        }
        break;
    default:
        metrics_sample(output, metric, object);
        break;
    }
}

static int metrics_is_counter(const struct metric *metric)
{
    return metric->kind == METRIC_COUNTER || metric->kind == METRIC_OUTCOMES;
}

static const char *metrics_type(const struct metric *metric)
{
    return metric->kind == METRIC_TIMES   ? "histogram"
           : metric->kind == METRIC_GAUGE ? "gauge"
                                          : "counter";
}

/* OpenMetrics names a counter's family without _total, Prometheus's own format with it. */
static void metrics_one(struct metrics_output *output, const struct metric *metric,
                        struct metric_object *object, const struct pool *only)
{
    const char *suffix = metrics_is_counter(metric) && !output->openmetrics ? "_total" : "";
    const struct proxy *proxy = object->proxy;
    metrics_print(output, "# HELP deferd_%s%s %s.\n# TYPE deferd_%s%s %s\n", metric->name, suffix,
                  metric->help, metric->name, suffix, metrics_type(metric));
    if (metric->scope == METRIC_PROXY) {
        metrics_sample(output, metric, object);
        return;
    }
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        if (only == NULL || only == &proxy->pools[i]) {
            object->pool = &proxy->pools[i];
            metrics_of_pool(output, metric, object);
        }
    }
}

/* What php-fpm's own ?openmetrics shows, for dashboards that know it. It calls some of these
 * counters, but names them in a way that OpenMetrics does not allow for counters. */
static void metrics_fpm(struct metrics_output *output, const struct status *status,
                        const struct pool *pool)
{
    const struct {
        const char *name;
        const char *type;
        const char *help;
        double value;
    } rows[] = {
        {"up", "gauge", "Could the pool be reached", 1},
        {"start_since", "unknown", "Seconds since deferd's worker process started",
         (double)(time(NULL) - (time_t)status->started)},
        {"accepted_connections", "unknown", "Requests accepted by the pool",
         (double)pool->stats.submitted},
        {"listen_queue", "gauge", "Requests that wait", pool->queue.waiting},
        {"max_listen_queue", "unknown", "The most that ever waited", pool->stats.queue_peak},
        {"listen_queue_length", "gauge", "How many may wait", pool->options->queue_max},
        {"idle_processes", "gauge", "Workers that are free", pool->workers - pool->busy},
        {"active_processes", "gauge", "Workers that are busy", pool->busy},
        {"total_processes", "gauge", "Workers in all", pool->workers},
        {"max_active_processes", "unknown", "The most that ever were busy", pool->stats.busy_peak},
        {"max_children_reached", "unknown", "How often the last free worker became busy",
         (double)pool->stats.all_busy},
        {"slow_requests", "unknown", "Deferred phases longer than defer_slowlog_timeout",
         (double)pool->stats.slow},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        metrics_print(output, "# HELP phpfpm_%s %s.\n# TYPE phpfpm_%s %s\nphpfpm_%s", rows[i].name,
                      rows[i].help, rows[i].name, rows[i].type, rows[i].name);
        metrics_number(output, rows[i].value);
    }
}

int metrics_render(struct buf *out, const struct status *status, const struct pool *pool,
                   int openmetrics)
{
    struct metrics_output output = {.out = out, .openmetrics = openmetrics};
    struct metric_object object = {.status = status, .proxy = status->proxy, .now = uv_hrtime()};
    if (pool != NULL && openmetrics) {
        metrics_fpm(&output, status, pool);
    }
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        metrics_one(&output, &metrics[i], &object, pool);
    }
    if (openmetrics) {
        metrics_print(&output, "# EOF\n");
    }
    return output.failed ? UV_ENOMEM : 0;
}

/* --- the documentation ------------------------------------------------------------------------ */

#define METRICS_OUTCOME_ROW(enumerator, name, meaning)                                             \
    fprintf(out, "| `%s` | %s |\n", name, meaning);
#define METRICS_BOUND_TEXT(ns, text) " " text

void metrics_document(FILE *out)
{
    static const char *const labels[] = {[METRIC_PROXY] = "",
                                         [METRIC_POOL] = "`pool`",
                                         [METRIC_CLASS] = "`pool` `class`",
                                         [METRIC_UPSTREAM] = "`pool` `upstream`"};
    fprintf(out,
            "# Metrics\n\n"
            "<!-- made by `make metrics-doc` from include/deferd/stats.h -->\n\n"
            "Served at `http://ADDR/metrics` with `metrics.listen = ADDR` in `[global]`, for all "
            "pools, and\nat a pool's `status_path` with `?openmetrics`, for that pool. They count "
            "from the start of the\nworker process: after a reload they begin anew, which "
            "Prometheus takes into account.\n\n"
            "The label `upstream` is NAME of `upstream[NAME]`; of an upstream without a name, and "
            "with flags, its\naddress. No label takes its value from a request.\n\n"
            "Examples of alerts and a dashboard are in [monitoring](monitoring).\n\n"
            "| metric | type | labels | what |\n|---|---|---|---|\n");
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric *metric = &metrics[i];
        fprintf(out, "| `deferd_%s%s` | %s | %s%s | %s |\n", metric->name,
                metrics_is_counter(metric) ? "_total" : "", metrics_type(metric),
                labels[metric->scope], metric->kind == METRIC_OUTCOMES ? " `outcome`" : "",
                metric->help);
    }
    fprintf(out, "\nBuckets of the histograms, in seconds:" STATS_BOUNDS(METRICS_BOUND_TEXT) ".\n");
    fprintf(out, "\n## Outcomes\n\n| outcome | a request that |\n|---|---|\n");
    OUTCOMES(METRICS_OUTCOME_ROW)
}
