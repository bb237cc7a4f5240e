/*
 * One request, from its first record to the end of its deferred phase. Where it stands is its
 * state; ARCHITECTURE.md draws the way.
 */
#ifndef DEFERD_REQUEST_H
#define DEFERD_REQUEST_H

#include "deferd/buf.h"
#include "deferd/cgi.h"
#include "deferd/deferral.h"
#include "deferd/marker.h"
#include "deferd/stream.h"

#include <stdint.h>

struct client;
struct pool;
struct upstream;

enum request_state {
    REQUEST_READING,    /* its params are arriving */
    REQUEST_QUEUED,     /* it waits for a worker slot */
    REQUEST_CONNECTING, /* it holds a slot; the upstream connection is being made */
    REQUEST_RUNNING,    /* it holds a slot; the client waits for the response */
    REQUEST_DEFERRED,   /* it holds a slot; the client has its response */
    REQUEST_ENDED,      /* nothing is left but to free it */
};

/* Bytes within a buffer. */
struct slice {
    const uint8_t *data; /* borrowed from the buffer */
    size_t len;
};

struct request {
    enum request_state state;
    uint64_t id;                             /* deferd's own, for logs; unique in this process */
    uint16_t fcgi_id;                        /* the web server's */
    struct pool *pool;                       /* borrowed */
    struct client *client;                   /* borrowed; NULL once it is answered or gone */
    struct upstream *upstream;               /* from dispatch to the end; closes itself */
    struct request *prev, *next;             /* pool->requests */
    struct request *queue_prev, *queue_next; /* pool->queue */

    struct buf head;          /* the records up to the empty PARAMS, as they go upstream; in the
                                 deferred phase only what method and uri point at */
    struct slice method;      /* in head */
    struct slice uri;         /* in head */
    long long content_length; /* -1 if there is none */
    long long body;           /* bytes of STDIN seen so far */
    uint8_t params_done;
    uint8_t stdin_done;
    uint8_t stdin_sent; /* the empty STDIN record went upstream */
    uint8_t head_sent;
    uint8_t is_head; /* HEAD: the response ends with its header block */

    uint8_t cgi_done; /* the response's header block is complete and went to the client */
    uint8_t marker_seen;
    int status; /* HTTP status of the response, 0 before there is one */
    struct cgi_head cgi;
    struct buf held; /* response bytes kept back until the header block is complete */
    struct marker marker;
    struct deferral deferral;

    uint64_t submitted;  /* uv_hrtime() when the params were complete, */
    uint64_t dispatched; /* when it got its slot, */
    uint64_t answered;   /* and when the client got END_REQUEST; 0 before */
};

/* The way in; called by the client. */

/* A request begins. NULL without memory. */
struct request *request_open(struct pool *pool, struct client *client, uint16_t fcgi_id);

/* Params arrive. Returns 0; UV_E2BIG beyond the limit; UV_ENOMEM. */
int request_params(struct request *request, const uint8_t *data, size_t len);

/* The params are complete. Returns 0, or UV_E2BIG if a single one is too long for any record,
 * UV_EINVAL if they are malformed, another UV_E… without memory or random bytes. */
int request_params_end(struct request *request);

/* Body arrives, for a request that is running; collected for its upstream connection. */
void request_body(struct request *request, const uint8_t *data, size_t len, struct gather *up);

/* Writes what is to go upstream now: the head if it has not gone, what body was collected, and the
 * body's end. */
void request_flush(struct request *request, struct gather *up);

/* The web server gave the request up, or is gone. Not for an answered request. Frees it. */
void request_cancel(struct request *request, const char *why);

/* The way through; called by the pool. */

/* Takes a slot: connects. Returns 0; UV_EAGAIN if the upstream's backlog is full, the request is
 * queued as before. Any other failure is answered, and 0 returned. */
int request_dispatch(struct request *request);

/* The way out; called by the upstream connection. */

void request_connected(struct request *request);
void request_connect_failed(struct request *request, int error);

/* The upstream's END_REQUEST. Frees the request. */
void request_upstream_end(struct request *request, uint32_t app_status, uint8_t protocol_status,
                          struct gather *down);

/* The upstream connection ended or broke: why is a sentence. Frees the request. */
void request_upstream_lost(struct request *request, const char *why);

/* Called by the response, and request_refuse by the client too. */

/* The response is complete: collects END_REQUEST and flushes; the deferred phase begins. */
void request_answered(struct request *request, struct gather *down);

/* Answers in the application's stead with an error page, closes the upstream connection, if any,
 * and frees the request. Nothing of a response may have gone to the client. outcome is for the
 * log. */
void request_refuse(struct request *request, int status, const char *text, const char *outcome);

#endif
