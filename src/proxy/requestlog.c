#include "deferd/requestlog.h"

#include "deferd/log.h"
#include "deferd/request.h"

#include <stdio.h>

/* Of the names of a request's tasks, as many bytes are shown. */
#define REQUESTLOG_TASKS 1024

/* Milliseconds with three places, from uv_hrtime() to uv_hrtime(). In whole numbers, for each
 * request writes three of them. */
struct requestlog_ms {
    char text[24];
};

static struct requestlog_ms requestlog_ms(uint64_t from, uint64_t to)
{
    struct requestlog_ms out;
    unsigned long long us = from != 0 && to > from ? (to - from + 500) / 1000 : 0;
    snprintf(out.text, sizeof(out.text), "%llu.%03llu", us / 1000, us % 1000);
    return out;
}

/* tasks="NAME, NAME" with a blank in front; nothing if none was announced. */
static void requestlog_tasks(char *out, size_t size, const struct deferral *deferral)
{
    char names[REQUESTLOG_TASKS];
    char escaped[REQUESTLOG_TASKS * 2];
    size_t len = deferral->named > 0 ? deferral_names(deferral, names, sizeof(names)) : 0;
    out[0] = '\0';
    if (len > 0) {
        log_escape(escaped, sizeof(escaped), names, len);
        snprintf(out, size, " tasks=\"%s\"", escaped);
    }
}

void requestlog_put(const struct request *request, enum outcome outcome)
{
    char method[64];
    char uri[HEAD_URI_KEPT * 2];
    char status[8] = "-";
    char deferred[24] = "-";
    char pid[24] = "-";
    char tasks[sizeof(" tasks=\"\"") + (size_t)REQUESTLOG_TASKS * 2];
    const struct deferral *deferral = &request->deferral;
    uint64_t now = request->ended;
    uint64_t answered = request->answered != 0 ? request->answered : now;
    uint64_t dispatched = request->dispatched != 0 ? request->dispatched : answered;

    if (!log_enabled(LOG_NOTICE)) {
        return;
    }
    if (request->status != 0) {
        snprintf(status, sizeof(status), "%d", request->status);
    }
    if (request->deferred != 0) {
        snprintf(deferred, sizeof(deferred), "%s", requestlog_ms(request->deferred, now).text);
    }
    if (deferral->pid != 0) {
        snprintf(pid, sizeof(pid), "%lld", deferral->pid);
    }
    requestlog_tasks(tasks, sizeof(tasks), deferral);
    log_escape_word(method, sizeof(method), request->head.method.data, request->head.method.len);
    log_escape(uri, sizeof(uri), request->head.uri.data, request->head.uri.len);
    log_line(LOG_NOTICE,
             "request=%llu method=%s uri=\"%s\" status=%s queue_ms=%s response_ms=%s "
             "deferred_ms=%s done=%zu failed=%zu skipped=%zu outcome=%s pid=%s%s",
             (unsigned long long)request->id, method[0] != '\0' ? method : "-", uri, status,
             requestlog_ms(request->submitted, dispatched).text,
             requestlog_ms(request->submitted, answered).text, deferred, deferral->done,
             deferral->failed, deferral->skipped, outcome_name(outcome), pid, tasks);
}
