#include "deferd/logs.h"

#include "deferd/accesslog.h"
#include "deferd/log.h"
#include "deferd/request.h"
#include "deferd/sink.h"
#include "deferd/slowlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How soon to try again what a slow reader did not take. */
#define LOGS_RETRY_MS 50

int logs_open(struct logs *logs, uv_loop_t *loop, struct pool_options *const *options,
              unsigned count, uid_t uid, gid_t gid, char *err, size_t err_size)
{
    uv_timer_init(loop, &logs->retry);
    uv_unref((uv_handle_t *)&logs->retry);
    logs->pools = calloc(count, sizeof(*logs->pools));
    if (logs->pools == NULL) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    logs->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct pool_logs *pool = &logs->pools[i];
        if (options[i]->access_log[0] != '\0' &&
            accesslog_open(&pool->access, options[i], uid, gid, err, err_size) != 0) {
            return -1;
        }
        if (options[i]->slowlog[0] != '\0' && options[i]->slowlog_timeout > 0 &&
            slowlog_open(&pool->slow, loop, options[i], uid, gid, err, err_size) != 0) {
            return -1;
        }
    }
    return 0;
}

static const struct pool_logs *logs_of(const struct logs *logs, const struct request *request)
{
    return &logs->pools[request->pool - logs->proxy->pools];
}

void logs_response_began(void *arg, struct request *request, const uint8_t *head, size_t len)
{
    const struct pool_logs *pool = logs_of(arg, request);
    if (pool->access != NULL) {
        accesslog_response_began(pool->access, request, head, len);
    }
}

void logs_phase_began(void *arg, struct request *request)
{
    const struct pool_logs *pool = logs_of(arg, request);
    if (pool->access != NULL) {
        accesslog_phase_began(pool->access, request);
    }
    if (pool->slow != NULL) {
        slowlog_phase_began(pool->slow, request);
    }
}

void logs_request_ended(void *arg, const struct request *request, enum outcome outcome)
{
    const struct pool_logs *pool = logs_of(arg, request);
    if (pool->access != NULL) {
        accesslog_request_ended(pool->access, request, outcome);
    }
    if (pool->slow != NULL) {
        slowlog_request_ended(pool->slow, request);
    }
}

void logs_reopen(struct logs *logs)
{
    log_reopen();
    for (unsigned i = 0; i < logs->count; i++) {
        if (logs->pools[i].access != NULL) {
            accesslog_reopen(logs->pools[i].access);
        }
        if (logs->pools[i].slow != NULL) {
            slowlog_reopen(logs->pools[i].slow);
        }
    }
}

/* To wake the loop is all it is for: the flush comes before the loop waits again. */
static void logs_on_retry(uv_timer_t *timer)
{
    (void)timer;
}

void logs_flush(struct logs *logs)
{
    size_t waiting = 0;
    for (unsigned i = 0; i < logs->count; i++) {
        if (logs->pools[i].access != NULL) {
            waiting += accesslog_flush(logs->pools[i].access);
        }
        if (logs->pools[i].slow != NULL) {
            waiting += slowlog_flush(logs->pools[i].slow);
        }
    }
    waiting += log_flush(); /* last: the others may have something to say */
    if (waiting > 0) {
        uv_timer_start(&logs->retry, logs_on_retry, LOGS_RETRY_MS, 0);
    }
}

void logs_close(struct logs *logs)
{
    for (unsigned i = 0; i < logs->count; i++) {
        if (logs->pools[i].access != NULL) {
            accesslog_close(logs->pools[i].access);
        }
        if (logs->pools[i].slow != NULL) {
            slowlog_close(logs->pools[i].slow);
        }
        logs->pools[i] = (struct pool_logs){0};
    }
    logs->count = 0;
}

void logs_free(struct logs *logs)
{
    free(logs->pools);
    *logs = (struct logs){0};
}

static void logs_make_file(const char *path, uid_t uid, gid_t gid)
{
    int rc = path[0] != '\0' ? sink_make_file(path, uid, gid) : 0;
    if (rc != 0) {
        log_line(LOG_ERROR, "cannot open %s: %s", path, strerror(-rc));
    }
}

void logs_make_files(struct pool_options *const *options, unsigned count, uid_t uid, gid_t gid)
{
    for (unsigned i = 0; i < count; i++) {
        logs_make_file(options[i]->access_log, uid, gid);
        if (options[i]->slowlog_timeout > 0) {
            logs_make_file(options[i]->slowlog, uid, gid);
        }
    }
}
