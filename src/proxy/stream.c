#include "deferd/stream.h"

#include <stdlib.h>
#include <string.h>

/* Bytes the socket did not take, with the request that writes them later. */
struct stream_rest {
    uv_write_t req;
    size_t len;
    char data[];
};

int stream_init(struct stream *stream, uv_loop_t *loop, const struct address *address, void *data,
                stream_drained_cb drained)
{
    int rc = address_is_unix(address) ? uv_pipe_init(loop, &stream->io.pipe, 0)
                                      : uv_tcp_init(loop, &stream->io.tcp);
    if (rc == 0) {
        stream->io.handle.data = data;
        stream->drained = drained;
    }
    return rc;
}

static void stream_on_written(uv_write_t *req, int status)
{
    struct stream_rest *rest = (struct stream_rest *)req;
    struct stream *stream = req->data;
    stream->pending -= rest->len;
    free(rest);
    if (status == UV_ECANCELED) {
        return; /* the owner closed the stream */
    }
    if (status < 0 || stream->pending == 0) {
        stream->drained(stream, status);
    }
}

/* Copies all but the first done bytes and has libuv write them when the socket can take them. */
static int stream_write_later(struct stream *stream, const uv_buf_t *bufs, unsigned count,
                              size_t total, size_t done)
{
    struct stream_rest *rest = malloc(sizeof(*rest) + total - done);
    if (rest == NULL) {
        return UV_ENOMEM;
    }
    rest->len = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t skip = done < bufs[i].len ? done : bufs[i].len;
        done -= skip;
        memcpy(rest->data + rest->len, bufs[i].base + skip, bufs[i].len - skip);
        rest->len += bufs[i].len - skip;
    }
    uv_buf_t buf = uv_buf_init(rest->data, (unsigned)rest->len);
    rest->req.data = stream;
    stream->pending += rest->len;
    int rc = uv_write(&rest->req, &stream->io.stream, &buf, 1, stream_on_written);
    if (rc != 0) {
        stream->pending -= rest->len;
        free(rest);
    }
    return rc;
}

int stream_write(struct stream *stream, const uv_buf_t *bufs, unsigned count)
{
    size_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        total += bufs[i].len;
    }
    int done = stream->pending > 0 ? UV_EAGAIN : uv_try_write(&stream->io.stream, bufs, count);
    if (done == UV_EAGAIN) {
        done = 0;
    }
    if (done < 0 || (size_t)done == total) {
        return done < 0 ? done : 0;
    }
    return stream_write_later(stream, bufs, count, total, (size_t)done);
}

static void stream_on_shutdown(uv_shutdown_t *shutdown, int status)
{
    (void)status;
    free(shutdown);
}

int stream_shutdown(struct stream *stream)
{
    uv_shutdown_t *shutdown = malloc(sizeof(*shutdown));
    if (shutdown == NULL) {
        return UV_ENOMEM;
    }
    int rc = uv_shutdown(shutdown, &stream->io.stream, stream_on_shutdown);
    if (rc != 0) {
        free(shutdown);
    }
    return rc;
}

void gather_init(struct gather *gather, struct stream *to)
{
    gather->to = to;
    gather->error = 0;
    gather->bufs_used = 0;
    gather->records_used = 0;
}

/* Makes room for one record: two slices and one header. */
static void gather_make_room(struct gather *gather)
{
    if (gather->bufs_used + 2 > GATHER_BUFS || gather->records_used == GATHER_RECORDS) {
        gather_flush(gather);
    }
}

static void gather_push(struct gather *gather, const void *data, size_t len)
{
    /* libuv's buffers are not const, but a write only reads them. */
    gather->bufs[gather->bufs_used++] = uv_buf_init((char *)data, (unsigned)len);
}

void gather_bytes(struct gather *gather, const void *data, size_t len)
{
    gather_make_room(gather);
    gather_push(gather, data, len);
}

void gather_record(struct gather *gather, uint8_t type, uint16_t id, const void *data, size_t len)
{
    gather_make_room(gather);
    uint8_t *header = gather->records[gather->records_used++];
    fcgi_put_header(header, type, id, (uint16_t)len, 0);
    gather_push(gather, header, FCGI_HEADER_LEN);
    if (len > 0) {
        gather_push(gather, data, len);
    }
}

void gather_end_request(struct gather *gather, uint16_t id, uint32_t app_status,
                        uint8_t protocol_status)
{
    gather_make_room(gather);
    uint8_t *record = gather->records[gather->records_used++];
    fcgi_put_end(record, id, app_status, protocol_status);
    gather_push(gather, record, FCGI_SHORT_RECORD);
}

int gather_flush(struct gather *gather)
{
    if (gather->bufs_used > 0 && gather->to != NULL && gather->error == 0) {
        gather->error = stream_write(gather->to, gather->bufs, gather->bufs_used);
    }
    gather->bufs_used = 0;
    gather->records_used = 0;
    return gather->error;
}

int gather_take(struct gather *gather, struct buf *buf)
{
    size_t total = 0;
    for (unsigned i = 0; i < gather->bufs_used; i++) {
        total += gather->bufs[i].len;
    }
    if (buf_reserve(buf, total) != 0) {
        return UV_ENOMEM;
    }
    for (unsigned i = 0; i < gather->bufs_used; i++) {
        buf_append(buf, gather->bufs[i].base, gather->bufs[i].len);
    }
    gather->bufs_used = 0;
    gather->records_used = 0;
    return 0;
}
