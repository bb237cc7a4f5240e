/*
 * Happy path: accept, read until the empty line, write the page in pieces as the peer takes them,
 * shut down, wait for the peer's end, close. Failure modes: whatever takes too long, is too long or
 * is no request is answered with an error or just closed; there is no state but the connection's
 * own, and all of that is bounded.
 */
#include "deferd/http.h"

#include "deferd/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define HTTP_BACKLOG 128

/* How much may come behind a request before it is not read any more: closing at once could destroy
 * the response on its way. */
#define HTTP_DROPPED_MAX 65536

struct http_conn {
    struct stream stream;
    struct http *http;             /* borrowed */
    struct http_conn *prev, *next; /* http->conns */
    uint64_t since;                /* uv_now() */
    struct page *page;             /* owned: a reference; NULL before the request is complete */
    size_t page_at;                /* how much of its body has gone */
    int sent;                      /* all of it has */
    size_t have;
    size_t dropped; /* bytes that came behind the request */
    char request[HTTP_REQUEST_MAX + 1];
};

struct http {
    struct stream stream;
    uv_timer_t timer; /* for the oldest connection */
    struct listener listener;
    struct status *status;   /* borrowed */
    uv_loop_t *loop;         /* borrowed */
    struct http_conn *conns; /* the oldest first */
    unsigned count;
    unsigned handles; /* open libuv handles of its own and its connections */
    int stopped;
    int closing;
};

/* --- closing ---------------------------------------------------------------------------------- */

static void http_free_if_done(struct http *http)
{
    if (http->closing && http->handles == 0) {
        free(http);
    }
}

static void http_on_conn_closed(uv_handle_t *handle)
{
    struct http_conn *conn = handle->data;
    struct http *http = conn->http;
    page_release(conn->page);
    free(conn);
    http->handles--;
    http_free_if_done(http);
}

static void http_close_conn(struct http_conn *conn)
{
    if (!uv_is_closing(&conn->stream.io.handle)) {
        DL_DELETE(conn->http->conns, conn);
        conn->http->count--;
        uv_close(&conn->stream.io.handle, http_on_conn_closed);
    }
}

static void http_on_closed(uv_handle_t *handle)
{
    struct http *http = handle->data;
    http->handles--;
    http_free_if_done(http);
}

void http_stop(struct http *http)
{
    if (!http->stopped) {
        http->stopped = 1;
        address_unlink(&http->listener);
        uv_close(&http->stream.io.handle, http_on_closed);
    }
}

void http_close(struct http *http)
{
    http_stop(http);
    http->closing = 1;
    uv_close((uv_handle_t *)&http->timer, http_on_closed);
    while (http->conns != NULL) {
        http_close_conn(http->conns);
    }
}

/* --- time ------------------------------------------------------------------------------------- */

static void http_on_timer(uv_timer_t *timer)
{
    struct http *http = timer->data;
    uint64_t now = uv_now(http->loop);
    while (http->conns != NULL) {
        uint64_t until = http->conns->since + HTTP_TIME_MS;
        if (until > now) {
            uv_timer_start(timer, http_on_timer, until - now, 0);
            return;
        }
        http_close_conn(http->conns);
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Gives the peer what it takes, and when that is all, the end. */
static void http_send(struct http_conn *conn)
{
    const struct buf *body = &conn->page->body;
    while (!conn->sent && conn->stream.pending == 0) {
        size_t left = body->len - conn->page_at;
        size_t n = left < PAGE_PIECE ? left : PAGE_PIECE;
        const uv_buf_t piece = uv_buf_init((char *)body->data + conn->page_at, (unsigned)n);
        if (left == 0) {
            conn->sent = 1;
            if (stream_shutdown(&conn->stream) != 0) {
                http_close_conn(conn);
            }
            return; /* the peer's end, or the timer, closes it */
        }
        conn->page_at += n;
        if (stream_write(&conn->stream, &piece, 1) != 0) {
            http_close_conn(conn);
            return;
        }
    }
}

static void http_on_drained(struct stream *stream, int status)
{
    struct http_conn *conn = stream->io.handle.data;
    if (uv_is_closing(&stream->io.handle)) {
        return;
    }
    if (status < 0) {
        http_close_conn(conn);
    } else {
        http_send(conn);
    }
}

/* page: a reference that is taken over; NULL without memory. */
static void http_answer(struct http_conn *conn, struct page *page, int head_only)
{
    char head[PAGE_HEAD_MAX];
    if (page == NULL) {
        http_close_conn(conn);
        return;
    }
    conn->page = page;
    conn->page_at = head_only ? page->body.len : 0;
    size_t len = page_http_head(page, head, sizeof(head));
    const uv_buf_t buf = uv_buf_init(head, (unsigned)len);
    if (stream_write(&conn->stream, &buf, 1) != 0) {
        http_close_conn(conn);
        return;
    }
    http_send(conn);
}

static void http_refuse(struct http_conn *conn, int status, const char *text)
{
    http_answer(conn, page_text(&conn->http->status->proxy->page_budget, status, text), 0);
}

/* --- the request ------------------------------------------------------------------------------ */

/* Takes the next word of a line, up to a blank. */
static const char *http_word(char **line)
{
    char *word = *line;
    size_t len = strcspn(word, " ");
    *line = word + len;
    if (word[len] == ' ') {
        word[len] = '\0';
        *line = word + len + 1;
    }
    return word;
}

/* Does the client understand OpenMetrics? Prometheus says so. */
static int http_wants_openmetrics(const char *headers)
{
    const char *accept = strcasestr(headers, "\naccept:");
    if (accept == NULL) {
        return 0;
    }
    const char *end = strchr(accept + 1, '\n');
    const char *type = strcasestr(accept, "application/openmetrics-text");
    return type != NULL && (end == NULL || type < end);
}

/* request is complete, terminated and all its bytes are text. */
static void http_request(struct http_conn *conn)
{
    char *line = conn->request;
    char *end = line + strcspn(line, "\r\n");
    char first[HTTP_REQUEST_MAX + 1];
    snprintf(first, sizeof(first), "%.*s", (int)(end - line), line);
    line = first;
    const char *method = http_word(&line);
    char *target = (char *)http_word(&line);
    int head_only = strcmp(method, "HEAD") == 0;

    target[strcspn(target, "?")] = '\0';
    if (strncmp(line, "HTTP/1.", 7) != 0 || target[0] != '/') {
        http_refuse(conn, 400, "This is no HTTP/1.1 request.\n");
    } else if (!head_only && strcmp(method, "GET") != 0) {
        http_refuse(conn, 405, "Only GET and HEAD are answered here.\n");
    } else if (strcmp(target, "/metrics") == 0) {
        int openmetrics = http_wants_openmetrics(end);
        http_answer(conn, status_metrics(conn->http->status, openmetrics), head_only);
    } else if (strcmp(target, "/") == 0) {
        http_answer(conn,
                    page_text(&conn->http->status->proxy->page_budget, 200,
                              "deferd's metrics are at /metrics.\n"),
                    head_only);
    } else {
        http_refuse(conn, 404, "There is only /metrics here.\n");
    }
}

static void http_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct http_conn *conn = handle->data;
    (void)suggested;
    if (conn->page != NULL) {
        conn->have = 0; /* what comes behind the request is dropped */
    }
    *buf = uv_buf_init(conn->request + conn->have, (unsigned)(HTTP_REQUEST_MAX - conn->have));
}

static void http_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct http_conn *conn = stream->data;
    (void)buf;
    if (nread < 0) {
        http_close_conn(conn);
        return;
    }
    if (conn->page != NULL) {
        conn->dropped += (size_t)nread;
        if (conn->dropped > HTTP_DROPPED_MAX) {
            http_close_conn(conn);
        }
        return;
    }
    conn->have += (size_t)nread;
    conn->request[conn->have] = '\0';
    if (strlen(conn->request) < conn->have) {
        http_refuse(conn, 400, "This is no HTTP/1.1 request.\n");
    } else if (strstr(conn->request, "\r\n\r\n") != NULL || strstr(conn->request, "\n\n") != NULL) {
        http_request(conn);
    } else if (conn->have == HTTP_REQUEST_MAX) {
        http_refuse(conn, 431, "The request is too long.\n");
    }
}

/* --- connections ------------------------------------------------------------------------------ */

/* Makes room for a new connection. Those that are being answered stay: there are always some who
 * connect and say nothing, and they must not keep the others out. */
static void http_make_room(struct http *http)
{
    struct http_conn *conn = NULL;
    DL_FOREACH(http->conns, conn)
    {
        if (conn->page == NULL || conn->sent) {
            http_close_conn(conn);
            return;
        }
    }
    http_close_conn(http->conns);
}

static void http_on_connection(uv_stream_t *stream, int status)
{
    struct http *http = stream->data;
    struct http_conn *conn = status == 0 ? calloc(1, sizeof(*conn)) : NULL;
    if (conn == NULL) {
        return;
    }
    if (stream_init(&conn->stream, http->loop, &http->listener.address, conn, http_on_drained) !=
        0) {
        free(conn);
        return;
    }
    uv_unref(&conn->stream.io.handle);
    http->handles++;
    if (http->count == HTTP_CONNS_MAX) {
        http_make_room(http);
    }
    conn->http = http;
    conn->since = uv_now(http->loop);
    DL_APPEND(http->conns, conn);
    http->count++;
    if (uv_accept(stream, &conn->stream.io.stream) != 0 ||
        uv_read_start(&conn->stream.io.stream, http_on_alloc, http_on_read) != 0) {
        http_close_conn(conn);
    } else if (!uv_is_active((uv_handle_t *)&http->timer)) {
        uv_timer_start(&http->timer, http_on_timer, HTTP_TIME_MS, 0);
    }
}

static int http_listen(struct http *http)
{
    int fd = http->listener.fd;
    int rc = address_is_unix(&http->listener.address) ? uv_pipe_open(&http->stream.io.pipe, fd)
                                                      : uv_tcp_open(&http->stream.io.tcp, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return uv_listen(&http->stream.io.stream, HTTP_BACKLOG, http_on_connection);
}

struct http *http_open(uv_loop_t *loop, struct status *status, const struct listener *listener,
                       char *err, size_t err_size)
{
    struct http *http = calloc(1, sizeof(*http));
    int rc =
        http != NULL ? stream_init(&http->stream, loop, &listener->address, http, NULL) : UV_ENOMEM;
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", listener->address.text, uv_strerror(rc));
        address_unlink(listener);
        close(listener->fd);
        free(http);
        return NULL;
    }
    uv_unref(&http->stream.io.handle);
    uv_timer_init(loop, &http->timer);
    uv_unref((uv_handle_t *)&http->timer);
    http->timer.data = http;
    http->handles = 2;
    http->listener = *listener;
    http->status = status;
    http->loop = loop;
    rc = http_listen(http);
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", listener->address.text, uv_strerror(rc));
        http_close(http);
        return NULL;
    }
    return http;
}

const char *http_address(const struct http *http)
{
    return http->listener.address.text;
}
