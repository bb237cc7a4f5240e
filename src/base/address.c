#include "deferd/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int address_parse_unix(struct address *address, const char *path, char *err, size_t err_size)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)&address->sa;
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(sun->sun_path)) {
        snprintf(err, err_size, "allowed is a path of 1 to %zu bytes; \"%.200s\" has %zu",
                 sizeof(sun->sun_path) - 1, path, len);
        return -1;
    }
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path, path, len + 1);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    snprintf(address->text, sizeof(address->text), "unix:%s", path);
    return 0;
}

/* Splits HOST:PORT or [V6]:PORT. */
static int address_split(const char *text, char *host, size_t host_size, const char **port)
{
    const char *colon = strrchr(text, ':');
    const char *begin = text;
    const char *end = colon;
    if (colon == NULL) {
        return -1;
    }
    if (text[0] == '[') {
        begin = text + 1;
        end = colon - 1;
        if (end <= begin || *end != ']') {
            return -1;
        }
    } else if (memchr(text, ':', (size_t)(colon - text)) != NULL) {
        return -1; /* an IPv6 address without brackets */
    }
    size_t len = (size_t)(end - begin);
    char *rest;
    errno = 0;
    unsigned long number = strtoul(colon + 1, &rest, 10);
    if (len == 0 || len >= host_size || colon[1] < '0' || colon[1] > '9' || *rest != '\0' ||
        errno != 0 || number > 65535) {
        return -1;
    }
    memcpy(host, begin, len);
    host[len] = '\0';
    *port = colon + 1;
    return 0;
}

/* Looks HOST:PORT up, with these AI_… flags. Fills sa and len. */
static int address_look_up(struct address *address, const char *text, int flags, char *host,
                           size_t host_size, const char **port, char *err, size_t err_size)
{
    struct addrinfo hints = {.ai_flags = flags, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;

    if (address_split(text, host, host_size, port) != 0) {
        snprintf(err, err_size,
                 "allowed is a path, unix:PATH, HOST:PORT or [V6]:PORT; \"%.200s\" is none", text);
        return -1;
    }
    int rc = getaddrinfo(host, *port, &hints, &found);
    if (rc != 0) {
        snprintf(err, err_size, "allowed is a host that is known; \"%s\": %s", host,
                 gai_strerror(rc));
        return -1;
    }
    memcpy(&address->sa, found->ai_addr, found->ai_addrlen);
    address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int address_parse_inet(struct address *address, const char *text, char *err, size_t err_size)
{
    char host[ADDRESS_TEXT_MAX - 16];
    const char *port;
    char name[ADDRESS_TEXT_MAX];
    const char *known = strchr(text, '=');
    if (address_look_up(address, known != NULL ? known + 1 : text,
                        known != NULL ? AI_NUMERICHOST : 0, host, sizeof(host), &port, err,
                        err_size) != 0) {
        return -1;
    }
    if (known != NULL) {
        snprintf(name, sizeof(name), "%.*s", (int)(known - text), text);
        text = name;
        if (address_split(text, host, sizeof(host), &port) != 0) {
            snprintf(err, err_size, "allowed is HOST:PORT=IP:PORT; \"%.200s\" is none", text);
            return -1;
        }
    }
    snprintf(address->text, sizeof(address->text), text[0] == '[' ? "[%s]:%s" : "%s:%s", host,
             port);
    return 0;
}

int address_parse(struct address *address, const char *text, char *err, size_t err_size)
{
    *address = (struct address){0};
    if (strncmp(text, "unix:", 5) == 0) {
        return address_parse_unix(address, text + 5, err, err_size);
    }
    if (strchr(text, '/') != NULL) {
        return address_parse_unix(address, text, err, err_size);
    }
    return address_parse_inet(address, text, err, err_size);
}

/* The numbers of an IP address. Returns 0 or -1. */
static int address_numbers(const struct address *address, char *out, size_t size)
{
    char host[ADDRESS_TEXT_MAX - 16];
    char port[8];
    if (getnameinfo((const struct sockaddr *)&address->sa, address->len, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return -1;
    }
    snprintf(out, size, address->sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return 0;
}

void address_print_resolved(const struct address *address, char *out, size_t size)
{
    char numbers[ADDRESS_TEXT_MAX];
    if (address->len == 0 || address_is_unix(address) ||
        address_numbers(address, numbers, sizeof(numbers)) != 0 ||
        strcmp(numbers, address->text) == 0) {
        snprintf(out, size, "%s", address->text);
    } else {
        snprintf(out, size, "%s=%s", address->text, numbers);
    }
}

int address_of_socket(struct address *address, int fd)
{
    *address = (struct address){.len = sizeof(address->sa)};
    if (getsockname(fd, (struct sockaddr *)&address->sa, &address->len) != 0) {
        return -1;
    }
    if (address->sa.ss_family == AF_UNIX) {
        char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
        char err[128];
        snprintf(path, sizeof(path), "%.108s",
                 ((const struct sockaddr_un *)&address->sa)->sun_path);
        *address = (struct address){0};
        return address_parse_unix(address, path, err, sizeof(err));
    }
    return address_numbers(address, address->text, sizeof(address->text));
}

int address_is_unix(const struct address *address)
{
    return address->sa.ss_family == AF_UNIX;
}

/* Clears the way for a bind: a socket file on which nobody listens is removed. */
static int address_clear_stale(const struct address *address, char *err, size_t err_size)
{
    const char *path = ((const struct sockaddr_un *)&address->sa)->sun_path;
    struct stat st;
    if (lstat(path, &st) != 0) {
        return 0; /* nothing there, or bind will say what is wrong */
    }
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(err, err_size, "%s exists and is no socket", path);
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        snprintf(err, err_size, "socket: %s", strerror(errno));
        return -1;
    }
    int rc = connect(fd, (const struct sockaddr *)&address->sa, address->len);
    int refused = rc != 0 && errno == ECONNREFUSED;
    close(fd);
    if (!refused) {
        snprintf(err, err_size, "%s is in use by a running process", path);
        return -1;
    }
    unlink(path);
    return 0;
}

static int address_bind_unix(struct listener *listener, mode_t mode, char *err, size_t err_size)
{
    const struct address *address = &listener->address;
    const char *path = ((const struct sockaddr_un *)&address->sa)->sun_path;
    struct stat st;

    if (address_clear_stale(address, err, err_size) != 0) {
        return -1;
    }
    /* Never, not even between bind and chmod, is the file open to more than mode says. */
    mode_t old = umask(0777 & ~mode);
    int rc = bind(listener->fd, (const struct sockaddr *)&address->sa, address->len);
    umask(old);
    if (rc != 0 || chmod(path, mode) != 0 || lstat(path, &st) != 0) {
        snprintf(err, err_size, "bind: %s", strerror(errno));
        return -1;
    }
    listener->dev = st.st_dev;
    listener->ino = st.st_ino;
    return 0;
}

static int address_bind_inet(struct listener *listener, char *err, size_t err_size)
{
    struct address *address = &listener->address;
    int one = 1;
    if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(listener->fd, (const struct sockaddr *)&address->sa, address->len) != 0 ||
        getsockname(listener->fd, (struct sockaddr *)&address->sa, &address->len) != 0) {
        snprintf(err, err_size, "bind: %s", strerror(errno));
        return -1;
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->sa;
    char *colon = strrchr(address->text, ':'); /* sin_port and sin6_port are at the same place */
    snprintf(colon, sizeof(address->text) - (size_t)(colon - address->text), ":%u",
             (unsigned)ntohs(in->sin_port));
    return 0;
}

int address_bind(struct listener *listener, const struct address *address, mode_t mode, char *err,
                 size_t err_size)
{
    char why[ADDRESS_TEXT_MAX + 128];

    *listener = (struct listener){.address = *address};
    listener->fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0) {
        snprintf(err, err_size, "cannot listen on %s: socket: %s", address->text, strerror(errno));
        return -1;
    }
    int rc = address_is_unix(address) ? address_bind_unix(listener, mode, why, sizeof(why))
                                      : address_bind_inet(listener, why, sizeof(why));
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", address->text, why);
        close(listener->fd);
        listener->fd = -1;
    }
    return rc;
}

void address_unlink(const struct listener *listener)
{
    struct stat st;
    if (!address_is_unix(&listener->address)) {
        return;
    }
    const char *path = ((const struct sockaddr_un *)&listener->address.sa)->sun_path;
    if (lstat(path, &st) == 0 && st.st_dev == listener->dev && st.st_ino == listener->ino) {
        unlink(path);
    }
}
