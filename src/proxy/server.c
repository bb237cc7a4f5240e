#include "deferd/server.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* How often at most a refused connection is worth a line. */
#define SERVER_SAY_MS 1000

/* Something that is worth a line now and then. */
struct server_said {
    uint64_t at;    /* uv_now() of the last line */
    uint64_t count; /* how often it has happened since */
};

struct server {
    struct stream stream;
    struct listener listener;
    struct pool *pool;            /* borrowed */
    struct stream refused;        /* a connection that is taken only to be closed */
    int refusing;                 /* it is open */
    int refuse_next;              /* another one came meanwhile */
    unsigned handles;             /* open libuv handles; freed with the last */
    struct server_said full;      /* connections refused for want of descriptors */
    struct server_said forbidden; /* and for listen.allowed_clients */
};

static void server_refuse(struct server *server);

static void server_on_closed(uv_handle_t *handle)
{
    struct server *server = handle->data;
    server->handles--;
    if (server->handles == 0) {
        free(server);
    }
}

static void server_on_refused(uv_handle_t *handle)
{
    struct server *server = handle->data;
    server->refusing = 0;
    if (server->refuse_next && !uv_is_closing(&server->stream.io.handle)) {
        server->refuse_next = 0;
        server_refuse(server);
    }
    server_on_closed(handle);
}

/* Takes a connection and closes it. libuv accepts no other before somebody takes this one. */
static void server_refuse(struct server *server)
{
    if (server->refusing) {
        server->refuse_next = 1;
        return;
    }
    if (stream_init(&server->refused, server->pool->loop, &server->listener.address, server,
                    NULL) != 0) {
        return;
    }
    server->refusing = 1;
    server->handles++;
    uv_accept(&server->stream.io.stream, &server->refused.io.stream);
    uv_close(&server->refused.io.handle, server_on_refused);
}

/* It has happened once more. Returns how often since the last line, if it is time for one, or 0. */
static unsigned long long server_say(const struct server *server, struct server_said *said)
{
    uint64_t now = uv_now(server->pool->loop);
    said->count++;
    if (said->at != 0 && now - said->at < SERVER_SAY_MS) {
        return 0;
    }
    unsigned long long count = said->count;
    *said = (struct server_said){.at = now};
    return count;
}

static void server_on_connection(uv_stream_t *stream, int status)
{
    struct server *server = stream->data;
    int rc = status != 0 ? status : client_accept(server->pool, stream);
    unsigned long long count;
    if (rc == 0) {
        return;
    }
    server->pool->stats.refused++;
    if (status == 0 && rc == UV_EACCES) {
        count = server_say(server, &server->forbidden);
        if (count > 0) {
            log_line(LOG_WARNING,
                     "%s: closed %llu connection(s) of machines that are not in "
                     "listen.allowed_clients, the last one of %s",
                     server->listener.address.text, count, server->pool->forbidden);
        }
        return;
    }
    count = server_say(server, &server->full);
    if (count > 0) {
        log_line(
            LOG_ERROR,
            "%s: refused %llu connection(s): %s; %llu are open, at most %llu may be (raise the "
            "limit of open files)",
            server->listener.address.text, count, uv_strerror(rc),
            (unsigned long long)server->pool->proxy->client_count,
            (unsigned long long)server->pool->proxy->max_conns);
    }
    if (status == 0) {
        server_refuse(server);
    }
}

static int server_listen(struct server *server)
{
    int fd = server->listener.fd;
    int rc = address_is_unix(&server->listener.address) ? uv_pipe_open(&server->stream.io.pipe, fd)
                                                        : uv_tcp_open(&server->stream.io.tcp, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return uv_listen(&server->stream.io.stream, (int)server->pool->options->listen_backlog,
                     server_on_connection);
}

struct server *server_open(struct pool *pool, const struct listener *listener, char *err,
                           size_t err_size)
{
    struct server *server = calloc(1, sizeof(*server));
    int rc = server != NULL
                 ? stream_init(&server->stream, pool->loop, &listener->address, server, NULL)
                 : UV_ENOMEM;
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", listener->address.text, uv_strerror(rc));
        address_unlink(listener);
        close(listener->fd);
        free(server);
        return NULL;
    }
    server->pool = pool;
    server->listener = *listener;
    server->handles = 1;
    rc = server_listen(server);
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", server->listener.address.text,
                 uv_strerror(rc));
        server_close(server);
        return NULL;
    }
    return server;
}

const char *server_address(const struct server *server)
{
    return server->listener.address.text;
}

void server_close(struct server *server)
{
    address_unlink(&server->listener);
    uv_close(&server->stream.io.handle, server_on_closed);
}
