/*
 * Happy path: a child process drops its privileges, connects, asks twice and counts the answers;
 * its exit status is the result. Failure modes: why it got no connection comes through a pipe; a
 * child that dies counts as one that got none.
 */
#include "deferd/probe.h"

#include "deferd/fcgi.h"
#include "deferd/privileges.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_MS 1000

/* FCGI_GET_VALUES for FCGI_MPXS_CONNS. */
static const uint8_t probe_question[] = "\x01\x09\x00\x00\x00\x11\x00\x00"
                                        "\x0f\x00"
                                        "FCGI_MPXS_CONNS";

/* Waits for input or room. Returns whether there is some. */
static int probe_wait(int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    return poll(&pollfd, 1, PROBE_MS) == 1;
}

/* Returns 0 or an errno. */
static int probe_connect(int fd, const struct address *address)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (connect(fd, (const struct sockaddr *)&address->sa, address->len) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        return errno;
    }
    if (!probe_wait(fd, POLLOUT)) {
        return ETIMEDOUT;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    return error;
}

static enum probe_result probe_ask(int fd)
{
    uint8_t buffer[512];
    struct fcgi_reader reader = {0};
    unsigned answers = 0;
    for (int i = 0; i < 2; i++) {
        if (send(fd, probe_question, sizeof(probe_question) - 1, MSG_NOSIGNAL) < 0) {
            break; /* what was answered before that is still there to be read */
        }
    }
    while (answers < 2) {
        struct fcgi_event ev = {0};
        ssize_t at = 0;
        if (!probe_wait(fd, POLLIN)) {
            return PROBE_SILENT;
        }
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
        if (n <= 0) {
            return answers == 1 ? PROBE_OLD : PROBE_CLOSED;
        }
        do {
            at += (ssize_t)fcgi_read(&reader, buffer + at, (size_t)(n - at), &ev);
            if (ev.kind == FCGI_EV_VERSION) {
                return PROBE_CLOSED;
            }
            answers += ev.kind == FCGI_EV_END && ev.type == FCGI_GET_VALUES_RESULT;
        } while (ev.kind != FCGI_EV_MORE);
    }
    return PROBE_KEEPS;
}

/* In the child. Writes why to the pipe. */
static enum probe_result probe_run(const struct address *address, const char *user,
                                   const char *group, int pipe)
{
    char why[256];
    int fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : 0;
    if (privileges_drop(user, group, why, sizeof(why)) != 0) {
        dprintf(pipe, "%s", why);
        return PROBE_FAILED;
    }
    if (error == 0) {
        error = probe_connect(fd, address);
    }
    if (error != 0) {
        dprintf(pipe, "%s", strerror(error));
        return PROBE_FAILED;
    }
    return probe_ask(fd);
}

enum probe_result probe_upstream(const struct address *address, const char *user, const char *group,
                                 char *err, size_t err_size)
{
    int fds[2];
    int status;
    snprintf(err, err_size, "the process that asks could not be started");
    if (pipe(fds) != 0) {
        return PROBE_FAILED;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        _exit((int)probe_run(address, user, group, fds[1]));
    }
    close(fds[1]);
    ssize_t n = pid > 0 ? read(fds[0], err, err_size - 1) : 0;
    close(fds[0]);
    if (n > 0) {
        err[n] = '\0';
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return PROBE_FAILED;
    }
    return (enum probe_result)WEXITSTATUS(status);
}
