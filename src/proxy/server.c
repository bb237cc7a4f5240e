#include "deferd/server.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* As php-fpm's default; the kernel caps it at net.core.somaxconn. */
#define SERVER_BACKLOG 511

struct server {
    struct stream stream;
    struct listener listener;
    struct pool *pool; /* borrowed */
};

static void server_on_connection(uv_stream_t *stream, int status)
{
    const struct server *server = stream->data;
    int rc = status != 0 ? status : client_accept(server->pool, stream);
    if (rc != 0) {
        log_line(LOG_ERROR, "cannot accept a connection on %s: %s", server->listener.address.text,
                 uv_strerror(rc));
    }
}

static void server_on_closed(uv_handle_t *handle)
{
    free(handle->data);
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
    return uv_listen(&server->stream.io.stream, SERVER_BACKLOG, server_on_connection);
}

struct server *server_open(struct pool *pool, char *err, size_t err_size)
{
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        snprintf(err, err_size, "no memory");
        return NULL;
    }
    server->pool = pool;
    if (address_bind(&server->listener, &pool->options->listen, pool->options->listen_mode, err,
                     err_size) != 0) {
        free(server);
        return NULL;
    }
    int rc = stream_init(&server->stream, pool->loop, &pool->options->listen, server, NULL);
    if (rc != 0) {
        close(server->listener.fd);
        address_unlink(&server->listener);
        free(server);
        snprintf(err, err_size, "cannot listen: %s", uv_strerror(rc));
        return NULL;
    }
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
