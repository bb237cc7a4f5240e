#include "deferd/daemon.h"

#include "deferd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* The writing end of the pipe to the process that waits. */
static int daemon_waiting = -1;

/* The process that was started: waits for a line, empty when all is well. */
static void daemon_wait(int fd)
{
    char why[1024];
    size_t have = 0;
    ssize_t n;
    while (have < sizeof(why) - 1 && (n = read(fd, why + have, sizeof(why) - 1 - have)) > 0) {
        have += (size_t)n;
    }
    why[have] = '\0';
    if (strcmp(why, "\n") == 0) {
        _exit(EXIT_SUCCESS);
    }
    fprintf(stderr, "deferd: %s", have > 0 ? why : "ended before it was ready; see its log\n");
    _exit(EXIT_FAILURE);
}

/* Whoever started this may wait for the end of a pipe or a lock that it has inherited; systemd's
 * sockets are meant for it. */
static void daemon_close_inherited(int keep)
{
    int passed = sd_listen_fds(0);
    unsigned first = SD_LISTEN_FDS_START + (unsigned)(passed > 0 ? passed : 0);
    log_close(); /* its descriptor is one of them */
    if ((unsigned)keep >= first) {
        if ((unsigned)keep > first) {
            close_range(first, (unsigned)keep - 1, 0);
        }
        first = (unsigned)keep + 1;
    }
    close_range(first, ~0U, 0);
}

int daemon_start(char *err, size_t err_size)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        snprintf(err, err_size, "pipe: %s", strerror(errno));
        return -1;
    }
    pid_t pid = fork();
    if (pid > 0) {
        close(fds[1]);
        daemon_wait(fds[0]);
    }
    if (pid == 0) {
        close(fds[0]);
        setsid();
        pid = fork(); /* a process that leads no session gets no terminal again */
        if (pid > 0) {
            _exit(EXIT_SUCCESS);
        }
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (pid < 0 || null < 0 || chdir("/") != 0) {
        snprintf(err, err_size, "cannot go into the background: %s", strerror(errno));
        return -1;
    }
    umask(022);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        dup2(null, fd);
    }
    close(null);
    daemon_close_inherited(fds[1]);
    daemon_waiting = fds[1];
    return 0;
}

void daemon_ready(const char *why)
{
    if (daemon_waiting >= 0) {
        dprintf(daemon_waiting, "%s\n", why != NULL ? why : "");
        close(daemon_waiting);
        daemon_waiting = -1;
    }
}

/* Is this still the file of that name? Whoever held the lock before may have removed it. */
static int daemon_is_file(int fd, const char *path)
{
    struct stat opened;
    struct stat named;
    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

/* Opens the file and locks it. Returns the descriptor, or -1; with locked set if somebody else has
 * the lock, the file stays open. */
static int daemon_open_pid(const char *path, int *locked)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        *locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0;
        if (fd < 0 || *locked || daemon_is_file(fd, path)) {
            return fd;
        }
        close(fd);
    }
}

void daemon_remove_pid(const char *path, int fd)
{
    if (daemon_is_file(fd, path)) {
        unlink(path);
    }
}

int daemon_lock_pid(const char *path, int fd, char *err, size_t err_size)
{
    char text[32] = "";
    int locked = 0;
    if (fd < 0) {
        fd = daemon_open_pid(path, &locked);
    }
    if (fd < 0) {
        snprintf(err, err_size, "pid = %s: %s", path, strerror(errno));
        return -1;
    }
    if (locked) {
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
        snprintf(err, err_size, "pid = %s: deferd runs already, pid %s", path, text);
        close(fd);
        return -1;
    }
    int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        snprintf(err, err_size, "pid = %s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}
