/*
 * One request, from its first record to the end of its deferred phase. Where it stands is its
 * state; ARCHITECTURE.md draws the way.
 */
#ifndef DEFERD_REQUEST_H
#define DEFERD_REQUEST_H

#include "deferd/buf.h"
#include "deferd/cgi.h"
#include "deferd/deferral.h"
#include "deferd/head.h"
#include "deferd/marker.h"
#include "deferd/stream.h"

#include <stdint.h>

struct client;
struct conn;
struct page;
struct pool;
struct queue_class;
struct upstream;

enum request_state {
    REQUEST_READING,    /* its params are arriving */
    REQUEST_QUEUED,     /* it waits for a worker slot */
    REQUEST_CONNECTING, /* it holds a slot; the upstream connection is being made */
    REQUEST_RUNNING,    /* it holds a slot; the client waits for the response */
    REQUEST_HELD,       /* as DEFERRED, but too many are: its response's end is held back */
    REQUEST_DEFERRED,   /* it holds a slot; the client has its response */
    REQUEST_ANSWERING,  /* deferd answers it itself: its page goes out as the client takes it */
    REQUEST_ENDED,      /* nothing is left but to free it */
};

struct request {
    enum request_state state;
    uint64_t id;                 /* deferd's own, for logs; unique in this process */
    uint16_t fcgi_id;            /* the web server's */
    struct pool *pool;           /* borrowed */
    struct client *client;       /* borrowed; NULL once it is answered or gone */
    struct queue_class *class;   /* borrowed */
    struct upstream *upstream;   /* borrowed; the one of its slot, NULL without a slot */
    struct conn *conn;           /* from dispatch on; closes itself */
    struct request *prev, *next; /* pool->requests */
    struct request *queue_prev, *queue_next; /* class->waiting, or pool->held */
    struct request *phase_prev, *phase_next; /* pool->phases */

    struct head head;
    long long body; /* bytes of STDIN seen so far */
    uint64_t tried; /* upstreams that could not be connected, a bit each */
    uint8_t queued; /* it is in class->waiting; kept by the queue */
    uint8_t stdin_done;
    uint8_t stdin_sent; /* the empty STDIN record went upstream */
    uint8_t head_sent;
    uint8_t tries; /* how often its connection was lost, and it was sent again */
    uint8_t heard; /* something of a response came */

    uint8_t cgi_done; /* the response's header block is complete and went to the client */
    uint8_t marker_seen;
    uint8_t over;     /* the application's END_REQUEST came */
    uint8_t in_phase; /* it is in pool->phases */
    uint8_t marked;   /* its phase began with the marker; kept for the pool's statistics */
    uint8_t placed;   /* it has one of the places of defer.max_workers */
    int status;       /* HTTP status of the response, 0 before there is one */
    struct cgi_head cgi;
    struct buf held; /* response bytes kept back until the header block is complete, or, in
                        REQUEST_HELD, the records up to END_REQUEST */
    struct marker marker;
    struct deferral deferral;
    struct buf note; /* what the layer above wants to know of it later */

    char stop_key[17];   /* the random part of its stop file's name, empty without one */
    uint8_t stop;        /* enum stop_state */
    uint8_t stop_before; /* what it was before it was STOP_FORCED */
    int pidfd;           /* of its worker, taken at the begin report; 0 without one */

    uint64_t submitted;  /* uv_hrtime() when the params were complete, */
    uint64_t dispatched; /* when it got its slot, */
    uint64_t answered;   /* when the client got END_REQUEST, */
    uint64_t deferred;   /* and when its deferred phase began; 0 before */
    uint64_t ended;      /* when all was over */

    struct page *page; /* in REQUEST_ANSWERING: a reference, */
    size_t page_at;    /* and how much of it has gone */
};

/* The way in; called by the client. */

/* A request begins. NULL without memory. */
struct request *request_open(struct pool *pool, struct client *client, uint16_t fcgi_id);

/* The params are complete: the request is ready for the queue. Returns 0 or what head_end
 * returned, or UV_EIO without random bytes. */
int request_params_end(struct request *request);

/* Is it for one of deferd's own pages? Then it is answered here, at once, whatever the workers do,
 * and may be gone; the result is not 0. */
int request_answer(struct request *request);

/* The client took what there was of the page: sends on. May free the request. */
void request_send_page(struct request *request);

/* May its body go upstream now? */
int request_takes_body(const struct request *request);

/* Body arrives, for a request that takes it; collected for its upstream connection. */
void request_body(struct request *request, const uint8_t *data, size_t len, struct gather *up);

/* Writes what is to go upstream now: the head if it has not gone, what body was collected, and the
 * body's end. */
void request_flush(struct request *request, struct gather *up);

/* The web server gave the request up, or is gone. Frees it, unless it is in its deferred phase. */
void request_cancel(struct request *request, const char *why);

/* The way through; called by the pool. */

/* Goes to a worker of request->upstream. Returns 0; or UV_EAGAIN: its backlog is full, or another
 * UV_E…: it cannot be connected; the request is queued as before. */
int request_dispatch(struct request *request);

/* Too many phases were under way; now there is a place. */
void request_place(struct request *request);

/* Is it in its deferred phase? */
int request_in_phase(const struct request *request);

/* Its time in the queue, or in the deferred phase, is up. Frees it. */
void request_queue_timeout(struct request *request);
void request_defer_timeout(struct request *request);

/* Answers in the application's stead with an error page, closes the upstream connection, if any,
 * and frees the request. Nothing of a response may have gone to the client. retry_after: seconds,
 * 0 for none. */
void request_refuse(struct request *request, int status, const char *text, unsigned retry_after,
                    enum outcome outcome);

/* Logs that the process ends before the request does. */
void request_log_cut(const struct request *request);

/* The way out; called by the connection. */

void request_connected(struct request *request);
void request_connect_failed(struct request *request, int error);

/* The barrier in front of it is answered: php-fpm reads it. */
void request_acknowledged(struct request *request);

/* END_REQUEST. May free the request. */
void request_conn_end(struct request *request, uint32_t app_status, uint8_t protocol_status,
                      struct gather *down);

/* The barrier behind it is answered: the worker is free. Frees the request. */
void request_conn_free(struct request *request);

/* The connection ended or broke: why is a sentence. Queues the request again if it provably did
 * not run or may run twice; otherwise frees it. */
void request_conn_lost(struct request *request, const char *why);

/* Called by the response: it is complete; the deferred phase begins. */
void request_complete(struct request *request, struct gather *down);

#endif
