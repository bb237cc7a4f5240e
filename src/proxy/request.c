#include "deferd/request.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/params.h"
#include "deferd/pool.h"
#include "deferd/response.h"
#include "deferd/token.h"
#include "deferd/upstream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands in head before the first param: BEGIN_REQUEST and the header of the PARAMS record. */
#define REQUEST_PREFIX (FCGI_SHORT_RECORD + FCGI_HEADER_LEN)

/* Behind the last: a PARAMS record with DEFERD_TOKEN, which by being the last wins over any other
 * of that name (fact 15), and the empty PARAMS record. */
#define REQUEST_TOKEN_NAME "DEFERD_TOKEN"
#define REQUEST_TOKEN_PAIR (2 + sizeof(REQUEST_TOKEN_NAME) - 1 + TOKEN_LEN)
#define REQUEST_SUFFIX     (FCGI_HEADER_LEN + REQUEST_TOKEN_PAIR + FCGI_HEADER_LEN)

#define REQUEST_URI_LOGGED 1024

static const char *const request_state_names[] = {
    [REQUEST_READING] = "reading",       [REQUEST_QUEUED] = "queued",
    [REQUEST_CONNECTING] = "connecting", [REQUEST_RUNNING] = "running",
    [REQUEST_DEFERRED] = "deferred",     [REQUEST_ENDED] = "ended",
};

#define REQUEST_TO(state) (1u << (state))

/* The states that may follow each state. */
static const unsigned request_ways[] = {
    [REQUEST_READING] = REQUEST_TO(REQUEST_QUEUED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_QUEUED] = REQUEST_TO(REQUEST_CONNECTING) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_CONNECTING] =
        REQUEST_TO(REQUEST_RUNNING) | REQUEST_TO(REQUEST_QUEUED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_RUNNING] = REQUEST_TO(REQUEST_DEFERRED) | REQUEST_TO(REQUEST_ENDED),
    [REQUEST_DEFERRED] = REQUEST_TO(REQUEST_ENDED),
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

static int request_has_slot(const struct request *request)
{
    return request->state == REQUEST_CONNECTING || request->state == REQUEST_RUNNING ||
           request->state == REQUEST_DEFERRED;
}

struct request *request_open(struct pool *pool, struct client *client, uint16_t fcgi_id)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    request->state = REQUEST_READING;
    request->id = ++pool->last_request_id;
    request->fcgi_id = fcgi_id;
    request->pool = pool;
    request->client = client;
    request->content_length = -1;
    return request;
}

int request_params(struct request *request, const uint8_t *data, size_t len)
{
    struct buf *head = &request->head;
    if (head->len == 0) {
        int rc = buf_reserve(head, REQUEST_PREFIX + len + REQUEST_SUFFIX);
        if (rc != 0) {
            return rc;
        }
        head->len = REQUEST_PREFIX;
    }
    if (head->len - REQUEST_PREFIX + len > request->pool->options->max_params) {
        return UV_E2BIG;
    }
    return buf_append(head, data, len);
}

static long long request_parse_length(const struct param *param)
{
    long long n = 0;
    if (param->value_len == 0 || param->value_len > 18) {
        return -1;
    }
    for (size_t i = 0; i < param->value_len; i++) {
        if (param->value[i] < '0' || param->value[i] > '9') {
            return -1;
        }
        n = n * 10 + (param->value[i] - '0');
    }
    return n;
}

/* Takes from the params what deferd itself needs to know. The last of a name wins, as in FPM. */
static int request_read_params(struct request *request, const uint8_t *data, size_t len)
{
    struct param param;
    while (len > 0) {
        size_t n = params_next(data, len, &param);
        if (n == 0) {
            return UV_EINVAL;
        }
        if (params_is(&param, "REQUEST_METHOD")) {
            request->method = (struct slice){param.value, param.value_len};
        } else if (params_is(&param, "REQUEST_URI")) {
            request->uri = (struct slice){param.value, param.value_len};
        } else if (params_is(&param, "CONTENT_LENGTH")) {
            request->content_length = request_parse_length(&param);
        }
        data += n;
        len -= n;
    }
    return 0;
}

/* Lays params that do not fit into one record out over several, none of them with a part of a pair:
 * php-fpm reads each record's pairs by themselves (fact 15). */
static int request_split_params(struct request *request)
{
    const uint8_t *data = request->head.data + REQUEST_PREFIX;
    size_t len = request->head.len - REQUEST_PREFIX;
    struct buf head = {0};
    int rc = buf_reserve(&head, REQUEST_PREFIX + len + len / 32768 * FCGI_HEADER_LEN +
                                    FCGI_SHORT_RECORD + REQUEST_SUFFIX);
    head.len = FCGI_SHORT_RECORD;
    while (rc == 0 && len > 0) {
        size_t n = params_fit(data, len, FCGI_MAX_LENGTH);
        struct param param;
        if (n == 0) {
            /* The first pair is either broken or longer than a record can be. */
            rc = params_next(data, len, &param) == 0 ? UV_EINVAL : UV_E2BIG;
            break;
        }
        rc = buf_reserve(&head, FCGI_HEADER_LEN + n + REQUEST_SUFFIX);
        if (rc == 0) {
            fcgi_put_header(head.data + head.len, FCGI_PARAMS, FCGI_UPSTREAM_ID, (uint16_t)n, 0);
            head.len += FCGI_HEADER_LEN;
            buf_append(&head, data, n);
        }
        data += n;
        len -= n;
    }
    buf_free(&request->head);
    request->head = head;
    return rc;
}

/* Reads the params out of head's records, where they stay. */
static int request_read_head(struct request *request)
{
    const uint8_t *at = request->head.data + FCGI_SHORT_RECORD;
    const uint8_t *end = request->head.data + request->head.len;
    while (at < end) {
        size_t len = (size_t)(at[4] << 8 | at[5]);
        int rc = request_read_params(request, at + FCGI_HEADER_LEN, len);
        if (rc != 0) {
            return rc;
        }
        at += FCGI_HEADER_LEN + len;
    }
    return 0;
}

static int request_put_token(struct request *request)
{
    char token[TOKEN_LEN + 1];
    if (token_make(token) != 0) {
        return UV_EIO;
    }
    marker_init(&request->marker, token);
    uint8_t *at = request->head.data + request->head.len;
    fcgi_put_header(at, FCGI_PARAMS, FCGI_UPSTREAM_ID, REQUEST_TOKEN_PAIR, 0);
    params_put_short(at + FCGI_HEADER_LEN, REQUEST_TOKEN_NAME, token);
    at += FCGI_HEADER_LEN + REQUEST_TOKEN_PAIR;
    fcgi_put_header(at, FCGI_PARAMS, FCGI_UPSTREAM_ID, 0, 0);
    request->head.len += REQUEST_SUFFIX;
    return 0;
}

int request_params_end(struct request *request)
{
    struct buf *head = &request->head;
    int rc = request_params(request, NULL, 0); /* no params at all: still the prefix */
    if (rc == 0) {
        rc = buf_reserve(head, REQUEST_SUFFIX);
    }
    if (rc != 0) {
        return rc;
    }
    size_t len = head->len - REQUEST_PREFIX;
    if (len == 0) {
        head->len = FCGI_SHORT_RECORD; /* an empty record would end the params */
    } else if (len <= FCGI_MAX_LENGTH) {
        fcgi_put_header(head->data + FCGI_SHORT_RECORD, FCGI_PARAMS, FCGI_UPSTREAM_ID,
                        (uint16_t)len, 0);
    } else {
        rc = request_split_params(request);
    }
    if (rc == 0) {
        rc = request_read_head(request);
    }
    if (rc == 0) {
        rc = request_put_token(request);
    }
    if (rc != 0) {
        return rc;
    }
    /* Without KEEP_CONN, for with it the body's leftovers could be run as requests (fact 7). */
    fcgi_put_begin(head->data, FCGI_UPSTREAM_ID, FCGI_RESPONDER, 0);
    request->is_head = request->method.len == 4 && memcmp(request->method.data, "HEAD", 4) == 0;
    request->params_done = 1;
    request->submitted = uv_hrtime();
    request_set_state(request, REQUEST_QUEUED);
    return 0;
}

/* Has the collected bytes go to the upstream connection, and the head before them. */
static void request_aim(struct request *request, struct gather *up)
{
    up->to = request->upstream->broken ? NULL : &request->upstream->stream;
    if (!request->head_sent) {
        gather_bytes(up, request->head.data, request->head.len);
        request->head_sent = 1;
    }
}

void request_body(struct request *request, const uint8_t *data, size_t len, struct gather *up)
{
    request_aim(request, up);
    gather_record(up, FCGI_STDIN, FCGI_UPSTREAM_ID, data, len);
}

void request_flush(struct request *request, struct gather *up)
{
    request_aim(request, up);
    if (request->stdin_done && !request->stdin_sent) {
        gather_record(up, FCGI_STDIN, FCGI_UPSTREAM_ID, NULL, 0);
        request->stdin_sent = 1;
    }
    if (gather_flush(up) != 0) {
        /* The peer takes no more. What it had to say may still be there to read, and if not, the
         * read says so. */
        request->upstream->broken = 1;
    }
}

static double request_ms(uint64_t from, uint64_t to)
{
    return from != 0 && to > from ? (double)(to - from) / 1e6 : 0;
}

/* The one line that each request leaves in the log. What there was none of is "-". */
static void request_log(const struct request *request, const char *outcome)
{
    char method[64];
    char uri[REQUEST_URI_LOGGED * 2];
    char status[8] = "-";
    char deferred[24] = "-";
    char pid[24] = "-";
    const struct deferral *deferral = &request->deferral;
    uint64_t now = uv_hrtime();
    uint64_t dispatched = request->dispatched != 0 ? request->dispatched : now;
    uint64_t answered = request->answered != 0 ? request->answered : now;

    if (!log_enabled(LOG_NOTICE)) {
        return;
    }
    if (request->status != 0) {
        snprintf(status, sizeof(status), "%d", request->status);
    }
    if (request->state == REQUEST_DEFERRED) {
        snprintf(deferred, sizeof(deferred), "%.3f", request_ms(answered, now));
    }
    if (deferral->pid != 0) {
        snprintf(pid, sizeof(pid), "%lld", deferral->pid);
    }
    log_escape_word(method, sizeof(method), request->method.data, request->method.len);
    log_escape(uri, sizeof(uri), request->uri.data, request->uri.len);
    log_line(LOG_NOTICE,
             "request=%llu method=%s uri=\"%s\" status=%s queue_ms=%.3f response_ms=%.3f "
             "deferred_ms=%s done=%zu failed=%zu skipped=%zu outcome=%s pid=%s",
             (unsigned long long)request->id, method[0] != '\0' ? method : "-", uri, status,
             request_ms(request->submitted, dispatched), request_ms(request->submitted, answered),
             deferred, deferral->done, deferral->failed, deferral->skipped, outcome, pid);
}

/* The last step of each way: logs the request's line, gives its slot back, frees it. */
static void request_close(struct request *request, const char *outcome)
{
    struct pool *pool = request->pool;
    int slot = request_has_slot(request);

    if (request->params_done || request->status != 0) {
        request_log(request, outcome);
    }
    request_set_state(request, REQUEST_ENDED);
    if (request->upstream != NULL) {
        upstream_close(request->upstream);
    }
    if (request->params_done) {
        pool_forget(pool, request);
    }
    deferral_free(&request->deferral);
    buf_free(&request->head);
    buf_free(&request->held);
    free(request);
    if (slot) {
        pool_release(pool);
    }
}

void request_cancel(struct request *request, const char *why)
{
    log_line(LOG_DEBUG, "request %llu: cancelled, %s", (unsigned long long)request->id, why);
    if (request->state == REQUEST_QUEUED && request->params_done) {
        pool_withdraw(request->pool, request);
    }
    request->client = NULL;
    request_close(request, "client_gone");
}

int request_dispatch(struct request *request)
{
    request_set_state(request, REQUEST_CONNECTING);
    int rc = upstream_open(request->pool, request, &request->upstream);
    if (rc == UV_EAGAIN) {
        request_set_state(request, REQUEST_QUEUED);
        return rc;
    }
    request->dispatched = uv_hrtime();
    if (rc != 0) {
        request_connect_failed(request, rc);
    } else if (request->upstream->connected) {
        request_connected(request);
    }
    return 0;
}

void request_connected(struct request *request)
{
    request_set_state(request, REQUEST_RUNNING);
    client_request_runs(request->client);
}

void request_connect_failed(struct request *request, int error)
{
    log_line(LOG_ERROR,
             "request %llu: cannot connect to upstream %s: %s; answered 502 (is php-fpm running, "
             "and is this its listen address?)",
             (unsigned long long)request->id, request->pool->options->upstream.text,
             uv_strerror(error));
    request_refuse(request, 502, "The application server cannot be reached.", "upstream_failed");
}

/* Frees the head, of which only method and uri are still wanted: thousands of requests may be in
 * their deferred phase at once. */
static void request_shed_head(struct request *request)
{
    struct buf label = {0};
    size_t uri_len = request->uri.len < REQUEST_URI_LOGGED ? request->uri.len : REQUEST_URI_LOGGED;
    size_t method_len = request->method.len < 32 ? request->method.len : 32;
    if (buf_reserve(&label, method_len + uri_len + 1) != 0) {
        return;
    }
    buf_append(&label, request->method.data, method_len);
    buf_append(&label, request->uri.data, uri_len);
    request->method = (struct slice){label.data, method_len};
    request->uri = (struct slice){label.data + method_len, uri_len};
    buf_free(&request->head);
    request->head = label;
}

void request_answered(struct request *request, struct gather *down)
{
    struct client *client = request->client;
    gather_end_request(down, request->fcgi_id, 0, FCGI_REQUEST_COMPLETE);
    request->answered = uv_hrtime();
    request->client = NULL;
    request_set_state(request, REQUEST_DEFERRED);
    client_request_ended(client, down);
    down->to = NULL;
    if (!request->stdin_sent) {
        upstream_cut_body(request->upstream);
    }
    buf_free(&request->held);
    request_shed_head(request);
}

static void request_log_unfinished(const struct request *request)
{
    char names[1024];
    char escaped[2048];
    size_t count = deferral_unfinished(&request->deferral, names, sizeof(names));
    log_line(LOG_WARNING,
             "request %llu: the worker left its deferred phase early; %zu not done: %s",
             (unsigned long long)request->id, count,
             log_escape(escaped, sizeof(escaped), names, strlen(names)));
}

/* The end of a deferred phase. */
static void request_deferral_ended(struct request *request, int end_request)
{
    response_end_reports(request);
    enum outcome outcome = deferral_outcome(&request->deferral, end_request);
    if (outcome == OUTCOME_LOST) {
        request_log_unfinished(request);
    }
    request_close(request, deferral_outcome_name(outcome));
}

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

void request_upstream_end(struct request *request, uint32_t app_status, uint8_t protocol_status,
                          struct gather *down)
{
    if (request->state == REQUEST_DEFERRED) {
        request_deferral_ended(request, 1);
        return;
    }
    struct client *client = request->client;
    if (!request->cgi_done) {
        if (client_flush(client, down) == 0) {
            request_upstream_lost(request, request_end_reason(protocol_status));
        }
        return;
    }
    response_end(request, down);
    gather_end_request(down, request->fcgi_id, app_status, protocol_status);
    request->answered = uv_hrtime();
    request->client = NULL;
    client_request_ended(client, down);
    request_close(request, "answered");
}

void request_upstream_lost(struct request *request, const char *why)
{
    const char *upstream = request->pool->options->upstream.text;
    unsigned long long id = request->id;

    if (request->state == REQUEST_DEFERRED) {
        log_line(LOG_DEBUG, "request %llu: upstream %s %s", id, upstream, why);
        request_deferral_ended(request, 0);
    } else if (!request->cgi_done) {
        log_line(LOG_ERROR,
                 "request %llu: upstream %s %s before the response header was complete; "
                 "answered 502",
                 id, upstream, why);
        request_refuse(request, 502, "The application server ended without an answer.",
                       "upstream_failed");
    } else {
        log_line(LOG_ERROR,
                 "request %llu: upstream %s %s in the middle of the response; closed the client's "
                 "connection without END_REQUEST",
                 id, upstream, why);
        client_request_broke(request->client);
        request->client = NULL;
        request_close(request, "upstream_failed");
    }
}

void request_refuse(struct request *request, int status, const char *text, const char *outcome)
{
    char page[1024];
    struct client *client = request->client;
    struct gather down;
    size_t len = cgi_error_page(page, sizeof(page), status, text, request->is_head);

    gather_init(&down, &client->stream);
    gather_record(&down, FCGI_STDOUT, request->fcgi_id, page, len);
    gather_end_request(&down, request->fcgi_id, 0, FCGI_REQUEST_COMPLETE);
    request->status = status;
    request->answered = uv_hrtime();
    request->client = NULL;
    client_request_ended(client, &down);
    request_close(request, outcome);
}
