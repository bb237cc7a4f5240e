#include "deferd/request.h"

#include "deferd/client.h"
#include "deferd/conn.h"
#include "deferd/log.h"
#include "deferd/page.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/queue.h"
#include "deferd/requestlog.h"
#include "deferd/response.h"
#include "deferd/stop.h"
#include "deferd/token.h"
#include "deferd/upstream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a request may be sent again after its connection was lost: provably not run, or without
 * side effects. */
#define REQUEST_TRIES_UNRUN 8
#define REQUEST_TRIES_SAFE  1

static const char *const request_state_names[] = {
    [REQUEST_READING] = "reading",
    [REQUEST_QUEUED] = "queued",
    [REQUEST_CONNECTING] = "connecting",
    [REQUEST_RUNNING] = "running",
    [REQUEST_HELD] = "held",
    [REQUEST_DEFERRED] = "deferred",
    [REQUEST_ANSWERING] = "answering",
    [REQUEST_ENDED] = "ended",
};

#define REQUEST_TO(state) (1u << (state))

/* The states that may follow each state. */
static const unsigned request_ways[] = {
    [REQUEST_READING] = REQUEST_TO(REQUEST_QUEUED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_QUEUED] =
        REQUEST_TO(REQUEST_CONNECTING) | REQUEST_TO(REQUEST_ANSWERING) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_CONNECTING] =
        REQUEST_TO(REQUEST_RUNNING) | REQUEST_TO(REQUEST_QUEUED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_RUNNING] = REQUEST_TO(REQUEST_QUEUED) | REQUEST_TO(REQUEST_HELD) |
                        REQUEST_TO(REQUEST_DEFERRED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_HELD] = REQUEST_TO(REQUEST_DEFERRED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_DEFERRED] = REQUEST_TO(REQUEST_ENDED),
    [REQUEST_ANSWERING] = REQUEST_TO(REQUEST_ENDED),
    [REQUEST_ENDED] = 0,
};

static void request_set_state(struct request *request, enum request_state state)
{
    if ((request_ways[request->state] & REQUEST_TO(state)) == 0) {
        log_line(LOG_ALERT, "request %llu: %s to %s is no way; please report this",
                 (unsigned long long)request->id, request_state_names[request->state],
                 request_state_names[state]);
        assert(0); /* in debug builds: make asan */
    }
    if (log_enabled(LOG_DEBUG)) {
        log_line(LOG_DEBUG, "request %llu: %s to %s", (unsigned long long)request->id,
                 request_state_names[request->state], request_state_names[state]);
    }
    request->state = state;
}

int request_in_phase(const struct request *request)
{
    return request->state == REQUEST_HELD || request->state == REQUEST_DEFERRED;
}

/* --- the way in ------------------------------------------------------------------------------- */

struct request *request_open(struct pool *pool, struct client *client, uint16_t fcgi_id)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    request->state = REQUEST_READING;
    request->id = proxy_number(pool->proxy);
    request->fcgi_id = fcgi_id;
    request->pool = pool;
    request->client = client;
    return request;
}

int request_params_end(struct request *request)
{
    char token[TOKEN_LEN + 1];
    if (token_make(token) != 0) {
        return UV_EIO;
    }
    char path[HEAD_STOP_MAX + 1];
    if (stop_name(request, path, sizeof(path)) != 0) {
        return UV_EIO;
    }
    request->head.stop = path;
    int rc = head_end(&request->head, token);
    if (request->head.stop == NULL) {
        request->stop_key[0] = '\0'; /* the application does not know of it */
    }
    request->head.stop = NULL;
    if (rc != 0) {
        return rc;
    }
    marker_init(&request->marker, token);
    request->submitted = uv_hrtime();
    request_set_state(request, REQUEST_QUEUED);
    return 0;
}

int request_takes_body(const struct request *request)
{
    if (request->state != REQUEST_RUNNING) {
        return 0;
    }
    /* A barrier in front of a body is waited for: what has not gone can be sent again. */
    return request->head_sent ? !conn_in_front(request->conn)
                              : request->upstream->barrier != UPSTREAM_BARRIER_YES;
}

/* Begins to write: barriers and KEEP_CONN as far as this php-fpm and this request allow. */
static void request_put_head(struct request *request, struct gather *up)
{
    struct conn *conn = request->conn;
    if (request->upstream->barrier == UPSTREAM_BARRIER_YES) {
        /* With a body, never: its leftovers could be run as requests (fact 7). */
        conn->kept =
            request->stdin_done && request->body == 0 &&
            (request->head.content_length == HEAD_LENGTH_NONE || request->head.content_length == 0);
        conn->behind = conn->kept;
        /* Without side effects it may be sent again once more anyway; the next loss must be one
         * that proves that it was not run, and those come in numbers when php-fpm restarts. */
        if (!conn->kept || !request->head.is_safe || request->tries > 0) {
            conn_put_front(conn, up);
        }
    }
    head_keep_conn(&request->head, conn->kept);
    gather_bytes(up, request->head.records.data, request->head.records.len);
    request->head_sent = 1;
}

/* Has the collected bytes go to the upstream connection, and the head before them. */
static void request_aim(struct request *request, struct gather *up)
{
    up->to = request->conn->broken ? NULL : &request->conn->stream;
    if (!request->head_sent) {
        request_put_head(request, up);
    }
}

void request_body(struct request *request, const uint8_t *data, size_t len, struct gather *up)
{
    request_aim(request, up);
    gather_record(up, FCGI_STDIN, FCGI_UPSTREAM_ID, data, len);
}

void request_flush(struct request *request, struct gather *up)
{
    struct conn *conn = request->conn;
    request_aim(request, up);
    if (request->stdin_done && !request->stdin_sent && !conn_in_front(conn)) {
        gather_record(up, FCGI_STDIN, FCGI_UPSTREAM_ID, NULL, 0);
        request->stdin_sent = 1;
        if (conn->kept) {
            conn_put_barrier(up);
        }
    }
    if (gather_flush(up) != 0) {
        /* The peer takes no more. What it had to say may still be there to read, and if not, the
         * read says so. */
        conn->broken = 1;
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

/* The last step of each way: logs the request's line, gives its slot back, frees it. */
static void request_close(struct request *request, enum outcome outcome)
{
    struct pool *pool = request->pool;
    const struct proxy_events *events = &pool->proxy->events;

    if (request->head.done || request->status != 0) {
        request->ended = uv_hrtime();
        stats_request_ended(pool, request, outcome);
        if (pool->options->access_log[0] == '\0') {
            requestlog_put(request, outcome);
        }
        if (events->request_ended != NULL) {
            events->request_ended(events->arg, request, outcome);
        }
    }
    stop_end(request);
    request_set_state(request, REQUEST_ENDED);
    if (request->conn != NULL) {
        conn_release(request->conn);
        request->conn = NULL;
    }
    if (request->head.done) {
        pool_forget(pool, request);
    }
    deferral_free(&request->deferral);
    head_free(&request->head);
    buf_free(&request->held);
    buf_free(&request->note);
    free(request);
    pool_dispatch(pool);
}

/* --- deferd's own pages ----------------------------------------------------------------------- */

static void request_end_page(struct request *request)
{
    request_set_state(request, REQUEST_ENDED);
    page_release(request->page);
    head_free(&request->head);
    free(request);
}

int request_answer(struct request *request)
{
    char head[PAGE_HEAD_MAX];
    struct gather down;
    struct pool *pool = request->pool;
    const struct proxy_events *events = &pool->proxy->events;
    if (!pool->has_pages || events->page == NULL) {
        return 0;
    }
    request->page = events->page(events->arg, request);
    if (request->page == NULL) {
        return 0;
    }
    pool->stats.pages++;
    request_set_state(request, REQUEST_ANSWERING);
    request->page_at = request->head.is_head ? request->page->body.len : 0;
    gather_init(&down, &request->client->stream);
    size_t len = page_cgi_head(request->page, head, sizeof(head), request->head.is_head);
    gather_record(&down, FCGI_STDOUT, request->fcgi_id, head, len);
    if (client_flush(request->client, &down) == 0) {
        request_send_page(request);
    }
    return 1;
}

void request_send_page(struct request *request)
{
    struct gather down;
    struct client *client = request->client;
    const struct buf *body = &request->page->body;
    gather_init(&down, &client->stream);
    while (request->page_at < body->len) {
        size_t left = body->len - request->page_at;
        size_t n = left < PAGE_PIECE ? left : PAGE_PIECE;
        if (client->stream.pending > 0) {
            return; /* the rest when the client has taken this */
        }
        gather_record(&down, FCGI_STDOUT, request->fcgi_id, body->data + request->page_at, n);
        request->page_at += n;
        if (client_flush(client, &down) != 0) {
            return; /* the request is gone with its client */
        }
    }
    gather_end_request(&down, request->fcgi_id, 0, FCGI_REQUEST_COMPLETE);
    request->client = NULL;
    client_request_ended(client, &down);
    request_end_page(request);
}

void request_refuse(struct request *request, int status, const char *text, unsigned retry_after,
                    enum outcome outcome)
{
    char page[1024];
    struct client *client = request->client;
    struct gather down;
    size_t len =
        cgi_error_page(page, sizeof(page), status, text, retry_after, request->head.is_head);

    gather_init(&down, &client->stream);
    gather_record(&down, FCGI_STDOUT, request->fcgi_id, page, len);
    gather_end_request(&down, request->fcgi_id, 0, FCGI_REQUEST_COMPLETE);
    request->status = status;
    request->answered = uv_hrtime();
    request->client = NULL;
    if (request->queued) {
        /* Its client may send the next request at once, which dispatches: not this one any more. */
        queue_remove(&request->pool->queue, request);
    }
    client_request_ended(client, &down);
    request_close(request, outcome);
}

void request_queue_timeout(struct request *request)
{
    uint64_t seconds = (request->class->options->queue_timeout + 999) / 1000;
    log_line(LOG_WARNING,
             "request %llu: no worker was free within queue.timeout, %llu ms (class %s); answered "
             "503",
             (unsigned long long)request->id,
             (unsigned long long)request->class->options->queue_timeout,
             request->class->options->name);
    request_refuse(request, 503, "All workers are busy.", (unsigned)(seconds > 0 ? seconds : 1),
                   OUTCOME_QUEUE_TIMEOUT);
}

/* --- to a worker and back to the queue -------------------------------------------------------- */

int request_dispatch(struct request *request)
{
    request_set_state(request, REQUEST_CONNECTING);
    int rc = conn_open(request->upstream, request, &request->conn);
    if (rc != 0) {
        request_set_state(request, REQUEST_QUEUED);
        return rc;
    }
    request->dispatched = uv_hrtime();
    if (request->conn->connected) {
        request_connected(request);
    }
    return 0;
}

void request_connected(struct request *request)
{
    request_set_state(request, REQUEST_RUNNING);
    client_request_runs(request->client);
}

/* Goes back to the front of the queue, as if it had never been sent. */
static void request_requeue(struct request *request)
{
    request->upstream->stats.resent++;
    conn_close(request->conn);
    request->conn = NULL;
    request->dispatched = 0;
    request->head_sent = 0;
    request->stdin_sent = 0;
    request->cgi = (struct cgi_head){0};
    buf_free(&request->held);
    request_set_state(request, REQUEST_QUEUED);
    pool_requeue(request->pool, request);
}

void request_connect_failed(struct request *request, int error)
{
    conn_close(request->conn);
    request->conn = NULL;
    request->dispatched = 0;
    request_set_state(request, REQUEST_QUEUED);
    if (pool_connect_failed(request->pool, request, error)) {
        pool_dispatch(request->pool);
    }
}

void request_acknowledged(struct request *request)
{
    struct gather up;
    if (request->client != NULL && !request->stdin_done) {
        client_request_runs(request->client);
    } else {
        gather_init(&up, NULL);
        request_flush(request, &up);
    }
}

/* --- the deferred phase ----------------------------------------------------------------------- */

/* The client gets the end of its response. */
static void request_end_response(struct request *request, struct gather *down)
{
    struct client *client = request->client;
    request->answered = uv_hrtime();
    request->client = NULL;
    client_request_ended(client, down);
    down->to = NULL;
}

/* The worker must not wait for a client any more: neither for one that takes its response slowly,
 * nor for the rest of its body. */
static void request_let_go(struct request *request)
{
    conn_resume(request->conn);
    if (!request->stdin_sent) {
        conn_cut_body(request->conn);
    }
}

/* A held request is in its deferred phase like any other now. What is only needed while a client
 * waits goes: thousands may be in that phase at once. */
static void request_shed(struct request *request)
{
    request_let_go(request);
    buf_free(&request->held);
    head_shed(&request->head);
}

void request_cancel(struct request *request, const char *why)
{
    log_line(LOG_DEBUG, "request %llu: cancelled, %s", (unsigned long long)request->id, why);
    request->client = NULL;
    if (request->state == REQUEST_ANSWERING) {
        request_end_page(request);
        return;
    }
    if (request->state == REQUEST_HELD) {
        pool_unhold(request->pool, request);
        request_set_state(request, REQUEST_DEFERRED);
        request_shed(request);
        return; /* its callbacks finish */
    }
    request_close(request, OUTCOME_CLIENT_GONE);
}

/* The response is complete, its END_REQUEST collected: the deferred phase begins. Beyond
 * defer.max_workers the end of the response waits for a place. */
static void request_begin_phase(struct request *request, struct gather *down)
{
    const struct proxy_events *events = &request->pool->proxy->events;
    request->deferred = uv_hrtime();
    pool_begin_phase(request->pool, request);
    if (events->phase_began != NULL) {
        events->phase_began(events->arg, request);
    }
    if (!request->placed && gather_take(down, &request->held) == 0) {
        request_set_state(request, REQUEST_HELD);
        return;
    }
    if (!request->placed) {
        pool_unhold(request->pool, request); /* no memory to hold it back */
    }
    request_set_state(request, REQUEST_DEFERRED);
    request_end_response(request, down);
    request_let_go(request);
    buf_free(&request->held);
}

void request_complete(struct request *request, struct gather *down)
{
    gather_end_request(down, request->fcgi_id, 0, FCGI_REQUEST_COMPLETE);
    request_begin_phase(request, down);
}

void request_place(struct request *request)
{
    struct gather down;
    gather_init(&down, &request->client->stream);
    gather_bytes(&down, request->held.data, request->held.len);
    request_set_state(request, REQUEST_DEFERRED);
    request_end_response(request, &down);
    request_shed(request);
}

/* Its own callbacks are done: no reason to hold its client any longer. */
static void request_unhold(struct request *request)
{
    if (request->state == REQUEST_HELD) {
        pool_unhold(request->pool, request);
        request_place(request);
    }
}

static void request_log_unfinished(const struct request *request, const char *why)
{
    char names[1024];
    char escaped[2048];
    size_t count = deferral_unfinished(&request->deferral, names, sizeof(names));
    log_line(LOG_WARNING, "request %llu: %s; %zu not done: %s", (unsigned long long)request->id,
             why, count, log_escape(escaped, sizeof(escaped), names, strlen(names)));
}

void request_log_cut(const struct request *request)
{
    char uri[HEAD_URI_KEPT * 2];
    if (request_in_phase(request)) {
        request_log_unfinished(request, "cut in its deferred phase");
        return;
    }
    log_escape(uri, sizeof(uri), request->head.uri.data, request->head.uri.len);
    log_line(LOG_WARNING, "request %llu: cut while %s: \"%s\"", (unsigned long long)request->id,
             request_state_names[request->state], uri);
}

void request_defer_timeout(struct request *request)
{
    request_log_unfinished(request, "its deferred phase took longer than defer.timeout");
    request_unhold(request);
    conn_close(request->conn);
    request->conn = NULL;
    request_close(request, OUTCOME_TIMEOUT);
}

/* The end of a deferred phase. */
static void request_end_phase(struct request *request)
{
    response_end_reports(request);
    request_unhold(request);
    if (!request->marker_seen && !request->head.is_head) {
        request_close(request,
                      OUTCOME_ANSWERED); /* its END_REQUEST came before its worker was free */
        return;
    }
    enum outcome outcome = deferral_outcome(&request->deferral, request->over);
    outcome = stop_outcome(request, outcome);
    if (outcome == OUTCOME_LOST) {
        request_log_unfinished(request, "the worker left its deferred phase early");
    }
    request_close(request, outcome);
}

/* --- what the connection says ----------------------------------------------------------------- */

static const char *request_end_reason(uint8_t protocol_status)
{
    switch (protocol_status) {
    case FCGI_REQUEST_COMPLETE:
        return "ended the request";
    case FCGI_CANT_MPX_CONN:
        return "refused the request (CANT_MPX_CONN)";
    case FCGI_OVERLOADED:
        return "refused the request (OVERLOADED)";
    case FCGI_UNKNOWN_ROLE:
        return "refused the request (UNKNOWN_ROLE)";
    default:
        return "refused the request (unknown protocol status)";
    }
}

void request_conn_end(struct request *request, uint32_t app_status, uint8_t protocol_status,
                      struct gather *down)
{
    request->over = 1;
    request->heard = 1;
    if (request->state == REQUEST_RUNNING && !request->cgi_done) {
        if (client_flush(request->client, down) == 0) {
            request_conn_lost(request, request_end_reason(protocol_status));
        }
        return;
    }
    if (request->state == REQUEST_RUNNING) {
        response_end(request, down);
        gather_end_request(down, request->fcgi_id, app_status, protocol_status);
        if (!request->conn->behind) {
            request_end_response(request, down);
            request_close(request, OUTCOME_ANSWERED);
            return;
        }
        request_begin_phase(request, down);
    }
    if (!request->conn->behind) {
        request_end_phase(request);
    }
}

void request_conn_free(struct request *request)
{
    request_end_phase(request);
}

/* Why it may be sent again: it provably was not run, or has no side effects. NULL if it may not. */
static const char *request_repeat_reason(const struct request *request)
{
    const struct conn *conn = request->conn;
    if (request->heard) {
        return NULL;
    }
    if (conn_in_front(conn) || !request->head_sent) {
        return request->tries < REQUEST_TRIES_UNRUN ? "it was not run" : NULL;
    }
    return request->head.is_safe && request->body == 0 && request->tries < REQUEST_TRIES_SAFE
               ? "its method has no side effects"
               : NULL;
}

/* Why a request whose connection was lost is not sent again. */
static const char *request_no_repeat_reason(const struct request *request)
{
    if (request->heard) {
        return "its response had begun";
    }
    return request->tries > 0 ? "it was sent again already" : "it may have been run";
}

void request_conn_lost(struct request *request, const char *why)
{
    const char *upstream = request->upstream->options->address.text;
    unsigned long long id = request->id;
    const char *repeat = request_repeat_reason(request);

    if (request_in_phase(request)) {
        log_line(LOG_DEBUG, "request %llu: upstream %s %s", id, upstream, why);
        request_end_phase(request);
    } else if (repeat != NULL) {
        log_line(LOG_NOTICE, "request %llu: upstream %s %s; sent again, for %s", id, upstream, why,
                 repeat);
        request->tries++;
        request_requeue(request);
    } else if (!request->cgi_done) {
        log_line(LOG_ERROR,
                 "request %llu: upstream %s %s before the response header was complete; %s; "
                 "answered 502",
                 id, upstream, why, request_no_repeat_reason(request));
        request_refuse(request, 502, "The application server ended without an answer.", 0,
                       OUTCOME_UPSTREAM_FAILED);
    } else {
        log_line(LOG_ERROR,
                 "request %llu: upstream %s %s in the middle of the response; closed the client's "
                 "connection without END_REQUEST",
                 id, upstream, why);
        client_request_broke(request->client);
        request->client = NULL;
        request_close(request, OUTCOME_UPSTREAM_FAILED);
    }
}
