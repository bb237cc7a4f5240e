/*
 * Happy path: connect, see that somebody is there who answers, send the command, wait for its
 * answer. Failure modes: nobody listens, or may be talked to: told at once; somebody listens, but
 * no worker comes to answer: told after LINK_WAIT_S, and the command, which was not sent yet, never
 * runs. Only the command itself may take as long as it takes.
 */
#include "deferd/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* How long deferd may take to say anything at all: its next worker is 10 s away at most when
 * workers keep dying. */
#define LINK_WAIT_S 10

/* What it is to answer then. */
#define LINK_QUESTION "status"

/* An answer longer than this is none of deferd's. */
#define LINK_ANSWER_MAX (64U << 20)

void link_close(struct link *link)
{
    if (link->fd >= 0) {
        close(link->fd);
        link->fd = -1;
    }
}

static enum link_status link_absent(struct link *link, const char *why)
{
    snprintf(link->err, sizeof(link->err), "%s: %s", link->path, why);
    link_close(link);
    return LINK_ABSENT;
}

/* Bounds what is waited for on the connection; 0: for ever. */
static void link_bound(const struct link *link, time_t seconds)
{
    struct timeval limit = {.tv_sec = seconds};
    setsockopt(link->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(link->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static enum link_status link_silent(struct link *link)
{
    char why[128];
    snprintf(why, sizeof(why),
             "nobody has answered within %d s: deferd has no worker, or that hangs; see its log",
             LINK_WAIT_S);
    return link_absent(link, why);
}

static enum link_status link_open(struct link *link)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (strlen(link->path) >= sizeof(sun.sun_path)) {
        return link_absent(link, "a socket's path is not as long as that");
    }
    memcpy(sun.sun_path, link->path, strlen(link->path));
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    link_bound(link, LINK_WAIT_S);
    if (link->fd >= 0 && connect(link->fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0) {
        return LINK_OK;
    }
    if (errno == EACCES || errno == EPERM) {
        link_absent(link, "no permission: it is for root and the group of this socket");
        return LINK_DENIED;
    }
    if (errno == ENOENT || errno == ECONNREFUSED) {
        return link_absent(link, "deferd is not there (is it running, and is this its control "
                                 "socket?)");
    }
    return errno == EAGAIN ? link_silent(link) : link_absent(link, strerror(errno));
}

static int link_send(const struct link *link, const char *command)
{
    char line[1100];
    int len = snprintf(line, sizeof(line), "%s\n", command);
    int at = 0;
    while (at < len) {
        ssize_t n = send(link->fd, line + at, (size_t)(len - at), MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        at += n > 0 ? (int)n : 0;
    }
    return 0;
}

static int link_is_ended(const struct link *link)
{
    return link->ended != NULL && *link->ended != 0;
}

/* Reads a line. Returns NULL at the connection's end, or with errno EAGAIN when the time is up; the
 * caller frees it. */
static char *link_read(const struct link *link)
{
    size_t len = 0;
    size_t cap = 65536;
    char *line = malloc(cap);
    while (line != NULL && cap <= LINK_ANSWER_MAX && !link_is_ended(link)) {
        ssize_t n = recv(link->fd, line + len, cap - len - 1, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? 0 : errno;
            break;
        }
        len += (size_t)n;
        if (line[len - 1] == '\n') {
            line[len] = '\0';
            return line;
        }
        if (len + 1 == cap) {
            char *more = realloc(line, cap * 2);
            if (more == NULL) {
                break;
            }
            line = more;
            cap *= 2;
        }
    }
    int error = errno;
    free(line);
    errno = error;
    return NULL;
}

/* Sends a command and reads its answer, within the time that is set. */
static enum link_status link_ask(struct link *link, const char *command, json_t **result)
{
    enum link_status status = LINK_OK;
    link_send(link, command); /* if it fails, there may still be something to read: the reason */
    char *line = link_read(link);
    if (line == NULL && errno == EAGAIN) {
        return link_silent(link);
    }
    if (line == NULL) {
        return link_absent(link, "deferd closed the connection without an answer");
    }
    json_t *answer = json_loads(line, 0, NULL);
    free(line);
    if (!json_is_object(answer)) {
        json_decref(answer);
        return link_absent(link, "the answer is not deferd's");
    }
    if (json_is_true(json_object_get(answer, "ok"))) {
        *result = json_incref(json_object_get(answer, "result"));
    } else {
        const char *why = json_string_value(json_object_get(answer, "error"));
        snprintf(link->err, sizeof(link->err), "%s", why != NULL ? why : "failed");
        status = json_is_true(json_object_get(answer, "denied")) ? LINK_DENIED : LINK_FAILED;
    }
    json_decref(answer);
    return status;
}

/* Connects, and waits until somebody is there who answers. */
static enum link_status link_connect(struct link *link)
{
    json_t *answer = NULL;
    if (link->fd >= 0) {
        return LINK_OK;
    }
    enum link_status status = link_open(link);
    if (status == LINK_OK) {
        status = link_ask(link, LINK_QUESTION, &answer);
        json_decref(answer);
    }
    if (status == LINK_OK) {
        link_bound(link, 0);
    } else {
        link_close(link);
    }
    return status;
}

enum link_status link_call(struct link *link, const char *command, json_t **result)
{
    *result = NULL;
    enum link_status status = link_connect(link);
    return status == LINK_OK ? link_ask(link, command, result) : status;
}
