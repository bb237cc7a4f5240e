/*
 * Happy path: the header block is complete in the first piece, is read for its status, and goes on
 * with all that follows, in records of the client's request id, until the marker or END_REQUEST.
 * Failure modes: a header block that never ends, or a marker before its end: 502, for nothing has
 * gone to the client yet.
 */
#include "deferd/response.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/stop.h"

#include <string.h>

/* The longest header block kept back; nginx itself takes far less (fastcgi_buffer_size). */
#define RESPONSE_HEAD_MAX 65536

static void response_emit(struct request *request, const uint8_t *data, size_t len,
                          struct gather *down)
{
    while (len > 0) {
        size_t n = len < FCGI_MAX_LENGTH ? len : FCGI_MAX_LENGTH;
        gather_record(down, FCGI_STDOUT, request->fcgi_id, data, n);
        data += n;
        len -= n;
    }
}

/* The application broke the rules before anything of its response went out. */
static int response_refuse(struct request *request, const char *why, struct gather *down)
{
    log_line(LOG_ERROR, "request %llu: %s; answered 502", (unsigned long long)request->id, why);
    if (client_flush(request->client, down) == 0) {
        request_refuse(request, 502, "The application sent a response that is no response.", 0,
                       OUTCOME_UPSTREAM_FAILED);
    }
    return -1;
}

/* A part of the response while its header block is not complete. */
static int response_head(struct request *request, const uint8_t *data, size_t len,
                         struct gather *down)
{
    const struct proxy_events *events = &request->pool->proxy->events;
    struct buf *held = &request->held;
    if (held->len > 0) {
        if (buf_append(held, data, len) != 0) {
            return response_refuse(request, "no memory for the response header", down);
        }
        data = held->data;
        len = held->len;
    }
    size_t head = cgi_head_scan(&request->cgi, data, len);
    if (head > 0) {
        request->cgi_done = 1;
        request->status = cgi_head_status(&request->cgi);
        if (events->response_began != NULL) {
            events->response_began(events->arg, request, data, head);
        }
        response_emit(request, data, request->head.is_head ? head : len, down);
        if (held->len > 0) {
            gather_flush(down); /* before held goes; the error stays in down */
            buf_free(held);
        }
        if (request->head.is_head) {
            request_complete(request, down);
        }
        return 0;
    }
    if (len > RESPONSE_HEAD_MAX) {
        return response_refuse(request, "the response header has no end within 64 KiB", down);
    }
    if (held->len == 0 && buf_append(held, data, len) != 0) {
        return response_refuse(request, "no memory for the response header", down);
    }
    return 0;
}

static int response_pass(struct request *request, const uint8_t *data, size_t len,
                         struct gather *down)
{
    if (len == 0 || request->state != REQUEST_RUNNING) {
        return 0; /* the rest of what follows HEAD's header block */
    }
    if (!request->cgi_done) {
        return response_head(request, data, len, down);
    }
    response_emit(request, data, len, down);
    return 0;
}

static void response_stray(void *arg, const char *line, size_t len)
{
    char text[1100];
    const struct request *request = arg;
    if (log_enabled(LOG_DEBUG)) {
        log_line(LOG_DEBUG, "request %llu: stray output in the deferred phase: \"%s\"",
                 (unsigned long long)request->id, log_escape(text, sizeof(text), line, len));
    }
}

static void response_task_failed(void *arg, const char *task, const char *error)
{
    char name[4 * DEFERRAL_NAME_MAX + 1];
    char text[2048];
    const struct request *request = arg;
    log_line(LOG_WARNING, "request %llu: deferred task \"%s\" failed: %s",
             (unsigned long long)request->id, log_escape(name, sizeof(name), task, strlen(task)),
             log_escape(text, sizeof(text), error, strlen(error)));
}

static void response_report(struct request *request, const uint8_t *data, size_t len)
{
    const struct deferral_events events = {response_stray, response_task_failed, request,
                                           uv_now(request->pool->loop)};
    long long pid = request->deferral.pid;
    deferral_feed(&request->deferral, data, len, &events);
    if (request->deferral.pid != pid) {
        stop_know_worker(request);
    }
}

void response_end_reports(struct request *request)
{
    const struct deferral_events events = {response_stray, response_task_failed, request,
                                           uv_now(request->pool->loop)};
    deferral_end(&request->deferral, &events);
}

void response_stdout(struct request *request, const uint8_t *data, size_t len, struct gather *down)
{
    struct marker_scan scan;

    request->heard = 1;
    if (request->marker_seen) {
        response_report(request, data, len);
        return;
    }
    marker_scan(&request->marker, data, len, &scan);
    if (response_pass(request, request->marker.bytes, scan.replay, down) != 0 ||
        response_pass(request, data, scan.pass, down) != 0 || !scan.found) {
        return;
    }
    request->marker_seen = 1;
    if (!request->cgi_done) {
        response_refuse(request,
                        "the end-of-response marker came before the response header was complete",
                        down);
        return;
    }
    if (request->state == REQUEST_RUNNING) {
        request_complete(request, down);
    }
    if (scan.used < len) {
        response_report(request, data + scan.used, len - scan.used);
    }
}

void response_stderr(struct request *request, const uint8_t *data, size_t len, struct gather *down)
{
    char text[2048];
    if (request->state != REQUEST_RUNNING) {
        while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r')) {
            len--;
        }
        log_line(LOG_WARNING, "request %llu: stderr in the deferred phase: \"%s\"",
                 (unsigned long long)request->id, log_escape(text, sizeof(text), data, len));
        return;
    }
    request->heard = 1;
    gather_record(down, FCGI_STDERR, request->fcgi_id, data, len);
}

void response_end(struct request *request, struct gather *down)
{
    response_emit(request, request->marker.bytes, request->marker.matched, down);
    request->marker.matched = 0;
}
