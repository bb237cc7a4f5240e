/*
 * Happy path: a line goes out in one write. Failure modes: the socket is full, for the peer does
 * not read: what did not go waits, in order, until it reads again; more than CHANNEL_QUEUE_MAX
 * waits for nobody: such a peer is stopped or hangs, and the line is dropped whole, which the log
 * says.
 */
#include "deferd/channel.h"

#include "deferd/lines.h"
#include "deferd/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNEL_LINE_MAX 4096

/* Beside what the kernel holds: some thousand lines. */
#define CHANNEL_QUEUE_MAX 65536

/* What the socket did not take at once. */
struct channel_rest {
    uv_write_t write;
    char data[];
};

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

static void channel_on_written(uv_write_t *write, int status)
{
    (void)status; /* if the peer is gone, reading says so */
    free(write->data);
}

/* Has the rest of a line written when the socket takes it. */
static void channel_queue(struct channel *channel, const char *data, size_t len)
{
    uv_stream_t *stream = (uv_stream_t *)&channel->pipe;
    struct channel_rest *rest = malloc(sizeof(*rest) + len);
    if (rest == NULL) {
        return;
    }
    memcpy(rest->data, data, len);
    rest->write.data = rest;
    uv_buf_t buf = uv_buf_init(rest->data, (unsigned)len);
    if (uv_write(&rest->write, stream, &buf, 1, channel_on_written) != 0) {
        free(rest);
    }
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
    uv_stream_t *stream = (uv_stream_t *)&channel->pipe;
    uv_buf_t buf = uv_buf_init(line, (unsigned)len + 1);
    if (uv_stream_get_write_queue_size(stream) + buf.len > CHANNEL_QUEUE_MAX) {
        log_line(LOG_ERROR,
                 "the process at the other end of the channel does not read; not told "
                 "it: %.*s",
                 (int)len, line);
        return;
    }
    int sent = uv_try_write(stream, &buf, 1); /* nothing, if lines wait already */
    if (sent < 0 && sent != UV_EAGAIN) {
        return; /* the peer is gone */
    }
    size_t done = sent > 0 ? (size_t)sent : 0;
    if (done < buf.len) {
        channel_queue(channel, line + done, buf.len - done);
    }
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
