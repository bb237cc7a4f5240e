/*
 * Which machines may connect: listen.allowed_clients.
 */
#ifndef DEFERD_CLIENT_LIST_H
#define DEFERD_CLIENT_LIST_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#define CLIENT_LIST_MAX 64

/* Empty, it allows all. */
struct client_list {
    unsigned count;
    struct in6_addr addresses[CLIENT_LIST_MAX]; /* those of IPv4 mapped */
};

/* Reads IPv4 and IPv6 addresses, separated by commas. Returns 0, or -1 with a sentence in err. */
int client_list_parse(struct client_list *list, const char *text, char *err, size_t err_size);

/* Writes it as it is read. */
void client_list_print(const struct client_list *list, char *out, size_t size);

/* May a peer with this address connect? */
int client_list_allows(const struct client_list *list, const struct sockaddr *peer);

#endif
