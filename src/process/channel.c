#include "deferd/channel.h"

#include "deferd/lines.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNEL_LINE_MAX 4096

struct channel {
    uv_pipe_t pipe;
    struct channel_events events;
    struct lines lines;
    char input[CHANNEL_LINE_MAX];
};

static void channel_on_closed(uv_handle_t *handle)
{
    struct channel *channel = handle->data;
    lines_free(&channel->lines);
    free(channel);
}

void channel_close(struct channel *channel)
{
    uv_close((uv_handle_t *)&channel->pipe, channel_on_closed);
}

static void channel_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct channel *channel = handle->data;
    (void)suggested;
    *buf = uv_buf_init(channel->input, sizeof(channel->input));
}

static void channel_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct channel *channel = stream->data;
    struct lines_event ev = {.kind = LINES_LINE};
    char line[CHANNEL_LINE_MAX];
    size_t at = 0;
    (void)buf;

    if (nread < 0) {
        uv_read_stop(stream);
        channel->events.end(channel->events.arg);
        return;
    }
    while (ev.kind != LINES_MORE && !uv_is_closing((uv_handle_t *)stream)) {
        at += lines_next(&channel->lines, (const uint8_t *)channel->input + at, (size_t)nread - at,
                         CHANNEL_LINE_MAX, &ev);
        if (ev.kind == LINES_LINE) {
            snprintf(line, sizeof(line), "%.*s", (int)ev.len, ev.data);
            channel->events.line(channel->events.arg, line);
        }
    }
}

struct channel *channel_open(uv_loop_t *loop, int fd, const struct channel_events *events)
{
    struct channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return NULL;
    }
    channel->pipe.data = channel;
    channel->events = *events;
    uv_pipe_init(loop, &channel->pipe, 0);
    if (uv_pipe_open(&channel->pipe, fd) != 0 ||
        uv_read_start((uv_stream_t *)&channel->pipe, channel_on_alloc, channel_on_read) != 0) {
        channel_close(channel);
        return NULL;
    }
    return channel;
}

void channel_send(struct channel *channel, const char *format, ...)
{
    char line[CHANNEL_LINE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\n') {
            line[i] = ' ';
        }
    }
    line[len] = '\n';
    uv_buf_t buf = uv_buf_init(line, (unsigned)len + 1);
    uv_try_write((uv_stream_t *)&channel->pipe, &buf, 1);
}

void channel_unref(struct channel *channel)
{
    uv_unref((uv_handle_t *)&channel->pipe);
}

int channel_fd(const struct channel *channel)
{
    int fd = -1;
    uv_fileno((const uv_handle_t *)&channel->pipe, &fd);
    return fd;
}
