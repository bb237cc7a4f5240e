/*
 * Happy path: what is read goes to intake, record by record, which opens a request and submits it;
 * its body goes upstream as it comes; after END_REQUEST the next request, or the connection's end.
 * Failure modes: the peer's end, which is also looked for while nothing is read, closes the
 * connection and cancels its request; a peer that does not take its response stops the upstream,
 * one that sends too fast is not read from.
 */
#include "deferd/client.h"

#include "deferd/conn.h"
#include "deferd/intake.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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

void client_close(struct client *client, const char *why)
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
    client->pool->stats.connections--;
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

void client_finish(struct client *client)
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

/* Is what the peer sends from here on the beginning of a request, and nothing of one with us? */
static int client_is_blank(const struct client *client)
{
    return client->request == NULL && !client->finishing && !client->leftover &&
           client->held.len == 0 && client->stream.pending == 0 && client->blocked == 0 &&
           fcgi_reader_idle(&client->reader);
}

/* While draining: no more requests here. The peer may be about to send one, so another process gets
 * the connection if that can be. all: nothing of what was read is still to be worked through. */
static void client_retire(struct client *client, int all)
{
    const struct proxy_events *events = &client->pool->proxy->events;
    int fd;
    if (events->hand_over == NULL) {
        client_finish(client);
        return;
    }
    if (!all || !client_is_blank(client)) {
        return; /* it is asked again when it is */
    }
    int rc = uv_fileno(&client->stream.io.handle, &fd);
    rc = rc == 0 ? events->hand_over(events->arg, client->pool, fd) : rc;
    if (rc == 0) {
        client_close(client, "handed on");
    } else if (rc != UV_EAGAIN) {
        client_finish(client);
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
    const struct proxy *proxy = client->pool->proxy;
    if (!client->keep_conn || (proxy->draining && proxy->events.hand_over == NULL)) {
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
    } else if (client->request != NULL && client->request->page != NULL) {
        request_send_page(client->request);
    }
    if (!client->closing && client->stream.pending == 0) {
        client_unblock(client, CLIENT_BLOCK_OUTPUT);
    }
}

/* --- input ------------------------------------------------------------------------------------ */

/* After a piece of input: what is to go upstream goes, and a body waits where it is. */
static void client_settle(struct client *client, struct gather *up, int all)
{
    struct request *request = client->request;
    if (request == NULL) {
        if (client->pool->proxy->draining && !client->finishing &&
            fcgi_reader_idle(&client->reader)) {
            client_retire(client, all); /* what was half here when the drain began is complete */
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
        intake_event(client, &ev, &up);
        if (client->request != request) {
            gather_init(&up, NULL); /* no byte of one request's body may reach the next one */
        }
    }
    if (!client->closing) {
        client_settle(client, &up, ev.kind == FCGI_EV_MORE || done == len);
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

/* A client without a connection yet. Returns 0 or UV_E…. */
static int client_make(struct pool *pool, struct client **out)
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
    pool->stats.connections++;
    *out = client;
    return 0;
}

/* Returns 0, or UV_EACCES: then it is closed. */
static int client_start(struct client *client)
{
    struct pool *pool = client->pool;
    if (!address_is_unix(&pool->options->listen)) {
        uv_tcp_nodelay(&client->stream.io.tcp, 1);
        uv_tcp_keepalive(&client->stream.io.tcp, 1, STREAM_TCP_KEEPALIVE);
    }
    if (!client_is_allowed(client)) {
        client_close(client, "its address is not allowed");
        return UV_EACCES;
    }
    pool->stats.accepted++;
    client_update_reading(client);
    return 0;
}

int client_accept(struct pool *pool, uv_stream_t *listener)
{
    struct client *client;
    int rc = client_make(pool, &client);
    if (rc == 0) {
        rc = uv_accept(listener, &client->stream.io.stream);
        if (rc != 0) {
            client_close(client, "not accepted");
            return rc;
        }
        rc = client_start(client);
    }
    return rc;
}

int client_adopt(struct pool *pool, int fd)
{
    struct client *client;
    int domain;
    socklen_t len = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
        domain != pool->options->listen.sa.ss_family) {
        return UV_EINVAL; /* the pool has listened elsewhere before */
    }
    int rc = client_make(pool, &client);
    if (rc == 0) {
        rc = address_is_unix(&pool->options->listen) ? uv_pipe_open(&client->stream.io.pipe, fd)
                                                     : uv_tcp_open(&client->stream.io.tcp, fd);
        if (rc != 0) {
            client_close(client, "not to be opened");
            return rc;
        }
        client->keep_conn = 1;
        client_start(client); /* one that is not allowed any more is closed by it */
    }
    return rc;
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
    int hands = client->pool->proxy->events.hand_over != NULL;
    if (client->request == NULL && !client->finishing && fcgi_reader_idle(&client->reader) &&
        (hands || !client_has_input(client))) {
        client_retire(client, 1);
    }
}

void client_expire(struct client *client)
{
    if (!client->finishing && client->stream.pending == 0 &&
        (client->request == NULL || client->request->state == REQUEST_READING)) {
        client_close(client, "its request did not come in time");
    }
}
