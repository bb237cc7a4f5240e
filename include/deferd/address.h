/*
 * Socket addresses as they are written in options and configuration, and listening sockets on
 * them.
 */
#ifndef DEFERD_ADDRESS_H
#define DEFERD_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define ADDRESS_TEXT_MAX 256

struct address {
    char text[ADDRESS_TEXT_MAX]; /* for people: unix:PATH, HOST:PORT or [V6]:PORT */
    struct sockaddr_storage sa;
    socklen_t len;
};

/* Parses a path, unix:PATH, HOST:PORT or [V6]:PORT; a host name is looked up at once, unless it is
 * written as address_print_resolved does. Returns 0, or -1 with a sentence in err. */
int address_parse(struct address *address, const char *text, char *err, size_t err_size);

/* Writes it for another process of deferd's, which then need not look its name up:
 * HOST:PORT=IP:PORT.
 */
void address_print_resolved(const struct address *address, char *out, size_t size);

/* The address that a socket is bound to. Returns 0, or -1 if the descriptor is no such socket. */
int address_of_socket(struct address *address, int fd);

int address_is_unix(const struct address *address);

/* A listening socket. Its descriptor belongs to whoever opens the stream on it. */
struct listener {
    int fd;
    struct address address; /* with the port the kernel chose, if 0 was asked for */
    dev_t dev;              /* the socket file's identity, so that only our own file is removed */
    ino_t ino;
};

/* Binds address and returns 0, or -1 with a sentence in err. mode is the file mode of a unix
 * socket. A socket file nobody listens on is replaced, one that somebody does listen on and a file
 * that is no socket are refused. The socket is non-blocking and not yet listening. */
int address_bind(struct listener *listener, const struct address *address, mode_t mode, char *err,
                 size_t err_size);

/* Removes a unix listener's socket file, if it is still the one address_bind made. The descriptor
 * is the caller's to close. */
void address_unlink(const struct listener *listener);

#endif
