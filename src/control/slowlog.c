/*
 * Happy path: phases begin in order, so one timer, armed for the oldest that was not logged yet, is
 * enough for all; it may fire for nothing when that one has ended.
 */
#include "deferd/slowlog.h"

#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/request.h"
#include "deferd/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slowlog {
    const struct pool_options *options; /* borrowed */
    struct request *next;               /* the oldest phase that was not logged; NULL if there is
                                           none */
    uv_timer_t timer;
    struct sink sink;
};

static void slowlog_arm(struct slowlog *log);

int slowlog_open(struct slowlog **out, uv_loop_t *loop, const struct pool_options *options,
                 uid_t uid, gid_t gid, char *err, size_t err_size)
{
    struct slowlog *log = calloc(1, sizeof(*log));
    if (log == NULL) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    log->options = options;
    log->sink.to.fd = -1;
    int rc = sink_open(&log->sink, options->slowlog, uid, gid);
    if (rc != 0) {
        snprintf(err, err_size, "[%s] slowlog = %s: %s", options->name, options->slowlog,
                 strerror(-rc));
        free(log);
        return -1;
    }
    uv_timer_init(loop, &log->timer);
    uv_unref((uv_handle_t *)&log->timer); /* a phase is what keeps the loop alive */
    log->timer.data = log;
    *out = log;
    return 0;
}

/* The task that runs, or NULL. index counts from 1. */
static const struct task *slowlog_task(const struct deferral *deferral, size_t *index)
{
    for (size_t i = 0; i < deferral->named; i++) {
        if (deferral->tasks[i]->state == TASK_RUNNING) {
            *index = i + 1;
            return deferral->tasks[i];
        }
    }
    *index = 0;
    return NULL;
}

static void slowlog_put(struct slowlog *log, const struct request *request, uint64_t now)
{
    char stamp[40];
    char method[64];
    char uri[HEAD_URI_KEPT * 2];
    char name[4 * DEFERRAL_NAME_MAX + 1] = "-";
    char pid[24] = "-";
    char age[24] = "-";
    size_t index;
    const struct deferral *deferral = &request->deferral;
    const struct task *task = slowlog_task(deferral, &index);
    char *line = sink_room(&log->sink);
    if (line == NULL) {
        return;
    }
    if (deferral->pid != 0) {
        snprintf(pid, sizeof(pid), "%lld", deferral->pid);
    }
    if (task != NULL) {
        log_escape(name, sizeof(name), task->name, strlen(task->name));
        snprintf(age, sizeof(age), "%llu",
                 (unsigned long long)(uv_now(log->timer.loop) - task->started));
    }
    log_stamp(stamp, sizeof(stamp));
    log_escape_word(method, sizeof(method), request->head.method.data, request->head.method.len);
    log_escape(uri, sizeof(uri), request->head.uri.data, request->head.uri.len);
    int n = snprintf(line, SINK_LINE_MAX,
                     "%s pool=%s request=%llu pid=%s method=%s uri=\"%s\" deferred_ms=%.3f "
                     "task=%zu/%zu name=\"%s\" task_ms=%s done=%zu failed=%zu skipped=%zu\n",
                     stamp, log->options->name, (unsigned long long)request->id, pid,
                     method[0] != '\0' ? method : "-", uri, (double)(now - request->deferred) / 1e6,
                     index, deferral->total, name, age, deferral->done, deferral->failed,
                     deferral->skipped);
    sink_put(&log->sink, (size_t)n);
}

static void slowlog_on_timer(uv_timer_t *timer)
{
    struct slowlog *log = timer->data;
    uint64_t now = uv_hrtime();
    uint64_t timeout = log->options->slowlog_timeout * 1000000;
    while (log->next != NULL && log->next->deferred + timeout <= now) {
        log->next->pool->stats.slow++;
        slowlog_put(log, log->next, now);
        log->next = log->next->phase_next;
    }
    slowlog_arm(log);
}

static void slowlog_arm(struct slowlog *log)
{
    uint64_t now = uv_hrtime();
    if (log->next == NULL || uv_is_active((uv_handle_t *)&log->timer)) {
        return;
    }
    uint64_t at = log->next->deferred + log->options->slowlog_timeout * 1000000;
    uv_timer_start(&log->timer, slowlog_on_timer, at > now ? (at - now) / 1000000 + 1 : 0, 0);
}

void slowlog_phase_began(struct slowlog *log, struct request *request)
{
    if (log->next == NULL) {
        log->next = request;
    }
    slowlog_arm(log);
}

void slowlog_request_ended(struct slowlog *log, const struct request *request)
{
    if (log->next == request) {
        log->next = request->phase_next;
    }
}

void slowlog_reopen(struct slowlog *log)
{
    int rc = sink_reopen(&log->sink);
    if (rc != 0) {
        log_line(LOG_ERROR, "[%s] cannot open %s again: %s; the slow log goes on in the old file",
                 log->options->name, log->options->slowlog, strerror(-rc));
    }
}

size_t slowlog_flush(struct slowlog *log)
{
    size_t waiting = sink_flush(&log->sink);
    uint64_t dropped = sink_dropped(&log->sink);
    if (dropped > 0) {
        log_line(LOG_WARNING,
                 "[%s] %llu line(s) of the slow log were dropped, for it could not be written",
                 log->options->name, (unsigned long long)dropped);
    }
    return waiting;
}

static void slowlog_on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void slowlog_close(struct slowlog *log)
{
    sink_close(&log->sink);
    uv_close((uv_handle_t *)&log->timer, slowlog_on_closed);
}
