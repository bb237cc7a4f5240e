/*
 * One connection's stream, unix or TCP, and writing to it: what the socket takes at once is written
 * from where it lies; only what it does not take is copied and kept until it does.
 *
 * Happy path: gather_…() collects records and slices of the caller's buffer, gather_flush() hands
 * them to the kernel in one system call. Failure modes: the socket is full, then stream->pending is
 * not 0 until the drained callback, and whoever produces the bytes must stop; the peer is gone,
 * then the call or the callback carries a UV_E… and the owner closes.
 */
#ifndef DEFERD_STREAM_H
#define DEFERD_STREAM_H

#include "deferd/address.h"
#include "deferd/buf.h"
#include "deferd/fcgi.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* Seconds after which a silent TCP peer is asked whether it is still there: one whose machine died
 * must not hold a worker slot, or a descriptor, for ever. */
#define STREAM_TCP_KEEPALIVE 60

struct stream;

/* status 0: all pending bytes are written; otherwise UV_E…: the peer is gone. */
typedef void (*stream_drained_cb)(struct stream *stream, int status);

struct stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } io;
    size_t pending; /* bytes copied and not yet taken by the socket */
    stream_drained_cb drained;
};

/* Initialises io for a socket of this address's kind. data is what io.handle.data will be. */
int stream_init(struct stream *stream, uv_loop_t *loop, const struct address *address, void *data,
                stream_drained_cb drained);

/* Writes bufs; what does not go at once is copied. Returns 0, or UV_E… if the peer is gone or
 * there is no memory. */
int stream_write(struct stream *stream, const uv_buf_t *bufs, unsigned count);

/* Ends the sending side once all that is pending is written. Returns 0 or UV_E…. */
int stream_shutdown(struct stream *stream);

#define GATHER_BUFS    64
#define GATHER_RECORDS 32

/* Output collected for one stream while one piece of input is worked through; lives on the stack.
 * What it points at must stay in place until the flush. */
struct gather {
    struct stream *to; /* borrowed; NULL drops everything */
    int error;         /* the first UV_E… of a write */
    unsigned bufs_used;
    unsigned records_used;
    uv_buf_t bufs[GATHER_BUFS];
    uint8_t records[GATHER_RECORDS][FCGI_SHORT_RECORD];
};

void gather_init(struct gather *gather, struct stream *to);

/* Bytes as they are. */
void gather_bytes(struct gather *gather, const void *data, size_t len);

/* A record with this content, which must not be longer than 65,535 bytes. */
void gather_record(struct gather *gather, uint8_t type, uint16_t id, const void *data, size_t len);

void gather_end_request(struct gather *gather, uint16_t id, uint32_t app_status,
                        uint8_t protocol_status);

/* Copies what was collected to the end of buf instead of writing it. Returns 0 or UV_ENOMEM, then
 * nothing has changed. */
int gather_take(struct gather *gather, struct buf *buf);

/* Writes what was collected. Returns gather->error. */
int gather_flush(struct gather *gather);

#endif
