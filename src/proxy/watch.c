/*
 * Happy path: nothing; or EPOLLRDHUP, then the callback. libuv allows one handle a descriptor, so
 * this one has a duplicate. Failure mode: no descriptor is left for it, then there is no watch.
 */
#include "deferd/watch.h"

#include <stdlib.h>
#include <unistd.h>

struct watch {
    uv_poll_t poll;
    int fd; /* owned */
    watch_cb cb;
    void *arg;
};

static void watch_on_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    close(watch->fd);
    free(watch);
}

static void watch_on_end(uv_poll_t *poll, int status, int events)
{
    const struct watch *watch = poll->data;
    (void)events;
    watch->cb(watch->arg, status);
}

struct watch *watch_open(const uv_handle_t *stream, watch_cb cb, void *arg)
{
    int fd;
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL || uv_fileno(stream, &fd) != 0) {
        free(watch);
        return NULL;
    }
    watch->fd = dup(fd);
    if (watch->fd < 0) {
        free(watch);
        return NULL;
    }
    if (uv_poll_init(stream->loop, &watch->poll, watch->fd) != 0) {
        close(watch->fd);
        free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->cb = cb;
    watch->arg = arg;
    uv_poll_start(&watch->poll, UV_DISCONNECT, watch_on_end);
    return watch;
}

void watch_close(struct watch *watch)
{
    uv_close((uv_handle_t *)&watch->poll, watch_on_closed);
}
