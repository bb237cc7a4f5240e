#include "deferd/snapshot.h"

#include "deferd/phase.h"
#include "deferd/pool.h"
#include "deferd/request.h"
#include "deferd/window.h"

#include <string.h>
#include <time.h>
#include <utlist.h>
#include <uv.h>

#ifndef DEFERD_VERSION
#define DEFERD_VERSION "unknown"
#endif

/* How much of a URI is shown. */
#define SNAPSHOT_URI_MAX 1024

/* Rates are of this many whole slots before the current one. */
#define SNAPSHOT_RATE_SLOTS 2

/* A snapshot that is being made. Without memory jansson's setters fail and change nothing: what is
 * missing then is seen from failed. */
struct snapshot {
    const struct status *status;
    const struct pool *pool;
    uint64_t now; /* uv_hrtime() */
    int failed;
};

static void snapshot_set(struct snapshot *snapshot, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) {
        snapshot->failed = 1;
    }
}

static void snapshot_add(struct snapshot *snapshot, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0) {
        snapshot->failed = 1;
    }
}

static void snapshot_number(struct snapshot *snapshot, json_t *object, const char *key,
                            uint64_t value)
{
    snapshot_set(snapshot, object, key, json_integer((json_int_t)value));
}

/* Three digits behind the point are enough for people, and short. */
static json_t *snapshot_real(double value)
{
    return json_real((double)(int64_t)(value * 1000 + 0.5) / 1000);
}

/* Bytes that a peer wrote. */
static json_t *snapshot_bytes(const void *data, size_t len)
{
    return phase_text(len > 0 ? data : "", len < SNAPSHOT_URI_MAX ? len : SNAPSHOT_URI_MAX);
}

static json_t *snapshot_string(const char *text)
{
    return snapshot_bytes(text, strlen(text));
}

/* --- the pool itself, under php-fpm's names --------------------------------------------------- */

static void snapshot_fpm(struct snapshot *s, json_t *top)
{
    const struct pool *pool = s->pool;
    uint64_t slow = pool->stats.slow;
    time_t started = (time_t)s->status->started;
    snapshot_set(s, top, "pool", json_string(pool->options->name));
    snapshot_set(s, top, "process manager", json_string("static"));
    snapshot_number(s, top, "start time", (uint64_t)started);
    snapshot_number(s, top, "start since", (uint64_t)(time(NULL) - started));
    snapshot_number(s, top, "accepted conn", pool->stats.submitted);
    snapshot_number(s, top, "listen queue", pool->queue.waiting);
    snapshot_number(s, top, "max listen queue", pool->stats.queue_peak);
    snapshot_number(s, top, "listen queue len", pool->options->queue_max);
    snapshot_number(s, top, "idle processes", pool->workers - pool->busy);
    snapshot_number(s, top, "active processes", pool->busy);
    snapshot_number(s, top, "total processes", pool->workers);
    snapshot_number(s, top, "max active processes", pool->stats.busy_peak);
    snapshot_number(s, top, "max children reached", pool->stats.all_busy);
    snapshot_number(s, top, "slow requests", slow);
}

/* --- and under deferd's own ------------------------------------------------------------------- */

/* Percentiles in milliseconds over all slots there are. */
static json_t *snapshot_percentiles(struct snapshot *s, enum window_time which)
{
    struct window_sum sum = {0};
    json_t *object = json_object();
    for (unsigned back = 0; back < WINDOW_SLOTS; back++) {
        window_collect(&sum, window_back(&s->pool->window, s->now, back), which);
    }
    snapshot_number(s, object, "count", sum.count);
    snapshot_set(s, object, "p50", snapshot_real(window_percentile(&sum, 0.5)));
    snapshot_set(s, object, "p95", snapshot_real(window_percentile(&sum, 0.95)));
    snapshot_set(s, object, "p99", snapshot_real(window_percentile(&sum, 0.99)));
    return object;
}

/* Of the last whole slots: the current one has only begun. */
static void snapshot_rates(struct snapshot *s, json_t *top)
{
    double requests = 0;
    double failed = 0;
    double seconds = (double)SNAPSHOT_RATE_SLOTS * WINDOW_SLOT_NS / 1e9;
    for (unsigned back = 1; back <= SNAPSHOT_RATE_SLOTS; back++) {
        const struct window_slot *slot = window_back(&s->pool->window, s->now, back);
        requests += slot != NULL ? slot->requests : 0;
        failed += slot != NULL ? slot->failed : 0;
    }
    snapshot_set(s, top, "requests per second", snapshot_real(requests / seconds));
    snapshot_set(s, top, "failures per second", snapshot_real(failed / seconds));
}

static json_t *snapshot_outcomes(struct snapshot *s)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        enum outcome outcome = (enum outcome)i;
        snapshot_number(s, object, outcome_name(outcome), stats_outcome(s->pool, outcome));
    }
    return object;
}

static json_t *snapshot_task_counts(struct snapshot *s)
{
    json_t *object = json_object();
    snapshot_number(s, object, "done", s->pool->stats.tasks_done);
    snapshot_number(s, object, "failed", s->pool->stats.tasks_failed);
    snapshot_number(s, object, "skipped", s->pool->stats.tasks_skipped);
    snapshot_number(s, object, "unfinished", s->pool->stats.tasks_unfinished);
    return object;
}

static json_t *snapshot_classes(struct snapshot *s)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < s->pool->queue.count; i++) {
        const struct queue_class *class = &s->pool->queue.classes[i];
        json_t *object = json_object();
        snapshot_set(s, object, "name", json_string(class->options->name));
        snapshot_number(s, object, "listen queue", class->length);
        snapshot_number(s, object, "active processes", class->busy);
        snapshot_number(s, object, "max workers", class->max_workers);
        snapshot_number(s, object, "priority", class->options->priority);
        snapshot_add(s, array, object);
    }
    return array;
}

static json_t *snapshot_upstreams(struct snapshot *s)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < s->pool->options->upstream_count; i++) {
        const struct upstream *upstream = &s->pool->upstreams[i];
        json_t *object = json_object();
        snapshot_set(s, object, "name", snapshot_string(upstream_name(upstream->options)));
        snapshot_set(s, object, "address", snapshot_string(upstream->options->address.text));
        snapshot_set(s, object, "up", json_boolean(upstream_is_up(upstream)));
        snapshot_number(s, object, "active processes", upstream->busy);
        snapshot_number(s, object, "max workers", upstream->options->max_workers);
        snapshot_number(s, object, "kept connections", upstream->kept);
        snapshot_number(s, object, "requests", upstream->stats.requests);
        snapshot_number(s, object, "resent", upstream->stats.resent);
        snapshot_number(s, object, "connect failures", upstream->stats.failures);
        snapshot_add(s, array, object);
    }
    return array;
}

static void snapshot_own(struct snapshot *s, json_t *top)
{
    const struct pool *pool = s->pool;
    snapshot_set(s, top, "version", json_string(DEFERD_VERSION));
    snapshot_number(s, top, "connections", pool->stats.connections);
    snapshot_number(s, top, "deferred processes", pool->stats.phases);
    snapshot_number(s, top, "held processes", stats_held(pool));
    snapshot_number(s, top, "max deferred processes", pool->stats.marked_peak);
    snapshot_number(s, top, "deferred processes limit", pool->places);
    snapshot_set(s, top, "oldest request in queue", snapshot_real(stats_queue_age(pool, s->now)));
    snapshot_rates(s, top);
    snapshot_set(s, top, "queue time", snapshot_percentiles(s, WINDOW_QUEUE));
    snapshot_set(s, top, "response time", snapshot_percentiles(s, WINDOW_RESPONSE));
    snapshot_set(s, top, "deferred time", snapshot_percentiles(s, WINDOW_DEFERRED));
    snapshot_set(s, top, "outcomes", snapshot_outcomes(s));
    snapshot_set(s, top, "tasks", snapshot_task_counts(s));
    snapshot_set(s, top, "classes", snapshot_classes(s));
    snapshot_set(s, top, "upstreams", snapshot_upstreams(s));
}

/* --- processes: the workers that requests hold ------------------------------------------------ */

static const char *snapshot_state(const struct request *request)
{
    switch (request->state) {
    case REQUEST_CONNECTING:
        return "Connecting";
    case REQUEST_RUNNING:
        return "Running";
    case REQUEST_HELD:
        return "Held";
    case REQUEST_DEFERRED:
        return "Deferred";
    default:
        return "Queued";
    }
}

/* What is known of one task. */
static json_t *snapshot_task(struct snapshot *s, const struct task *task)
{
    json_t *object = json_object();
    snapshot_set(s, object, "name", snapshot_string(task->name));
    snapshot_set(s, object, "state", json_string(phase_task_state(task->state)));
    if (task->ratio >= 0) {
        snapshot_set(s, object, "ratio", snapshot_real((double)task->ratio));
    }
    if (task->text != NULL) {
        snapshot_set(s, object, "text", snapshot_string(task->text));
    }
    if (task->error != NULL) {
        snapshot_set(s, object, "error", snapshot_string(task->error));
    }
    return object;
}

/* Which of many tasks to show: those around the first that has not ended. */
static size_t snapshot_first_task(const struct deferral *deferral)
{
    size_t at = 0;
    while (at < deferral->named && deferral->tasks[at]->state > TASK_RUNNING) {
        at++;
    }
    size_t before = SNAPSHOT_TASKS / 2;
    size_t last = deferral->named > SNAPSHOT_TASKS ? deferral->named - SNAPSHOT_TASKS : 0;
    size_t first = at > before ? at - before : 0;
    return first < last ? first : last;
}

static void snapshot_phase(struct snapshot *s, json_t *row, const struct deferral *deferral)
{
    json_t *tasks = json_array();
    size_t first = snapshot_first_task(deferral);
    for (size_t i = first; i < deferral->named && i < first + SNAPSHOT_TASKS; i++) {
        snapshot_add(s, tasks, snapshot_task(s, deferral->tasks[i]));
    }
    snapshot_number(s, row, "tasks total", deferral->total);
    snapshot_number(s, row, "tasks ended", deferral->done + deferral->failed + deferral->skipped);
    snapshot_number(s, row, "tasks failed", deferral->failed);
    snapshot_number(s, row, "first task", first);
    snapshot_set(s, row, "tasks", tasks);
}

static uint64_t snapshot_us(const struct snapshot *s, uint64_t from)
{
    return from != 0 && s->now > from ? (s->now - from) / 1000 : 0;
}

static json_t *snapshot_process(struct snapshot *s, const struct request *request)
{
    const struct head *head = &request->head;
    json_t *row = json_object();
    snapshot_number(s, row, "id", request->id);
    snapshot_number(s, row, "pid", (uint64_t)request->deferral.pid);
    snapshot_set(s, row, "state", json_string(snapshot_state(request)));
    snapshot_number(s, row, "request duration", snapshot_us(s, request->submitted));
    snapshot_set(s, row, "request method", snapshot_bytes(head->method.data, head->method.len));
    snapshot_set(s, row, "request uri", snapshot_bytes(head->uri.data, head->uri.len));
    snapshot_number(s, row, "content length",
                    head->content_length > 0 ? (uint64_t)head->content_length : 0);
    snapshot_set(s, row, "class", json_string(request->class->options->name));
    snapshot_set(s, row, "upstream", snapshot_string(upstream_name(request->upstream->options)));
    snapshot_number(s, row, "deferred duration", snapshot_us(s, request->deferred));
    snapshot_phase(s, row, &request->deferral);
    return row;
}

/* Deferred phases first, for they are what one looks for. */
static void snapshot_processes(struct snapshot *s, json_t *top)
{
    json_t *array = json_array();
    const struct request *request = NULL;
    unsigned listed = 0;
    DL_FOREACH2(s->pool->phases, request, phase_next)
    {
        if (listed < SNAPSHOT_PROCESSES) {
            snapshot_add(s, array, snapshot_process(s, request));
            listed++;
        }
    }
    DL_FOREACH(s->pool->requests, request)
    {
        if (listed < SNAPSHOT_PROCESSES && request->upstream != NULL && !request->in_phase) {
            snapshot_add(s, array, snapshot_process(s, request));
            listed++;
        }
    }
    snapshot_set(s, top, "processes", array);
    snapshot_number(s, top, "processes omitted", s->pool->busy - listed);
}

/* --- what was --------------------------------------------------------------------------------- */

static json_t *snapshot_failure(struct snapshot *s, const struct failure *failure)
{
    json_t *row = json_object();
    snapshot_number(s, row, "id", failure->id);
    snapshot_set(s, row, "time", snapshot_real((double)failure->time / 1000));
    snapshot_set(s, row, "outcome", json_string(outcome_name(failure->outcome)));
    snapshot_number(s, row, "status", (uint64_t)failure->status);
    snapshot_set(s, row, "class", json_string(failure->class != NULL ? failure->class : "-"));
    snapshot_set(s, row, "request method", snapshot_bytes(failure->method, failure->method_len));
    snapshot_set(s, row, "request uri", snapshot_bytes(failure->uri, failure->uri_len));
    snapshot_set(s, row, "task", snapshot_string(failure->task));
    snapshot_set(s, row, "error", snapshot_string(failure->error));
    snapshot_set(s, row, "response ms", snapshot_real(failure->response_ms));
    snapshot_set(s, row, "deferred ms", snapshot_real(failure->deferred_ms));
    return row;
}

static json_t *snapshot_failures(struct snapshot *s)
{
    const struct failures *failures = &s->status->failures[s->pool - s->pool->proxy->pools];
    const struct failure *failure;
    json_t *array = json_array();
    for (unsigned i = 0; (failure = failures_back(failures, i)) != NULL; i++) {
        snapshot_add(s, array, snapshot_failure(s, failure));
    }
    return array;
}

static json_t *snapshot_series(struct snapshot *s, size_t offset)
{
    json_t *array = json_array();
    for (unsigned back = WINDOW_SLOTS; back-- > 0;) {
        const struct window_slot *slot = window_back(&s->pool->window, s->now, back);
        uint32_t value = 0;
        if (slot != NULL) {
            memcpy(&value, (const char *)slot + offset, sizeof(value));
        }
        snapshot_add(s, array, json_integer(value));
    }
    return array;
}

static json_t *snapshot_time_series(struct snapshot *s, enum window_time which, double share)
{
    json_t *array = json_array();
    for (unsigned back = WINDOW_SLOTS; back-- > 0;) {
        struct window_sum sum = {0};
        window_collect(&sum, window_back(&s->pool->window, s->now, back), which);
        snapshot_add(s, array,
                     sum.count > 0 ? snapshot_real(window_percentile(&sum, share)) : json_null());
    }
    return array;
}

/* The oldest first; the last one is the current slot, which is not over. */
static json_t *snapshot_history(struct snapshot *s)
{
    static const struct {
        const char *name;
        enum window_time which;
    } times[] = {
        {"queue", WINDOW_QUEUE}, {"response", WINDOW_RESPONSE}, {"deferred", WINDOW_DEFERRED}};
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}};
    char key[32];
    json_t *object = json_object();
    snapshot_number(s, object, "interval", WINDOW_SLOT_NS / 1000000000);
    snapshot_set(s, object, "elapsed", snapshot_real((double)(s->now % WINDOW_SLOT_NS) / 1e9));
    snapshot_set(s, object, "requests", snapshot_series(s, offsetof(struct window_slot, requests)));
    snapshot_set(s, object, "failed", snapshot_series(s, offsetof(struct window_slot, failed)));
    snapshot_set(s, object, "waiting", snapshot_series(s, offsetof(struct window_slot, waiting)));
    snapshot_set(s, object, "busy", snapshot_series(s, offsetof(struct window_slot, busy)));
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        for (size_t j = 0; j < sizeof(shares) / sizeof(shares[0]); j++) {
            snprintf(key, sizeof(key), "%s %s", times[i].name, shares[j].name);
            snapshot_set(s, object, key, snapshot_time_series(s, times[i].which, shares[j].share));
        }
    }
    return object;
}

json_t *snapshot_make(const struct status *status, const struct pool *pool, int full)
{
    struct snapshot s = {.status = status, .pool = pool, .now = uv_hrtime()};
    json_t *top = json_object();
    snapshot_fpm(&s, top);
    snapshot_own(&s, top);
    if (full) {
        snapshot_processes(&s, top);
        snapshot_set(&s, top, "failures", snapshot_failures(&s));
        snapshot_set(&s, top, "history", snapshot_history(&s));
    }
    if (s.failed) {
        json_decref(top);
        return NULL;
    }
    return top;
}
