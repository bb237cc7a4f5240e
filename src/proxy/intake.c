/*
 * Happy path: BEGIN_REQUEST opens a request, PARAMS fill its head until an empty one has it
 * submitted, STDIN is its body; management records are answered.
 * Failure modes: a record out of its order, or one that no web server sends, closes the connection
 * and cancels its request; a second request at the same time, or another role, is refused, and its
 * records are skipped.
 */
#include "deferd/intake.h"

#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/values.h"

static void intake_malformed(struct client *client, const struct fcgi_event *ev, const char *why)
{
    log_line(LOG_WARNING,
             "client %llu, request %llu: malformed FastCGI: %s (%s, request id %u, length %u); "
             "closed the connection",
             (unsigned long long)client->id,
             client->request != NULL ? (unsigned long long)client->request->id : 0, why,
             fcgi_type_name(ev->type), ev->id, ev->length);
    client_close(client, "malformed input");
}

/* Answers one record to the peer outside of any response. A peer that does not take the answers is
 * not read from either. */
static void intake_answer(struct client *client, const void *record, size_t len)
{
    struct gather down;
    gather_init(&down, &client->stream);
    gather_bytes(&down, record, len);
    if (client_flush(client, &down) == 0 && client->stream.pending > 0) {
        client->blocked |= CLIENT_BLOCK_OUTPUT;
    }
}

static void intake_refuse_role(struct client *client, uint16_t id, uint8_t protocol_status)
{
    uint8_t record[FCGI_SHORT_RECORD];
    fcgi_put_end(record, id, 0, protocol_status);
    client->leftover = 1; /* the records of that request may be on their way already */
    intake_answer(client, record, sizeof(record));
}

static void intake_begin(struct client *client, const struct fcgi_event *ev)
{
    const uint8_t *body = client->assembled.data;
    unsigned role = (unsigned)(body[0] << 8 | body[1]);
    uint8_t keep_conn = (body[2] & FCGI_KEEP_CONN) != 0;

    if (client->request != NULL && client->request->fcgi_id == ev->id) {
        intake_malformed(client, ev, "that request is active already");
    } else if (client->request != NULL) {
        intake_refuse_role(client, ev->id, FCGI_CANT_MPX_CONN);
    } else if (role != FCGI_RESPONDER) {
        client->keep_conn = keep_conn;
        intake_refuse_role(client, ev->id, FCGI_UNKNOWN_ROLE);
        if (!keep_conn && !client->closing) {
            client_finish(client);
        }
    } else {
        client->keep_conn = keep_conn;
        client->leftover = 0;
        client->request = request_open(client->pool, client, ev->id);
        if (client->request == NULL) {
            client_close(client, "no memory");
        }
    }
}

static void intake_params_failed(struct client *client, const struct fcgi_event *ev, int error)
{
    struct request *request = client->request;
    if (error == UV_EINVAL) {
        intake_malformed(client, ev, "a name-value pair is cut off");
    } else if (error == UV_E2BIG) {
        log_line(LOG_WARNING,
                 "request %llu: params longer than %zu bytes, or one of them than 65535; answered "
                 "431 (see --max-params)",
                 (unsigned long long)request->id, client->pool->options->max_params);
        request_refuse(request, 431, "The request's headers are too long.", 0, OUTCOME_REJECTED);
    } else {
        log_line(LOG_ERROR, "request %llu: %s; closed the connection",
                 (unsigned long long)request->id, uv_strerror(error));
        client_close(client, "no resources");
    }
}

static void intake_params_end(struct client *client, const struct fcgi_event *ev)
{
    int rc = request_params_end(client->request);
    if (rc != 0) {
        intake_params_failed(client, ev, rc);
    } else if (!request_answer(client->request)) {
        pool_submit(client->pool, client->request);
    }
}

static void intake_stdin_end(struct client *client, const struct fcgi_event *ev)
{
    struct request *request = client->request;
    /* php-fpm would wait for the rest for ever (fact 14). */
    if (request->body < request->head.content_length) {
        intake_malformed(client, ev, "STDIN ended before CONTENT_LENGTH bytes");
        return;
    }
    request->stdin_done = 1;
}

/* Does the record belong to the current request? Otherwise it is malformed, or to be skipped. */
static int intake_is_current(const struct client *client, const struct fcgi_event *ev)
{
    return client->request != NULL && client->request->fcgi_id == ev->id;
}

/* Checks a record of the current request's streams against the order that spec 6.2 demands. */
static const char *intake_misplaced(const struct client *client, const struct fcgi_event *ev)
{
    const struct request *request = client->request;
    if (ev->type == FCGI_PARAMS && request->head.done) {
        return "PARAMS after their end";
    }
    if (ev->type == FCGI_STDIN && !request->head.done) {
        return "STDIN before the params' end";
    }
    if (ev->type == FCGI_STDIN && request->stdin_done) {
        return "STDIN after its end";
    }
    return NULL;
}

static const char *intake_check_management(const struct fcgi_event *ev)
{
    return ev->type >= FCGI_BEGIN_REQUEST && ev->type <= FCGI_DATA ? "request id 0" : NULL;
}

/* What is wrong with a record, by its header alone; NULL if nothing is. */
static const char *intake_check(const struct client *client, const struct fcgi_event *ev)
{
    if (ev->id == FCGI_NULL_REQUEST_ID) {
        return intake_check_management(ev);
    }
    switch (ev->type) {
    case FCGI_BEGIN_REQUEST:
        return ev->length != sizeof(FCGI_BeginRequestBody) ? "wrong length" : NULL;
    case FCGI_ABORT_REQUEST:
        return NULL; /* may cross the answer, then it is nobody's */
    case FCGI_PARAMS:
    case FCGI_STDIN:
        if (intake_is_current(client, ev)) {
            return intake_misplaced(client, ev);
        }
        return client->leftover ? NULL : "no such request";
    default:
        return "a web server does not send this";
    }
}

static void intake_on_record(struct client *client, const struct fcgi_event *ev)
{
    const char *wrong = intake_check(client, ev);
    if (wrong != NULL) {
        intake_malformed(client, ev, wrong);
    }
}

static void intake_on_content(struct client *client, const struct fcgi_event *ev, struct gather *up)
{
    int current = intake_is_current(client, ev);
    int rc = 0;
    if (ev->type == FCGI_PARAMS && current) {
        rc = head_add(&client->request->head, ev->data, ev->len, client->pool->options->max_params);
    } else if (ev->type == FCGI_STDIN && current) {
        client->request->body += (long long)ev->len;
        request_body(client->request, ev->data, ev->len, up);
    } else if (ev->type == FCGI_BEGIN_REQUEST ||
               (ev->type == FCGI_GET_VALUES && ev->id == FCGI_NULL_REQUEST_ID)) {
        rc = buf_append(&client->assembled, ev->data, ev->len);
        if (rc != 0) {
            client_close(client, "no memory");
        }
        return;
    }
    if (rc != 0) {
        intake_params_failed(client, ev, rc);
    }
}

static void intake_on_management(struct client *client, const struct fcgi_event *ev)
{
    uint8_t record[VALUES_RECORD_MAX];
    size_t len = FCGI_SHORT_RECORD;
    if (ev->type == FCGI_GET_VALUES) {
        len = values_answer(record, client->assembled.data, client->assembled.len,
                            client->pool->proxy->max_conns);
        if (len == 0) {
            intake_malformed(client, ev, "a name-value pair is cut off");
            return;
        }
    } else {
        fcgi_put_unknown_type(record, ev->type);
    }
    intake_answer(client, record, len);
}

static void intake_on_record_end(struct client *client, const struct fcgi_event *ev)
{
    int current = intake_is_current(client, ev);
    if (ev->id == FCGI_NULL_REQUEST_ID) {
        intake_on_management(client, ev);
    } else if (ev->type == FCGI_BEGIN_REQUEST) {
        intake_begin(client, ev);
    } else if (ev->type == FCGI_ABORT_REQUEST && current) {
        struct request *request = client->request;
        uint8_t record[FCGI_SHORT_RECORD];
        client->leftover |= !request->stdin_done;
        client->request = NULL;
        request_cancel(request, "the web server aborted it");
        fcgi_put_end(record, ev->id, 0, FCGI_REQUEST_COMPLETE);
        intake_answer(client, record, sizeof(record));
        if (!client->keep_conn && !client->closing) {
            client_finish(client);
        }
    } else if (ev->type == FCGI_PARAMS && ev->length == 0 && current) {
        intake_params_end(client, ev);
    } else if (ev->type == FCGI_STDIN && ev->length == 0 && current) {
        intake_stdin_end(client, ev);
    }
    buf_free(&client->assembled);
}

void intake_event(struct client *client, const struct fcgi_event *ev, struct gather *up)
{
    switch (ev->kind) {
    case FCGI_EV_RECORD:
        intake_on_record(client, ev);
        break;
    case FCGI_EV_CONTENT:
        intake_on_content(client, ev, up);
        break;
    case FCGI_EV_END:
        intake_on_record_end(client, ev);
        break;
    case FCGI_EV_VERSION:
        intake_malformed(client, ev, "not version 1");
        break;
    case FCGI_EV_MORE:
        break;
    }
}
