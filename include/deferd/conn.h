/*
 * A connection to php-fpm. It serves one request at a time, and may be kept for the next one when
 * the barrier behind the request has been answered (fact 9).
 */
#ifndef DEFERD_CONN_H
#define DEFERD_CONN_H

#include "deferd/fcgi.h"
#include "deferd/stream.h"

struct request;
struct upstream;

struct conn {
    struct stream stream;
    struct upstream *upstream; /* borrowed */
    struct request *request;   /* borrowed; NULL while idle, asking or closing */
    struct conn *prev, *next;  /* upstream->idle, or upstream->untaken */
    uint64_t idle_since;       /* uv_now() */
    uv_connect_t connect;
    struct fcgi_reader reader;
    size_t unread;       /* input behind the record that is being worked through */
    uint8_t end_body[8]; /* END_REQUEST's content */
    uint8_t end_have;
    uint8_t connected;
    uint8_t paused;  /* not read from, because the client is slow */
    uint8_t broken;  /* a write failed: no more is written, what the peer sent is still read */
    uint8_t front;   /* barriers in front of the request that are not answered */
    uint8_t untaken; /* nothing told yet that php-fpm has read the request behind them */
    uint8_t listed;  /* in upstream->untaken */
    uint8_t behind;  /* the barrier behind it is not answered */
    uint8_t ended;   /* END_REQUEST came: what comes before the barrier's answer is dropped */
    uint8_t asking;  /* answers still expected by upstream_ask */
    uint8_t kept;    /* the request was sent with KEEP_CONN and a barrier behind it */
    uint8_t idle;
    uint8_t again; /* it was idle before */
};

/* Gives the request a connection: one that is idle, or a new one. Returns 0: *out is set and either
 * connected, or request_connected or request_connect_failed will be called; or UV_EAGAIN: the
 * backlog is full; or another UV_E…. On error there is no connection. */
int conn_open(struct upstream *upstream, struct request *request, struct conn **out);

/* Opens a connection that asks whether its peer survives GET_VALUES; tells upstream->barrier.
 * Returns 0 or UV_E…. */
int conn_ask(struct upstream *upstream);

/* Collects the barriers that belong in front of a request, and expects their answers. */
void conn_put_front(struct conn *conn, struct gather *up);

/* Collects a barrier. */
void conn_put_barrier(struct gather *up);

/* May the request still be left unread? Then nothing is to be sent behind it. */
int conn_in_front(const struct conn *conn);

/* Looks again whether its request was read; called by the upstream. */
void conn_look(struct conn *conn);

/* Stops and resumes reading. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* No more of the request's body will come: ends it early, so that the worker does not wait for the
 * rest (fact 14). */
void conn_cut_body(struct conn *conn);

/* The request is done with; the connection is kept if it can be used again, and closed otherwise.
 * The request hears nothing more. */
void conn_release(struct conn *conn);

/* Closes and frees the connection; its request hears nothing more. */
void conn_close(struct conn *conn);

#endif
