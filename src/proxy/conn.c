/*
 * Happy path: connect (at once, on a unix socket), write head and body, read records until
 * END_REQUEST. Without KEEP_CONN, close at once: php-fpm's worker waits for that without a time
 * limit (fact 4). With it, wait for the answer to the barrier behind the request; then the worker
 * is known to be alive and free, and the connection idle (fact 9). Failure modes: a full backlog
 * (EAGAIN, fact 12) is not an error, the request waits; a write that fails is not the end either,
 * for the answer may already be there to read; the connection's end, or bytes that are no FastCGI
 * of a responder, lose the request.
 */
#include "deferd/conn.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/response.h"
#include "deferd/upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* GET_VALUES with the one name php-fpm knows: a record of 17 bytes, one pair, 15 and 0 long. */
static const char conn_barrier[] = "\x01\x09\0\0\0\x11\0\0"
                                   "\x0f\0" FCGI_MPXS_CONNS;

static void conn_on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void conn_close(struct conn *conn)
{
    conn->request = NULL;
    if (conn->listed) {
        upstream_unwatch(conn->upstream, conn);
    }
    if (!uv_is_closing(&conn->stream.io.handle)) {
        uv_close(&conn->stream.io.handle, conn_on_closed);
    }
}

void conn_release(struct conn *conn)
{
    const struct proxy *proxy = conn->upstream->pool->proxy;
    int free_again = conn->ended && !conn->behind && !conn->front && !conn->broken &&
                     conn->upstream->barrier == UPSTREAM_BARRIER_YES && !proxy->draining &&
                     !proxy->sharing && conn->kept && conn->unread == 0;
    if (!free_again) {
        conn_close(conn);
        return;
    }
    conn->request = NULL;
    conn->ended = 0;
    conn->end_have = 0;
    conn->kept = 0;
    conn->idle = 1;
    conn->again = 1;
    conn_resume(conn);
    upstream_keep(conn->upstream, conn);
}

void conn_put_barrier(struct gather *up)
{
    gather_bytes(up, conn_barrier, sizeof(conn_barrier) - 1);
}

/* --- in front of a request -------------------------------------------------------------------- */

/*
 * After each barrier that it answers, a worker looks whether it is to end (SIGQUIT, or a reload),
 * and if so it leaves the request behind it unread (fact 9). On a unix socket the kernel tells when
 * the peer has read everything, and a peer that closes without having done so resets the
 * connection; so nothing is sent behind the request before it is read. TCP does not tell. There a
 * second barrier finds out a worker that was told to end while its connection was idle: it answers
 * the first one only. One that is told so within the microseconds from there to the request is not
 * found out.
 */
void conn_put_front(struct conn *conn, struct gather *up)
{
    conn->untaken = address_is_unix(&conn->upstream->options->address);
    conn->front = conn->again && !conn->untaken ? 2 : 1;
    for (unsigned i = 0; i < conn->front; i++) {
        conn_put_barrier(up);
    }
}

int conn_in_front(const struct conn *conn)
{
    return conn->front > 0 || conn->untaken;
}

static int conn_is_taken(const struct conn *conn)
{
    int left = 0;
    struct pollfd end = {.events = 0};
    if (conn->stream.pending > 0 || uv_fileno(&conn->stream.io.handle, &end.fd) != 0 ||
        ioctl(end.fd, TIOCOUTQ, &left) != 0 || left > 0) {
        return 0;
    }
    /* Nothing is left of what a peer did not read either, once it has closed; reading will tell. */
    return poll(&end, 1, 0) == 0;
}

/* The kernel says that the request was read, or a part of its answer does. */
static void conn_was_taken(struct conn *conn)
{
    conn->untaken = 0;
    if (conn->listed) {
        upstream_unwatch(conn->upstream, conn);
    }
    request_acknowledged(conn->request);
}

void conn_look(struct conn *conn)
{
    if (!conn->untaken || conn_is_taken(conn)) {
        conn_was_taken(conn);
    } else {
        upstream_watch(conn->upstream, conn);
    }
}

/* --- asking ----------------------------------------------------------------------------------- */

static void conn_answered(struct conn *conn)
{
    struct upstream *upstream = conn->upstream;
    conn->asking--;
    if (conn->asking == 0) {
        upstream->asker = NULL;
        upstream->barrier = UPSTREAM_BARRIER_YES;
        log_line(LOG_DEBUG, "upstream %s: connections can be kept",
                 upstream->options->address.text);
        if (upstream->busy + upstream->kept < upstream->options->max_workers) {
            conn->ended = 1;
            conn->kept = 1;
            conn_release(conn);
        } else {
            conn_close(conn); /* requests have all workers meanwhile, and idle it would pin one */
        }
    }
}

static void conn_ask_failed(struct conn *conn)
{
    struct upstream *upstream = conn->upstream;
    upstream->asker = NULL;
    if (conn->asking == 1) {
        upstream->barrier = UPSTREAM_BARRIER_NO;
        log_line(LOG_NOTICE,
                 "upstream %s: closes after GET_VALUES, as php-fpm before 8.2.13; its connections "
                 "are not kept",
                 upstream->options->address.text);
    } else {
        upstream->barrier = UPSTREAM_BARRIER_UNKNOWN;
    }
    conn_close(conn);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The connection ended or broke: why is a sentence. */
static void conn_lost(struct conn *conn, const char *why)
{
    if (conn->idle) {
        upstream_lose(conn->upstream, conn);
        conn_close(conn);
    } else if (conn->asking > 0) {
        conn_ask_failed(conn);
    } else {
        request_conn_lost(conn->request, why);
    }
}

static void conn_malformed(struct conn *conn, const struct fcgi_event *ev, struct gather *down)
{
    char why[128];
    struct client *client = conn->request != NULL ? conn->request->client : NULL;
    if (client != NULL && client_flush(client, down) != 0 &&
        uv_is_closing(&conn->stream.io.handle)) {
        return; /* what came before is good; but nobody is left to have it */
    }
    if (ev->kind == FCGI_EV_VERSION) {
        snprintf(why, sizeof(why), "sent bytes that are no FastCGI version 1");
    } else {
        snprintf(why, sizeof(why), "sent a malformed record (%s, request id %u, length %u)",
                 fcgi_type_name(ev->type), ev->id, ev->length);
    }
    if (conn->request != NULL) {
        /* It is deferd that closes: the peer may still run what it has in its buffer. */
        conn->request->heard = 1;
    }
    conn_lost(conn, why);
}

/* Is it a record that a responder sends now? */
static int conn_expects(const struct conn *conn, const struct fcgi_event *ev)
{
    if (ev->id == FCGI_NULL_REQUEST_ID) {
        return ev->type == FCGI_GET_VALUES_RESULT &&
               (conn->front || (conn->behind && conn->ended) || conn->asking > 0);
    }
    if (ev->id != FCGI_UPSTREAM_ID || conn->request == NULL) {
        return 0;
    }
    return ev->type == FCGI_STDOUT || ev->type == FCGI_STDERR ||
           (ev->type == FCGI_END_REQUEST && !conn->ended &&
            ev->length == sizeof(FCGI_EndRequestBody));
}

static void conn_content(struct conn *conn, const struct fcgi_event *ev, struct gather *down)
{
    if (ev->type == FCGI_END_REQUEST) {
        memcpy(conn->end_body + conn->end_have, ev->data, ev->len);
        conn->end_have = (uint8_t)(conn->end_have + ev->len);
    } else if (ev->type == FCGI_STDERR) {
        response_stderr(conn->request, ev->data, ev->len, down);
    } else if (ev->type == FCGI_STDOUT && !conn->ended) { /* else output of fact 10 */
        response_stdout(conn->request, ev->data, ev->len, down);
    }
}

static void conn_on_barrier(struct conn *conn)
{
    if (conn->asking > 0) {
        conn_answered(conn);
    } else if (conn->front > 0) {
        conn->front--;
        if (conn->front == 0) {
            conn_look(conn);
        }
    } else {
        conn->behind = 0;
        request_conn_free(conn->request);
    }
}

static void conn_record_end(struct conn *conn, const struct fcgi_event *ev, struct gather *down)
{
    const uint8_t *b = conn->end_body;
    if (ev->type == FCGI_GET_VALUES_RESULT) {
        conn_on_barrier(conn);
    } else if (ev->type == FCGI_END_REQUEST) {
        uint32_t status = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        conn->ended = 1;
        request_conn_end(conn->request, status, b[4], down);
    }
}

static void conn_event(struct conn *conn, const struct fcgi_event *ev, struct gather *down)
{
    switch (ev->kind) {
    case FCGI_EV_RECORD:
        if (!conn_expects(conn, ev)) {
            conn_malformed(conn, ev, down);
        } else if (ev->id != FCGI_NULL_REQUEST_ID && conn->untaken && conn->front == 0) {
            conn_was_taken(conn);
        }
        break;
    case FCGI_EV_CONTENT:
        conn_content(conn, ev, down);
        break;
    case FCGI_EV_END:
        conn_record_end(conn, ev, down);
        break;
    case FCGI_EV_VERSION:
        conn_malformed(conn, ev, down);
        break;
    case FCGI_EV_MORE:
        break;
    }
}

/* What arrived is worked through: hand it on, and stop reading if the client is slow; but not while
 * only its end is held back, for the deferred work must not wait for a client. A phase that is not
 * over in the same breath, as that of a plain request on a kept connection is, keeps no params. */
static void conn_flush(struct conn *conn, struct gather *down)
{
    struct client *client = conn->request->client;
    if (conn->request->state == REQUEST_DEFERRED) {
        head_shed(&conn->request->head);
    }
    if (client != NULL && client_flush(client, down) == 0 && client->stream.pending > 0 &&
        conn->request->state == REQUEST_RUNNING) {
        conn_pause(conn);
    }
}

static void conn_read(struct conn *conn, const uint8_t *data, size_t len)
{
    struct fcgi_event ev;
    struct gather down;
    const struct request *request = conn->request;
    uint64_t id = request != NULL ? request->id : 0;
    struct client *client = request != NULL ? request->client : NULL;

    gather_init(&down, client != NULL ? &client->stream : NULL);
    do {
        size_t used = fcgi_read(&conn->reader, data, len, &ev);
        data += used;
        len -= used;
        conn->unread = len;
        conn_event(conn, &ev, &down);
        if (uv_is_closing(&conn->stream.io.handle)) {
            return;
        }
    } while (ev.kind != FCGI_EV_MORE);
    if (conn->request != NULL && conn->request->id == id) { /* by id: memory is used again */
        conn_flush(conn, &down);
    }
}

static void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    const struct conn *conn = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)conn->upstream->pool->proxy->scratch, PROXY_SCRATCH);
}

/* libuv says EOF, without having asked, when the peer's end was there with its last bytes. */
static int conn_was_reset(const struct conn *conn, ssize_t nread)
{
    int fd;
    int error = 0;
    socklen_t len = sizeof(error);
    return nread == UV_ECONNRESET ||
           (nread == UV_EOF && uv_fileno(&conn->stream.io.handle, &fd) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ECONNRESET);
}

static void conn_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    char why[128];

    if (nread < 0 && !conn_was_reset(conn, nread)) {
        conn->untaken = 0; /* it closed with nothing left unread */
    }
    if (nread > 0 && conn->idle) {
        /* However little it is: it would be taken for the beginning of the next answer. */
        conn_lost(conn, "sent what nobody asked for");
    } else if (nread > 0) {
        conn_read(conn, (const uint8_t *)buf->base, (size_t)nread);
    } else if (nread == UV_EOF) {
        conn_lost(conn, "closed the connection");
    } else if (nread < 0) {
        snprintf(why, sizeof(why), "broke the connection (%s)", uv_strerror((int)nread));
        conn_lost(conn, why);
    }
}

void conn_pause(struct conn *conn)
{
    conn->paused = 1;
    uv_read_stop(&conn->stream.io.stream);
}

void conn_resume(struct conn *conn)
{
    if (conn->paused) {
        conn->paused = 0;
        uv_read_start(&conn->stream.io.stream, conn_on_alloc, conn_on_read);
    }
}

/* --- connecting ------------------------------------------------------------------------------- */

static void conn_on_drained(struct stream *stream, int status)
{
    struct conn *conn = stream->io.handle.data;
    const struct request *request = conn->request;
    if (status < 0) {
        conn->broken = 1; /* the read side says what became of it */
    }
    if (request != NULL && request->client != NULL) {
        client_upload_drained(request->client);
    }
}

static int conn_start(struct conn *conn)
{
    conn->connected = 1;
    upstream_reached(conn->upstream);
    return uv_read_start(&conn->stream.io.stream, conn_on_alloc, conn_on_read);
}

/* Connected, without a request: writes two barriers. php-fpm before 8.2.13 answers the first one
 * and closes. */
static void conn_start_asking(struct conn *conn)
{
    struct gather up;
    gather_init(&up, &conn->stream);
    conn_put_barrier(&up);
    conn_put_barrier(&up);
    gather_flush(&up);
}

static void conn_on_connected(uv_connect_t *connect, int status)
{
    struct conn *conn = connect->handle->data;
    struct request *request = conn->request;
    if (uv_is_closing(&conn->stream.io.handle)) {
        return; /* given up meanwhile */
    }
    if (status == 0) {
        status = conn_start(conn);
    }
    if (request == NULL && status == 0) {
        conn_start_asking(conn);
    } else if (request == NULL) {
        conn_ask_failed(conn);
    } else if (status == 0) {
        request_connected(request);
    } else {
        request_connect_failed(request, status);
    }
}

/* On a unix socket, connect succeeds or fails at once; libuv would report it a turn of the loop
 * later. */
static int conn_connect_unix(struct conn *conn, const struct address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return uv_translate_sys_error(errno);
    }
    int rc = connect(fd, (const struct sockaddr *)&address->sa, address->len);
    rc = rc != 0 ? uv_translate_sys_error(errno) : uv_pipe_open(&conn->stream.io.pipe, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return conn_start(conn);
}

/* A host that does not answer at all is given up after 7 s, not after the kernel's two minutes. */
static void conn_bound_connect(struct conn *conn)
{
    int fd;
    int retries = 2;
    if (uv_fileno(&conn->stream.io.handle, &fd) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &retries, sizeof(retries));
    }
}

static int conn_connect(struct upstream *upstream, struct conn **out)
{
    const struct address *address = &upstream->options->address;
    struct conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return UV_ENOMEM;
    }
    int rc = stream_init(&conn->stream, upstream->pool->loop, address, conn, conn_on_drained);
    if (rc != 0) {
        free(conn);
        return rc;
    }
    conn->upstream = upstream;
    if (address_is_unix(address)) {
        rc = conn_connect_unix(conn, address);
    } else {
        uv_tcp_nodelay(&conn->stream.io.tcp, 1);
        uv_tcp_keepalive(&conn->stream.io.tcp, 1, STREAM_TCP_KEEPALIVE);
        rc = uv_tcp_connect(&conn->connect, &conn->stream.io.tcp,
                            (const struct sockaddr *)&address->sa, conn_on_connected);
        if (rc == 0) {
            conn_bound_connect(conn);
        }
    }
    if (rc != 0) {
        conn_close(conn);
        return rc;
    }
    *out = conn;
    return 0;
}

int conn_open(struct upstream *upstream, struct request *request, struct conn **out)
{
    struct conn *conn = upstream_take(upstream);
    if (conn != NULL && request->tries > 0) {
        /* What ended the one it was lost on, a reload perhaps, may have ended all idle ones, and it
         * is not sent again without end. */
        conn_close(conn);
        conn = NULL;
    }
    if (conn == NULL) {
        int rc = conn_connect(upstream, &conn);
        if (rc != 0) {
            return rc;
        }
    }
    conn->idle = 0;
    conn->request = request;
    *out = conn;
    return 0;
}

int conn_ask(struct upstream *upstream)
{
    struct conn *conn;
    int rc = conn_connect(upstream, &conn);
    if (rc != 0) {
        return rc;
    }
    conn->asking = 2;
    upstream->asker = conn;
    if (conn->connected) {
        conn_start_asking(conn);
    }
    return 0;
}

void conn_cut_body(struct conn *conn)
{
    stream_shutdown(&conn->stream);
    conn->broken = 1;
}
