/*
 * A listener for Prometheus alone: plain HTTP/1.1, GET /metrics, a connection for each request.
 */
#ifndef DEFERD_HTTP_H
#define DEFERD_HTTP_H

#include "deferd/address.h"
#include "deferd/status.h"

#include <stddef.h>

/* Connections at once; beyond that the oldest that is not being answered yet goes. */
#define HTTP_CONNS_MAX 32

/* The longest request. */
#define HTTP_REQUEST_MAX 4096

/* How long a connection may take in all. */
#define HTTP_TIME_MS 10000

struct http;

/* Listens on a bound socket, which it takes over. It is no reason for the loop to go on. Returns
 * NULL with a sentence in err; then the socket is closed, its file removed. */
struct http *http_open(uv_loop_t *loop, struct status *status, const struct listener *listener,
                       char *err, size_t err_size);

/* The address it listens on, with the real port; borrowed. */
const char *http_address(const struct http *http);

/* Listens no more; who is being answered still is. */
void http_stop(struct http *http);

/* Closes everything and frees it, when the loop has run once more. */
void http_close(struct http *http);

#endif
