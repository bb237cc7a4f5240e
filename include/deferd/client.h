/*
 * A web server's connection: a FastCGI responder's side of the protocol, one request at a time.
 */
#ifndef DEFERD_CLIENT_H
#define DEFERD_CLIENT_H

#include "deferd/buf.h"
#include "deferd/fcgi.h"
#include "deferd/stream.h"

#include <stdint.h>

struct pool;
struct request;

/* Why a client is not read from. */
enum client_block {
    CLIENT_BLOCK_QUEUED = 1, /* its request has a body and no worker yet: it stays in the kernel */
    CLIENT_BLOCK_UPLOAD = 2, /* the upstream does not take the body as fast */
    CLIENT_BLOCK_OUTPUT = 4, /* it does not take what it was sent */
};

struct watch;

struct client {
    struct stream stream;
    uint64_t id;                /* for logs; unique in this process */
    struct pool *pool;          /* borrowed */
    struct client *prev, *next; /* pool->clients */
    struct request *request;    /* the current one; NULL between requests */
    struct fcgi_reader reader;
    struct buf assembled; /* content of a short record that is arriving */
    struct buf held;      /* input read but not yet worked through, while blocked */
    struct watch *watch;  /* looks for the peer's end while it is not read from */
    uv_timer_t *linger;   /* bounds the wait for the peer's end after the last response */
    unsigned blocked;     /* enum client_block */
    uint8_t keep_conn;    /* of the current or last request */
    uint8_t leftover;     /* records of a refused or answered request may still arrive; skipped */
    uint8_t consuming;    /* input is being worked through further up the stack */
    uint8_t reading;      /* the stream is read from */
    uint8_t finishing;    /* no further request; close when all is written */
    uint8_t closing;
};

/* Takes a connection from this listening stream. Returns 0; UV_EACCES: listen.allowed_clients
 * forbids it, it is closed; UV_EMFILE beyond proxy->max_conns or another UV_E…, then the connection
 * is still the stream's. */
int client_accept(struct pool *pool, uv_stream_t *listener);

/* Takes a connection that another process had. Returns 0, or UV_E…, then it is still the caller's.
 */
int client_adopt(struct pool *pool, int fd);

/* The current request moved on to RUNNING: its head and body may go upstream. */
void client_request_runs(struct client *client);

/* The upstream took what it was slow to take. */
void client_upload_drained(struct client *client);

/* Hands the client what was collected for it. If it is gone, its request is cancelled: then, and
 * only then, the result is not 0. */
int client_flush(struct client *client, struct gather *down);

/* The current request is over for the client: flushes what was collected, END_REQUEST last, and
 * goes on to the next request or the connection's end. */
void client_request_ended(struct client *client, struct gather *down);

/* The current request broke in the middle of its response: closes without END_REQUEST. */
void client_request_broke(struct client *client);

/* Closes the connection; its request, if any, is cancelled. why is logged. */
void client_close(struct client *client, const char *why);

/* No more requests: closes as soon as everything is written. */
void client_finish(struct client *client);

/* Closes it, or hands it on, if there is no request; otherwise after it. May be called again. */
void client_drain(struct client *client);

/* Some time after client_drain: closes if its request has still not come completely. */
void client_expire(struct client *client);

#endif
