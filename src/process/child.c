/*
 * Happy path: fork, put the descriptors where the worker looks for them, execute the binary; lines
 * come over the channel. Failure modes: what cannot be started says so in err, or over the channel
 * if only exec failed; the channel's end is not the child's end, which SIGCHLD tells the master.
 */
#include "deferd/child.h"

#include "deferd/channel.h"
#include "deferd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int child_config_fd(const struct config *config)
{
    int fd = memfd_create("deferd.conf", MFD_CLOEXEC);
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    FILE *file = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (file == NULL) {
        close(copy);
        close(fd);
        return -1;
    }
    config_print(config, 1, file);
    if (fclose(file) != 0) {
        close(fd);
        return -1;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* --- the channel ------------------------------------------------------------------------------ */

static void child_on_line(void *arg, char *line)
{
    struct child *child = arg;
    child->on_line(child, line);
}

static void child_on_end(void *arg)
{
    struct child *child = arg;
    channel_close(child->channel);
    child->channel = NULL; /* its exit status says the rest */
}

void child_tell(const struct child *child, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (child->channel != NULL) {
        channel_send(child->channel, "%s", line);
    }
}

void child_describe_end(const struct child *child, int status, char *out, size_t size)
{
    int signalled = WIFSIGNALED(status);
    snprintf(out, size, "worker %d %s %d%s%s", (int)child->pid,
             signalled ? "was ended by signal" : "ended with status",
             signalled ? WTERMSIG(status) : WEXITSTATUS(status), child->why[0] != '\0' ? ": " : "",
             child->why);
}

void child_kill_all(const struct child *list)
{
    for (; list != NULL; list = list->next) {
        kill(list->pid, SIGKILL);
    }
}

static int child_open_channel(struct child *child, uv_loop_t *loop, int fd)
{
    const struct channel_events events = {child_on_line, child_on_end, child};
    child->channel = channel_open(loop, fd, &events);
    return child->channel != NULL ? 0 : -1;
}

void child_free(struct child *child)
{
    if (child->channel != NULL) {
        channel_close(child->channel);
    }
    free(child);
}

struct child *child_adopt(uv_loop_t *loop, pid_t pid, int fd, child_line_cb on_line)
{
    struct child *child = calloc(1, sizeof(*child));
    if (child == NULL) {
        return NULL;
    }
    child->on_line = on_line;
    child->pid = pid;
    child->started = uv_now(loop);
    if (fd >= 0) {
        child_open_channel(child, loop, fd);
    }
    return child;
}

/* Descriptors a worker gets that are no listening sockets: SOCKETS_CHANNEL and the next. */
#define CHILD_OWN (SOCKETS_FIRST_FD - SOCKETS_CHANNEL)

/* --- starting one ----------------------------------------------------------------------------- */

/* The master's handlers would write into the master's loop. What is for the master alone must not
 * end a worker when it is sent to all of them, as by pkill, or by a terminal that closes. */
static void child_reset_signals(void)
{
    static const int masters[] = {SIGHUP, SIGINT, SIGUSR1, SIGUSR2};
    sigset_t none;
    for (int number = 1; number < NSIG; number++) {
        signal(number, SIG_DFL);
    }
    for (size_t i = 0; i < sizeof(masters) / sizeof(masters[0]); i++) {
        signal(masters[i], SIG_IGN); /* so it stays over exec; the worker wants the third one */
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: puts the descriptors where the worker looks for them, and becomes it. */
static _Noreturn void child_exec(const char *binary, const int *own,
                                 const struct listener *listeners, unsigned count)
{
    /* argv[0] is as long as the longest title the worker gives itself. */
    static char *const argv[] = {"deferd: worker process is starting", "--worker", NULL};
    int fds[CHILD_OWN + SOCKETS_LIST_MAX];
    unsigned all = CHILD_OWN + count;

    memcpy(fds, own, CHILD_OWN * sizeof(*own));
    for (unsigned i = 0; i < count; i++) {
        fds[CHILD_OWN + i] = listeners[i].fd;
    }
    /* First out of the way, then each to its place. */
    for (unsigned i = 0; i < all; i++) {
        fds[i] = fds[i] >= 0 ? fcntl(fds[i], F_DUPFD_CLOEXEC, SOCKETS_CHANNEL + (int)all) : -1;
    }
    for (unsigned i = 0; i < all; i++) {
        if (fds[i] >= 0) {
            dup2(fds[i], SOCKETS_CHANNEL + (int)i);
        } else {
            close(SOCKETS_CHANNEL + (int)i);
        }
    }
    child_reset_signals();
    execv(binary, argv);
    dprintf(SOCKETS_CHANNEL, "failed %s: %s\n", binary, strerror(errno));
    _exit(EXIT_FAILURE);
}

static pid_t child_fork(const char *binary, const int *own, const struct listener *listeners,
                        unsigned count)
{
    sigset_t all;
    sigset_t before;
    log_flush(); /* or the child has these lines too */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        child_exec(binary, own, listeners, count);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* The sockets of a configuration, in their order; fd -1 for what it does not listen on. */
static unsigned child_listeners(const struct config *config, struct sockets *sockets,
                                struct listener *out)
{
    struct socket_spec specs[SOCKETS_LIST_MAX];
    unsigned count = sockets_of_config(config, specs);
    for (unsigned i = 0; i < count; i++) {
        const struct socket_entry *entry =
            specs[i].address.len > 0 ? sockets_find(sockets, &specs[i].address) : NULL;
        out[i] = entry != NULL ? entry->listener : (struct listener){.fd = -1};
    }
    return count;
}

struct child *child_spawn(uv_loop_t *loop, const char *binary, const struct config *config,
                          struct sockets *sockets, child_line_cb on_line, char *err,
                          size_t err_size)
{
    struct listener listeners[SOCKETS_LIST_MAX];
    int pair[2] = {-1, -1};
    struct child *child = calloc(1, sizeof(*child));
    int config_fd = child_config_fd(config);
    unsigned count = child_listeners(config, sockets, listeners);

    if (child == NULL || config_fd < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        goto failed;
    }
    child->on_line = on_line;
    child->started = uv_now(loop);
    if (child_open_channel(child, loop, pair[0]) != 0) {
        close(pair[0]);
        goto failed;
    }
    const int own[CHILD_OWN] = {pair[1], config_fd, sockets->handoff[0], sockets->handoff[1]};
    child->pid = child_fork(binary, own, listeners, count);
    if (child->pid < 0) {
        channel_close(child->channel);
        goto failed;
    }
    close(config_fd);
    close(pair[1]);
    return child;
failed:
    snprintf(err, err_size, "cannot start a worker: %s", strerror(errno));
    close(config_fd);
    close(pair[1]);
    free(child);
    return NULL;
}
