/*
 * The listening socket of a pool.
 */
#ifndef DEFERD_SERVER_H
#define DEFERD_SERVER_H

#include "deferd/address.h"

#include <stddef.h>

struct pool;
struct server;

/* Listens on a bound socket, which it takes over: each connection becomes a client of the pool.
 * Returns the server, or NULL with a sentence in err; then the socket is closed, its file removed.
 */
struct server *server_open(struct pool *pool, const struct listener *listener, char *err,
                           size_t err_size);

/* The address it listens on, with the real port; borrowed. */
const char *server_address(const struct server *server);

/* Stops listening, removes the socket file, frees the server. */
void server_close(struct server *server);

#endif
