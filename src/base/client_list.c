#include "deferd/client_list.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* One address for both families, so that ::ffff:192.0.2.1 is 192.0.2.1. */
static void client_list_map(struct in6_addr *out, const struct in_addr *in)
{
    memset(out, 0, sizeof(*out));
    out->s6_addr[10] = 0xff;
    out->s6_addr[11] = 0xff;
    memcpy(out->s6_addr + 12, in, sizeof(*in));
}

static int client_list_add(struct client_list *list, const char *text)
{
    struct in_addr in;
    struct in6_addr *out = &list->addresses[list->count];
    if (inet_pton(AF_INET, text, &in) == 1) {
        client_list_map(out, &in);
    } else if (inet_pton(AF_INET6, text, out) != 1) {
        return -1;
    }
    list->count++;
    return 0;
}

int client_list_parse(struct client_list *list, const char *text, char *err, size_t err_size)
{
    struct client_list read = {0};
    char one[INET6_ADDRSTRLEN + 1];
    const char *at = text;
    int more = *at != '\0';
    while (more) {
        at += strspn(at, " \t");
        size_t whole = strcspn(at, ",");
        size_t len = whole;
        while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t')) {
            len--;
        }
        snprintf(one, sizeof(one), "%.*s", (int)(len < sizeof(one) ? len : sizeof(one)), at);
        if (read.count == CLIENT_LIST_MAX || client_list_add(&read, one) != 0) {
            snprintf(err, err_size,
                     "allowed are IPv4 and IPv6 addresses separated by commas, at most %d; \"%s\" "
                     "is none, or one too many",
                     CLIENT_LIST_MAX, one);
            return -1;
        }
        more = at[whole] == ',';
        at += whole + (size_t)more;
    }
    *list = read;
    return 0;
}

void client_list_print(const struct client_list *list, char *out, size_t size)
{
    char text[INET6_ADDRSTRLEN];
    size_t at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < list->count && at < size; i++) {
        const struct in6_addr *address = &list->addresses[i];
        if (IN6_IS_ADDR_V4MAPPED(address)) {
            inet_ntop(AF_INET, address->s6_addr + 12, text, sizeof(text));
        } else {
            inet_ntop(AF_INET6, address, text, sizeof(text));
        }
        at += (size_t)snprintf(out + at, size - at, "%s%s", i > 0 ? "," : "", text);
    }
}

int client_list_allows(const struct client_list *list, const struct sockaddr *peer)
{
    struct in6_addr address;
    if (list->count == 0) {
        return 1;
    }
    if (peer->sa_family == AF_INET6) {
        address = ((const struct sockaddr_in6 *)peer)->sin6_addr;
    } else if (peer->sa_family == AF_INET) {
        client_list_map(&address, &((const struct sockaddr_in *)peer)->sin_addr);
    } else {
        return 0;
    }
    for (unsigned i = 0; i < list->count; i++) {
        if (memcmp(&list->addresses[i], &address, sizeof(address)) == 0) {
            return 1;
        }
    }
    return 0;
}
