/*
 * A connection to php-fpm, for one request.
 */
#ifndef DEFERD_UPSTREAM_H
#define DEFERD_UPSTREAM_H

#include "deferd/fcgi.h"
#include "deferd/stream.h"

struct pool;
struct request;

struct upstream {
    struct stream stream;
    struct pool *pool;       /* borrowed */
    struct request *request; /* borrowed; NULL once it has ended: then the connection closes */
    uv_connect_t connect;
    struct fcgi_reader reader;
    uint8_t end_body[8]; /* END_REQUEST's content */
    uint8_t end_have;
    uint8_t connected;
    uint8_t paused; /* not read from, because the client is slow */
    uint8_t broken; /* a write failed: no more is written, what the peer sent is still read */
};

/* Connects for the request. Returns 0: *out is set and either already connected, or
 * request_connected or request_connect_failed will be called; or UV_EAGAIN: the backlog is full; or
 * another UV_E…. On error there is no connection. */
int upstream_open(struct pool *pool, struct request *request, struct upstream **out);

/* Stops and resumes reading. */
void upstream_pause(struct upstream *upstream);
void upstream_resume(struct upstream *upstream);

/* No more of the request's body will come: ends it early, so that the worker does not wait for the
 * rest (fact 14). */
void upstream_cut_body(struct upstream *upstream);

/* Closes and frees the connection; its request hears nothing more. */
void upstream_close(struct upstream *upstream);

#endif
