/*
 * Happy path: connect (at once, on a unix socket), write head and body, read records until
 * END_REQUEST, close at once: php-fpm's worker waits for that without a time limit (fact 4).
 * Failure modes: a full backlog (EAGAIN, fact 12) is not an error, the request waits; a write that
 * fails is not the end either, for the answer may already be there to read; the connection's end,
 * or bytes that are no FastCGI of a responder, lose the request.
 */
#include "deferd/upstream.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/request.h"
#include "deferd/response.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void upstream_on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void upstream_close(struct upstream *upstream)
{
    upstream->request = NULL;
    if (!uv_is_closing(&upstream->stream.io.handle)) {
        uv_close(&upstream->stream.io.handle, upstream_on_closed);
    }
}

static void upstream_malformed(struct upstream *upstream, const struct fcgi_event *ev,
                               struct gather *down)
{
    char why[128];
    struct client *client = upstream->request->client;
    if (client != NULL && client_flush(client, down) != 0) {
        return; /* what came before is good; but nobody is left to have it */
    }
    if (ev->kind == FCGI_EV_VERSION) {
        snprintf(why, sizeof(why), "sent bytes that are no FastCGI version 1");
    } else {
        snprintf(why, sizeof(why), "sent a malformed record (%s, request id %u, length %u)",
                 fcgi_type_name(ev->type), ev->id, ev->length);
    }
    request_upstream_lost(upstream->request, why);
}

/* Is it a record that a responder sends? */
static int upstream_expects(const struct fcgi_event *ev)
{
    if (ev->id != FCGI_UPSTREAM_ID) {
        return 0;
    }
    return ev->type == FCGI_STDOUT || ev->type == FCGI_STDERR ||
           (ev->type == FCGI_END_REQUEST && ev->length == sizeof(FCGI_EndRequestBody));
}

static void upstream_content(struct upstream *upstream, const struct fcgi_event *ev,
                             struct gather *down)
{
    switch (ev->type) {
    case FCGI_STDOUT:
        response_stdout(upstream->request, ev->data, ev->len, down);
        break;
    case FCGI_STDERR:
        response_stderr(upstream->request, ev->data, ev->len, down);
        break;
    default: /* END_REQUEST */
        memcpy(upstream->end_body + upstream->end_have, ev->data, ev->len);
        upstream->end_have = (uint8_t)(upstream->end_have + ev->len);
    }
}

static void upstream_event(struct upstream *upstream, const struct fcgi_event *ev,
                           struct gather *down)
{
    const uint8_t *b = upstream->end_body;
    switch (ev->kind) {
    case FCGI_EV_RECORD:
        if (!upstream_expects(ev)) {
            upstream_malformed(upstream, ev, down);
        }
        break;
    case FCGI_EV_CONTENT:
        upstream_content(upstream, ev, down);
        break;
    case FCGI_EV_END:
        if (ev->type == FCGI_END_REQUEST) {
            uint32_t status =
                (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
            request_upstream_end(upstream->request, status, b[4], down);
        }
        break;
    case FCGI_EV_VERSION:
        upstream_malformed(upstream, ev, down);
        break;
    case FCGI_EV_MORE:
        break;
    }
}

/* What arrived is worked through: hand it on, and stop reading if the client is slow. */
static void upstream_flush(struct upstream *upstream, struct gather *down)
{
    struct client *client = upstream->request->client;
    if (client != NULL && client_flush(client, down) == 0 && client->stream.pending > 0) {
        upstream_pause(upstream);
    }
}

static void upstream_read(struct upstream *upstream, const uint8_t *data, size_t len)
{
    struct fcgi_event ev;
    struct gather down;
    struct client *client = upstream->request->client;

    gather_init(&down, client != NULL ? &client->stream : NULL);
    do {
        size_t used = fcgi_read(&upstream->reader, data, len, &ev);
        data += used;
        len -= used;
        upstream_event(upstream, &ev, &down);
        if (upstream->request == NULL) {
            return;
        }
    } while (ev.kind != FCGI_EV_MORE);
    upstream_flush(upstream, &down);
}

static void upstream_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    const struct upstream *upstream = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)upstream->pool->scratch, POOL_SCRATCH);
}

static void upstream_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct upstream *upstream = stream->data;
    char why[128];

    if (nread > 0) {
        upstream_read(upstream, (const uint8_t *)buf->base, (size_t)nread);
    } else if (nread == UV_EOF) {
        request_upstream_lost(upstream->request, "closed the connection");
    } else if (nread < 0) {
        snprintf(why, sizeof(why), "broke the connection (%s)", uv_strerror((int)nread));
        request_upstream_lost(upstream->request, why);
    }
}

static void upstream_on_drained(struct stream *stream, int status)
{
    struct upstream *upstream = stream->io.handle.data;
    struct request *request = upstream->request;
    if (status < 0) {
        upstream->broken = 1; /* the read side says what became of it */
    }
    if (request != NULL && request->client != NULL) {
        client_upload_drained(request->client);
    }
}

static int upstream_start(struct upstream *upstream)
{
    upstream->connected = 1;
    return uv_read_start(&upstream->stream.io.stream, upstream_on_alloc, upstream_on_read);
}

static void upstream_on_connected(uv_connect_t *connect, int status)
{
    struct upstream *upstream = connect->handle->data;
    struct request *request = upstream->request;
    if (request == NULL) {
        return; /* given up meanwhile */
    }
    if (status == 0) {
        status = upstream_start(upstream);
    }
    if (status == 0) {
        request_connected(request);
    } else {
        request_connect_failed(request, status);
    }
}

/* On a unix socket, connect succeeds or fails at once; libuv would report it a turn of the loop
 * later. */
static int upstream_connect_unix(struct upstream *upstream, const struct address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return uv_translate_sys_error(errno);
    }
    int rc = connect(fd, (const struct sockaddr *)&address->sa, address->len);
    rc = rc != 0 ? uv_translate_sys_error(errno) : uv_pipe_open(&upstream->stream.io.pipe, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return upstream_start(upstream);
}

int upstream_open(struct pool *pool, struct request *request, struct upstream **out)
{
    const struct address *address = &pool->options->upstream;
    struct upstream *upstream = calloc(1, sizeof(*upstream));
    if (upstream == NULL) {
        return UV_ENOMEM;
    }
    int rc = stream_init(&upstream->stream, pool->loop, address, upstream, upstream_on_drained);
    if (rc != 0) {
        free(upstream);
        return rc;
    }
    upstream->pool = pool;
    if (address_is_unix(address)) {
        rc = upstream_connect_unix(upstream, address);
    } else {
        uv_tcp_nodelay(&upstream->stream.io.tcp, 1);
        uv_tcp_keepalive(&upstream->stream.io.tcp, 1, STREAM_TCP_KEEPALIVE);
        rc = uv_tcp_connect(&upstream->connect, &upstream->stream.io.tcp,
                            (const struct sockaddr *)&address->sa, upstream_on_connected);
    }
    if (rc != 0) {
        upstream_close(upstream);
        return rc;
    }
    upstream->request = request;
    *out = upstream;
    return 0;
}

void upstream_pause(struct upstream *upstream)
{
    upstream->paused = 1;
    uv_read_stop(&upstream->stream.io.stream);
}

void upstream_resume(struct upstream *upstream)
{
    if (upstream->paused) {
        upstream->paused = 0;
        uv_read_start(&upstream->stream.io.stream, upstream_on_alloc, upstream_on_read);
    }
}

static void upstream_on_shutdown(uv_shutdown_t *shutdown, int status)
{
    (void)status;
    free(shutdown);
}

void upstream_cut_body(struct upstream *upstream)
{
    uv_shutdown_t *shutdown = malloc(sizeof(*shutdown));
    if (shutdown != NULL &&
        uv_shutdown(shutdown, &upstream->stream.io.stream, upstream_on_shutdown) != 0) {
        free(shutdown);
    }
    upstream->broken = 1;
}
