#include "deferd/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* How long sink_close waits for a reader that is slow, and how often at most. */
#define SINK_LAST_MS    50
#define SINK_LAST_TRIES 20

/* --- opening ---------------------------------------------------------------------------------- */

/* A pipe or terminal is shared with whoever else has it, so it cannot be made non-blocking; a
 * description of its own can. */
static int sink_open_anew(int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static void sink_become(struct sink *sink, const struct sink_target *to)
{
    sink_flush(sink);
    if (sink->to.owned) {
        close(sink->to.fd);
    }
    if (sink->torn) {
        sink->torn = 0; /* that line is elsewhere */
        memmove(sink->buffer, sink->buffer + 1, --sink->used);
    }
    sink->to = *to;
    sink->failing = 0;
}

void sink_use(struct sink *sink, int fd)
{
    struct sink_target to = {.fd = fd};
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
        to.kind = SINK_STREAM;
    } else if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        int anew = sink_open_anew(fd);
        to.kind = anew >= 0 ? SINK_PIPE : SINK_BLOCKING;
        to.fd = anew >= 0 ? anew : fd;
        to.owned = anew >= 0;
    }
    sink_become(sink, &to);
}

/* Gives the file its owner, but never one that a link stands for: what root would give away then is
 * somebody else's choice. Returns 0 or -errno. */
static int sink_give(int fd, const char *path, uid_t uid, gid_t gid)
{
    struct stat opened;
    struct stat named;
    if ((uid == (uid_t)-1 && gid == (gid_t)-1) || fstat(fd, &opened) != 0 ||
        lstat(path, &named) != 0 || !S_ISREG(named.st_mode) || opened.st_nlink != 1 ||
        opened.st_dev != named.st_dev || opened.st_ino != named.st_ino) {
        return 0;
    }
    if (uid != (uid_t)-1 && opened.st_uid == uid) {
        return 0; /* logrotate has made it for this user, with the group of those who read it */
    }
    return fchown(fd, uid, gid) == 0 ? 0 : -errno;
}

/* Returns a descriptor or -errno. */
static int sink_open_file(const char *path, uid_t uid, gid_t gid)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (fd < 0) {
        return -errno;
    }
    int rc = sink_give(fd, path, uid, gid);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* The standard stream that a path means, or -1: it could be a socket, which cannot be opened by its
 * name. */
static int sink_stream_of(const char *path)
{
    static const char *const names[][3] = {
        {"/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"},
        {"/dev/stderr", "/proc/self/fd/2", "/dev/fd/2"},
    };
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 3; j++) {
            if (strcmp(path, names[i][j]) == 0) {
                return STDOUT_FILENO + i;
            }
        }
    }
    return -1;
}

int sink_open(struct sink *sink, const char *path, uid_t uid, gid_t gid)
{
    struct stat st;
    int stream = sink_stream_of(path);
    if (stream >= 0) {
        sink_use(sink, stream);
        return 0;
    }
    if (strlen(path) >= sizeof(sink->to.path)) {
        return -ENAMETOOLONG;
    }
    int fd = sink_open_file(path, uid, gid);
    if (fd < 0) {
        return fd;
    }
    struct sink_target to = {.fd = fd, .owned = 1, .uid = uid, .gid = gid};
    snprintf(to.path, sizeof(to.path), "%s", path);
    to.kind = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? SINK_FILE : SINK_PIPE;
    sink_become(sink, &to);
    return 0;
}

int sink_make_file(const char *path, uid_t uid, gid_t gid)
{
    if (sink_stream_of(path) >= 0) {
        return 0;
    }
    int fd = sink_open_file(path, uid, gid);
    if (fd < 0) {
        return fd;
    }
    close(fd);
    return 0;
}

int sink_reopen(struct sink *sink)
{
    char path[sizeof(sink->to.path)];
    if (sink->to.path[0] == '\0' || sink->to.kind == SINK_SYSLOG) {
        return 0;
    }
    snprintf(path, sizeof(path), "%s", sink->to.path);
    return sink_open(sink, path, sink->to.uid, sink->to.gid);
}

/* --- syslog ----------------------------------------------------------------------------------- */

/* Without a daemon at the other end too: it may come later. Returns 0 or -errno. */
static int sink_connect(int fd, const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sun.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(sun.sun_path, path, strlen(path));
    return connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0 ? 0 : -errno;
}

int sink_open_syslog(struct sink *sink, const char *path)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int rc = sink_connect(fd, path);
    if (rc == -ENAMETOOLONG || rc == -EPROTOTYPE) {
        close(fd);
        return rc;
    }
    struct sink_target to = {.kind = SINK_SYSLOG, .fd = fd, .owned = 1};
    snprintf(to.path, sizeof(to.path), "%s", path);
    sink_become(sink, &to);
    return 0;
}

/* Sends one line. A daemon that was started again is looked for once. Returns as write does. */
static ssize_t sink_send_datagram(const struct sink *sink, const char *line, size_t len)
{
    size_t text = len > 0 && line[len - 1] == '\n' ? len - 1 : len;
    ssize_t n = send(sink->to.fd, line, text, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        if (sink_connect(sink->to.fd, sink->to.path) != 0) {
            errno = ENOTCONN;
            return -1;
        }
        n = send(sink->to.fd, line, text, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (n < 0 && errno == ENOBUFS) {
        errno = EAGAIN;
    }
    return n < 0 ? n : (ssize_t)len;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* How much of data goes in one write: what a pipe takes in one piece, for another process may write
 * into it too, but whole lines. */
static size_t sink_piece(const struct sink *sink, const char *data, size_t len)
{
    const char *lf;
    switch (sink->to.kind) {
    case SINK_SYSLOG:
        lf = memchr(data, '\n', len);
        break;
    case SINK_PIPE:
    case SINK_BLOCKING:
        lf = len > PIPE_BUF ? memrchr(data, '\n', PIPE_BUF) : NULL;
        break;
    default:
        return len;
    }
    return lf != NULL ? (size_t)(lf - data) + 1 : len;
}

static ssize_t sink_write(const struct sink *sink, const char *data, size_t len)
{
    struct pollfd pollfd = {.fd = sink->to.fd, .events = POLLOUT};
    switch (sink->to.kind) {
    case SINK_SYSLOG:
        return sink_send_datagram(sink, data, len);
    case SINK_STREAM:
        return send(sink->to.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    case SINK_BLOCKING:
        if (poll(&pollfd, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        break;
    default:
        break;
    }
    return write(sink->to.fd, data, len);
}

/* What is left behind at bytes cannot be written. */
static void sink_drop(struct sink *sink, size_t at)
{
    int torn = at > 0 ? sink->buffer[at - 1] != '\n' : sink->torn;
    for (size_t i = at + (at == 0 && sink->torn); i < sink->used; i++) {
        sink->dropped += sink->buffer[i] == '\n';
    }
    sink->used = 0;
    sink->failing = 1;
    sink->torn = torn;
    if (torn) {
        sink->buffer[sink->used++] = '\n';
    }
}

size_t sink_flush(struct sink *sink)
{
    size_t at = 0;
    while (at < sink->used) {
        size_t len = sink_piece(sink, sink->buffer + at, sink->used - at);
        ssize_t n = sink_write(sink, sink->buffer + at, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n <= 0) {
            sink_drop(sink, at);
            return 0;
        }
        at += (size_t)n;
        sink->torn = 0;
        sink->failing = 0;
    }
    if (at > 0) {
        sink->used -= at;
        memmove(sink->buffer, sink->buffer + at, sink->used);
    }
    return sink->used;
}

char *sink_room(struct sink *sink)
{
    if (sizeof(sink->buffer) - sink->used < SINK_LINE_MAX) {
        sink_flush(sink);
    }
    if (sizeof(sink->buffer) - sink->used < SINK_LINE_MAX) {
        sink->dropped++;
        return NULL;
    }
    return sink->buffer + sink->used;
}

void sink_put(struct sink *sink, size_t len)
{
    sink->used += len;
}

uint64_t sink_dropped(struct sink *sink)
{
    uint64_t dropped = sink->used == 0 && !sink->failing ? sink->dropped : 0;
    sink->dropped -= dropped;
    return dropped;
}

void sink_close(struct sink *sink)
{
    for (int i = 0; i < SINK_LAST_TRIES && sink->to.fd >= 0 && sink_flush(sink) > 0; i++) {
        struct pollfd pollfd = {.fd = sink->to.fd, .events = POLLOUT};
        if (poll(&pollfd, 1, SINK_LAST_MS) <= 0) {
            break;
        }
    }
    if (sink->to.owned) {
        close(sink->to.fd);
    }
    sink->to.fd = -1;
    sink->to.owned = 0;
    sink->used = 0;
}
