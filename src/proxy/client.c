/*
 * Happy path: BEGIN_REQUEST, PARAMS until an empty one, then the request is submitted; STDIN goes
 * upstream as it comes; after END_REQUEST the next request, or the connection's end.
 * Failure modes: bytes that are no FastCGI of a web server close the connection and cancel its
 * request; so does the peer's end, which is also looked for while nothing is read; a peer that does
 * not take its response stops the upstream, one that sends too fast is not read from.
 */
#include "deferd/client.h"

#include "deferd/conn.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/values.h"
#include "deferd/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <utlist.h>

/* How much is read at once before a request runs: enough for its params, and little of its body,
 * which is to stay in the kernel while the request waits. */
#define CLIENT_READ_HEAD 16384

/* How long to wait for the peer's end when it may still be sending: closing at once could destroy
 * the response on its way (as nginx's lingering_timeout). */
#define CLIENT_LINGER_MS 5000

static void client_pump(struct client *client);

/* --- closing ---------------------------------------------------------------------------------- */

static void client_on_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    buf_free(&client->assembled);
    buf_free(&client->held);
    free(client);
}

static void client_on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void client_unwatch(struct client *client)
{
    if (client->watch != NULL) {
        watch_close(client->watch);
        client->watch = NULL;
    }
}

/* Closes the connection; its request, if any, is cancelled. why is logged. */
static void client_close(struct client *client, const char *why)
{
    if (client->closing) {
        return;
    }
    client->closing = 1;
    log_line(LOG_DEBUG, "client %llu: closed, %s", (unsigned long long)client->id, why);
    struct request *request = client->request;
    client->request = NULL;
    DL_DELETE(client->pool->clients, client);
    client->pool->proxy->client_count--;
    client_unwatch(client);
    if (client->linger != NULL) {
        uv_close((uv_handle_t *)client->linger, client_on_timer_closed);
        client->linger = NULL;
    }
    uv_close(&client->stream.io.handle, client_on_closed);
    if (request != NULL) {
        request_cancel(request, why);
    }
}

static void client_malformed(struct client *client, const struct fcgi_event *ev, const char *why)
{
    log_line(LOG_WARNING,
             "client %llu, request %llu: malformed FastCGI: %s (%s, request id %u, length %u); "
             "closed the connection",
             (unsigned long long)client->id,
             client->request != NULL ? (unsigned long long)client->request->id : 0, why,
             fcgi_type_name(ev->type), ev->id, ev->length);
    client_close(client, "malformed input");
}

/* --- reading or not --------------------------------------------------------------------------- */

static void client_on_peer_end(void *arg, int status)
{
    client_close(arg, status < 0 ? "the peer broke it" : "the peer closed it");
}

static void client_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    const struct client *client = handle->data;
    const struct request *request = client->request;
    int body = request != NULL && request->state == REQUEST_RUNNING && !request->stdin_done;
    (void)suggested;
    *buf =
        uv_buf_init((char *)client->pool->proxy->scratch, body ? PROXY_SCRATCH : CLIENT_READ_HEAD);
}

static void client_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);

/* Reads, or does not, as blocked says. */
static void client_update_reading(struct client *client)
{
    if (client->closing) {
        return;
    }
    int reading = client->blocked == 0;
    if (reading && !client->reading) {
        client_unwatch(client);
        uv_read_start(&client->stream.io.stream, client_on_alloc, client_on_read);
    } else if (!reading && client->reading) {
        uv_read_stop(&client->stream.io.stream);
    }
    if (!reading && client->watch == NULL) {
        client->watch = watch_open(&client->stream.io.handle, client_on_peer_end, client);
    }
    client->reading = (uint8_t)reading;
}

static void client_unblock(struct client *client, enum client_block why)
{
    if ((client->blocked & why) != 0) {
        client->blocked &= ~(unsigned)why;
        client_pump(client);
    }
}

/* --- the end of a response -------------------------------------------------------------------- */

static void client_on_linger(uv_timer_t *timer)
{
    client_close(timer->data, "the peer did not close it in time");
}

/* The peer may still be sending what nobody wants: say that this was all, and wait for its end. */
static void client_linger(struct client *client)
{
    uv_timer_t *timer = malloc(sizeof(*timer));
    if (timer == NULL || stream_shutdown(&client->stream) != 0) {
        free(timer);
        client_close(client, "all is sent");
        return;
    }
    uv_timer_init(client->pool->loop, timer);
    timer->data = client;
    client->linger = timer;
    uv_timer_start(timer, client_on_linger, CLIENT_LINGER_MS, 0);
    buf_free(&client->held);
    client->blocked = 0;
    client_update_reading(client);
}

/* No more requests: closes as soon as everything is written. */
static void client_finish(struct client *client)
{
    client->finishing = 1;
    if (client->stream.pending > 0) {
        client->blocked |= CLIENT_BLOCK_OUTPUT;
    } else if (client->leftover) {
        client_linger(client);
    } else {
        client_close(client, "all is sent");
    }
}

void client_request_ended(struct client *client, struct gather *down)
{
    struct request *request = client->request;
    client->leftover |= !request->stdin_done;
    client->request = NULL;
    client->blocked &= ~(unsigned)(CLIENT_BLOCK_QUEUED | CLIENT_BLOCK_UPLOAD);
    if (gather_flush(down) != 0) {
        client_close(client, "the peer is gone");
        return;
    }
    if (!client->keep_conn || client->pool->proxy->draining) {
        client_finish(client);
    } else if (client->stream.pending > 0) {
        client->blocked |= CLIENT_BLOCK_OUTPUT;
    }
    client_pump(client);
}

void client_request_broke(struct client *client)
{
    client->request = NULL;
    client->leftover = 0;
    client_finish(client);
    client_update_reading(client);
}

int client_flush(struct client *client, struct gather *down)
{
    int rc = gather_flush(down);
    if (rc != 0) {
        client_close(client, "the peer is gone");
    }
    return rc;
}

static void client_on_drained(struct stream *stream, int status)
{
    struct client *client = stream->io.handle.data;
    if (client->closing) {
        return;
    }
    if (status < 0) {
        client_close(client, "the peer is gone");
        return;
    }
    if (client->finishing) {
        client_finish(client);
        return;
    }
    if (client->request != NULL && client->request->conn != NULL) {
        conn_resume(client->request->conn);
    }
    client_unblock(client, CLIENT_BLOCK_OUTPUT);
}

/* --- records from the web server -------------------------------------------------------------- */

/* Answers one record to the peer outside of any response. A peer that does not take the answers is
 * not read from either. */
static void client_answer(struct client *client, const void *record, size_t len)
{
    struct gather down;
    gather_init(&down, &client->stream);
    gather_bytes(&down, record, len);
    if (client_flush(client, &down) == 0 && client->stream.pending > 0) {
        client->blocked |= CLIENT_BLOCK_OUTPUT;
    }
}

static void client_refuse_role(struct client *client, uint16_t id, uint8_t protocol_status)
{
    uint8_t record[FCGI_SHORT_RECORD];
    fcgi_put_end(record, id, 0, protocol_status);
    client->leftover = 1; /* the records of that request may be on their way already */
    client_answer(client, record, sizeof(record));
}

static void client_begin(struct client *client, const struct fcgi_event *ev)
{
    const uint8_t *body = client->assembled.data;
    unsigned role = (unsigned)(body[0] << 8 | body[1]);
    uint8_t keep_conn = (body[2] & FCGI_KEEP_CONN) != 0;

    if (client->request != NULL && client->request->fcgi_id == ev->id) {
        client_malformed(client, ev, "that request is active already");
    } else if (client->request != NULL) {
        client_refuse_role(client, ev->id, FCGI_CANT_MPX_CONN);
    } else if (role != FCGI_RESPONDER) {
        client->keep_conn = keep_conn;
        client_refuse_role(client, ev->id, FCGI_UNKNOWN_ROLE);
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

static void client_params_failed(struct client *client, const struct fcgi_event *ev, int error)
{
    struct request *request = client->request;
    if (error == UV_EINVAL) {
        client_malformed(client, ev, "a name-value pair is cut off");
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

static void client_params_end(struct client *client, const struct fcgi_event *ev)
{
    int rc = request_params_end(client->request);
    if (rc != 0) {
        client_params_failed(client, ev, rc);
    } else {
        pool_submit(client->pool, client->request);
    }
}

static void client_stdin_end(struct client *client, const struct fcgi_event *ev)
{
    struct request *request = client->request;
    /* php-fpm would wait for the rest for ever (fact 14). */
    if (request->body < request->head.content_length) {
        client_malformed(client, ev, "STDIN ended before CONTENT_LENGTH bytes");
        return;
    }
    request->stdin_done = 1;
}

/* Does the record belong to the current request? Otherwise it is malformed, or to be skipped. */
static int client_is_current(const struct client *client, const struct fcgi_event *ev)
{
    return client->request != NULL && client->request->fcgi_id == ev->id;
}

/* Checks a record of the current request's streams against the order that spec 6.2 demands. */
static const char *client_misplaced(const struct client *client, const struct fcgi_event *ev)
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

static const char *client_check_management(const struct fcgi_event *ev)
{
    return ev->type >= FCGI_BEGIN_REQUEST && ev->type <= FCGI_DATA ? "request id 0" : NULL;
}

/* What is wrong with a record, by its header alone; NULL if nothing is. */
static const char *client_check(const struct client *client, const struct fcgi_event *ev)
{
    if (ev->id == FCGI_NULL_REQUEST_ID) {
        return client_check_management(ev);
    }
    switch (ev->type) {
    case FCGI_BEGIN_REQUEST:
        return ev->length != sizeof(FCGI_BeginRequestBody) ? "wrong length" : NULL;
    case FCGI_ABORT_REQUEST:
        return NULL; /* may cross the answer, then it is nobody's */
    case FCGI_PARAMS:
    case FCGI_STDIN:
        if (client_is_current(client, ev)) {
            return client_misplaced(client, ev);
        }
        return client->leftover ? NULL : "no such request";
    default:
        return "a web server does not send this";
    }
}

static void client_on_record(struct client *client, const struct fcgi_event *ev)
{
    const char *wrong = client_check(client, ev);
    if (wrong != NULL) {
        client_malformed(client, ev, wrong);
    }
}

static void client_on_content(struct client *client, const struct fcgi_event *ev, struct gather *up)
{
    int current = client_is_current(client, ev);
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
        client_params_failed(client, ev, rc);
    }
}

static void client_on_management(struct client *client, const struct fcgi_event *ev)
{
    uint8_t record[VALUES_RECORD_MAX];
    size_t len = FCGI_SHORT_RECORD;
    if (ev->type == FCGI_GET_VALUES) {
        len = values_answer(record, client->assembled.data, client->assembled.len,
                            client->pool->proxy->max_conns);
        if (len == 0) {
            client_malformed(client, ev, "a name-value pair is cut off");
            return;
        }
    } else {
        fcgi_put_unknown_type(record, ev->type);
    }
    client_answer(client, record, len);
}

static void client_on_record_end(struct client *client, const struct fcgi_event *ev)
{
    int current = client_is_current(client, ev);
    if (ev->id == FCGI_NULL_REQUEST_ID) {
        client_on_management(client, ev);
    } else if (ev->type == FCGI_BEGIN_REQUEST) {
        client_begin(client, ev);
    } else if (ev->type == FCGI_ABORT_REQUEST && current) {
        struct request *request = client->request;
        uint8_t record[FCGI_SHORT_RECORD];
        client->leftover |= !request->stdin_done;
        client->request = NULL;
        request_cancel(request, "the web server aborted it");
        fcgi_put_end(record, ev->id, 0, FCGI_REQUEST_COMPLETE);
        client_answer(client, record, sizeof(record));
        if (!client->keep_conn && !client->closing) {
            client_finish(client);
        }
    } else if (ev->type == FCGI_PARAMS && ev->length == 0 && current) {
        client_params_end(client, ev);
    } else if (ev->type == FCGI_STDIN && ev->length == 0 && current) {
        client_stdin_end(client, ev);
    }
    buf_free(&client->assembled);
}

static void client_event(struct client *client, const struct fcgi_event *ev, struct gather *up)
{
    switch (ev->kind) {
    case FCGI_EV_RECORD:
        client_on_record(client, ev);
        break;
    case FCGI_EV_CONTENT:
        client_on_content(client, ev, up);
        break;
    case FCGI_EV_END:
        client_on_record_end(client, ev);
        break;
    case FCGI_EV_VERSION:
        client_malformed(client, ev, "not version 1");
        break;
    case FCGI_EV_MORE:
        break;
    }
}

/* --- input ------------------------------------------------------------------------------------ */

/* After a piece of input: what is to go upstream goes, and a body waits where it is. */
static void client_settle(struct client *client, struct gather *up)
{
    struct request *request = client->request;
    if (request == NULL) {
        if (client->pool->proxy->draining && !client->finishing &&
            fcgi_reader_idle(&client->reader)) {
            client_finish(client); /* what was half here when the drain began is complete */
        }
        return;
    }
    if (request->state == REQUEST_RUNNING) {
        request_flush(request, up);
        if (request->conn->stream.pending > 0 && !request->stdin_done) {
            client->blocked |= CLIENT_BLOCK_UPLOAD;
        }
    }
    if (request->head.done && !request->stdin_done && !request_takes_body(request)) {
        client->blocked |= CLIENT_BLOCK_QUEUED;
    }
}

/* Is what comes next a part of a body that cannot go upstream now? Asked before each part, not once
 * a record: a request may lose its worker in the middle of one. */
static int client_body_waits(const struct client *client)
{
    const struct request *request = client->request;
    return request != NULL && fcgi_reader_within(&client->reader, FCGI_STDIN, request->fcgi_id) &&
           !request_takes_body(request);
}

/* Works through input until it is used up or something blocks. Returns the bytes used. */
static size_t client_consume(struct client *client, const uint8_t *data, size_t len)
{
    struct fcgi_event ev = {.kind = FCGI_EV_END};
    struct gather up;
    size_t done = 0;

    gather_init(&up, NULL);
    client->consuming = 1;
    while (ev.kind != FCGI_EV_MORE && client->blocked == 0 && !client->finishing &&
           !client->closing) {
        const struct request *request = client->request;
        if (client_body_waits(client)) {
            client->blocked |= CLIENT_BLOCK_QUEUED;
            break;
        }
        done += fcgi_read(&client->reader, data + done, len - done, &ev);
        client_event(client, &ev, &up);
        if (client->request != request) {
            gather_init(&up, NULL); /* no byte of one request's body may reach the next one */
        }
    }
    if (!client->closing) {
        client_settle(client, &up);
    }
    client->consuming = 0;
    return done;
}

/* Works through what was held back, then reads on if nothing blocks. */
static void client_pump(struct client *client)
{
    if (client->consuming || client->closing) {
        return;
    }
    if (!client->finishing) {
        struct buf held = client->held;
        client->held = (struct buf){0};
        size_t used = client_consume(client, held.data, held.len);
        if (!client->closing && used < held.len &&
            buf_append(&client->held, held.data + used, held.len - used) != 0) {
            client_close(client, "no memory");
        }
        buf_free(&held);
    }
    client_update_reading(client);
}

static void client_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct client *client = stream->data;
    if (nread < 0) {
        client_close(client, nread == UV_EOF ? "the peer closed it" : "the peer broke it");
        return;
    }
    if (nread == 0 || client->finishing) {
        return; /* nothing, or what nobody wants any more */
    }
    size_t used = client_consume(client, (const uint8_t *)buf->base, (size_t)nread);
    if (client->closing) {
        return;
    }
    if (used < (size_t)nread &&
        buf_append(&client->held, buf->base + used, (size_t)nread - used) != 0) {
        client_close(client, "no memory");
        return;
    }
    client_update_reading(client);
}

void client_request_runs(struct client *client)
{
    client->blocked &= ~(unsigned)CLIENT_BLOCK_QUEUED;
    if (client->request->conn->stream.pending == 0) {
        /* It may be another connection than the one that was slow, which says nothing any more. */
        client->blocked &= ~(unsigned)CLIENT_BLOCK_UPLOAD;
    }
    client_pump(client);
}

void client_upload_drained(struct client *client)
{
    client_unblock(client, CLIENT_BLOCK_UPLOAD);
}

/* --- connections ------------------------------------------------------------------------------ */

/* May its machine connect? */
static int client_is_allowed(const struct client *client)
{
    struct sockaddr_storage peer = {0};
    int len = sizeof(peer);
    struct pool *pool = client->pool;
    if (pool->options->allowed_clients.count == 0) {
        return 1;
    }
    snprintf(pool->forbidden, sizeof(pool->forbidden), "an unknown address");
    if (uv_tcp_getpeername(&client->stream.io.tcp, (struct sockaddr *)&peer, &len) != 0) {
        return 0;
    }
    uv_ip_name((const struct sockaddr *)&peer, pool->forbidden, sizeof(pool->forbidden));
    return client_list_allows(&pool->options->allowed_clients, (const struct sockaddr *)&peer);
}

int client_accept(struct pool *pool, uv_stream_t *listener)
{
    if (pool->proxy->client_count >= pool->proxy->max_conns) {
        return UV_EMFILE;
    }
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return UV_ENOMEM;
    }
    int rc =
        stream_init(&client->stream, pool->loop, &pool->options->listen, client, client_on_drained);
    if (rc != 0) {
        free(client);
        return rc;
    }
    client->pool = pool;
    client->id = ++pool->proxy->last_client_id;
    DL_APPEND(pool->clients, client);
    pool->proxy->client_count++;
    rc = uv_accept(listener, &client->stream.io.stream);
    if (rc != 0) {
        client_close(client, "not accepted");
        return rc;
    }
    if (!address_is_unix(&pool->options->listen)) {
        uv_tcp_nodelay(&client->stream.io.tcp, 1);
        uv_tcp_keepalive(&client->stream.io.tcp, 1, STREAM_TCP_KEEPALIVE);
    }
    if (!client_is_allowed(client)) {
        client_close(client, "its address is not allowed");
        return UV_EACCES;
    }
    client_update_reading(client);
    return 0;
}

/* Is there something to read that the loop has not come to? */
static int client_has_input(const struct client *client)
{
    int fd;
    int n = 0;
    return uv_fileno(&client->stream.io.handle, &fd) == 0 && ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

void client_drain(struct client *client)
{
    if (client->request == NULL && !client->finishing && fcgi_reader_idle(&client->reader) &&
        !client_has_input(client)) {
        client_finish(client);
    }
}

void client_expire(struct client *client)
{
    if (!client->finishing && client->stream.pending == 0 &&
        (client->request == NULL || client->request->state == REQUEST_READING)) {
        client_close(client, "its request did not come in time");
    }
}
