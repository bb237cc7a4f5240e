#include "deferd/fpm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fpm_instance_of(const char *pid_file, struct fpm_instance *out)
{
    struct stat st;
    if (stat(pid_file, &st) != 0) {
        return -1;
    }
    *out = (struct fpm_instance){st.st_dev, st.st_ino, st.st_mtim};
    return 0;
}

int fpm_same_instance(const struct fpm_instance *a, const struct fpm_instance *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->written.tv_sec == b->written.tv_sec &&
           a->written.tv_nsec == b->written.tv_nsec;
}

/* Reads a short file. Returns its length without a final newline, or -1. */
static int fpm_read(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return n < 0 ? -1 : (int)strlen(out);
}

static int fpm_is_master(pid_t pid)
{
    char path[64];
    char name[64];
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    return fpm_read(path, name, sizeof(name)) > 0 && strncmp(name, "php-fpm", 7) == 0;
}

int fpm_signal_reload(const char *pid_file, char *err, size_t err_size)
{
    char text[32];
    char *end;
    if (fpm_read(pid_file, text, sizeof(text)) < 0) {
        snprintf(err, err_size, "%s: %s", pid_file, strerror(errno));
        return -1;
    }
    long pid = strtol(text, &end, 10);
    if (pid <= 1 || *end != '\0' || pid > 1L << 30) {
        snprintf(err, err_size, "%s holds no pid", pid_file);
        return -1;
    }
    /* First the descriptor, then the look at what it is: it cannot become another one between. */
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (fd < 0 || !fpm_is_master((pid_t)pid)) {
        snprintf(err, err_size, "%s: process %ld %s", pid_file, pid,
                 fd < 0 ? "is not there" : "is no php-fpm; it was not signalled");
        close(fd);
        return -1;
    }
    long rc = syscall(SYS_pidfd_send_signal, fd, SIGUSR2, NULL, 0);
    int error = errno;
    close(fd);
    if (rc != 0) {
        snprintf(err, err_size, "process %ld cannot be signalled: %s", pid, strerror(error));
        return -1;
    }
    return 0;
}
