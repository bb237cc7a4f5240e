#include "deferd/fpm.h"

#include "deferd/address.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

/* Reads a short file. Returns its length without a final newline, or -1. owner: whose it is; may be
 * NULL. It follows no link, and waits for no FIFO: a pid file may lie where others can put one. */
static int fpm_read(const char *path, char *out, size_t size, uid_t *owner)
{
    struct stat st = {.st_uid = (uid_t)-1};
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t n = fd >= 0 && fstat(fd, &st) == 0 ? read(fd, out, size - 1) : -1;
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (owner != NULL) {
        *owner = st.st_uid;
    }
    errno = error;
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return n < 0 ? -1 : (int)strlen(out);
}

/* The pid that a pid file holds, and whose file that is. Returns 0 or -1 with a sentence in err. */
static int fpm_read_pid(const char *pid_file, pid_t *pid, uid_t *owner, char *err, size_t err_size)
{
    char text[32];
    char *end;
    if (fpm_read(pid_file, text, sizeof(text), owner) < 0) {
        snprintf(err, err_size, "%s: %s", pid_file, strerror(errno));
        return -1;
    }
    long number = strtol(text, &end, 10);
    if (number <= 1 || *end != '\0' || number > 1L << 30) {
        snprintf(err, err_size, "%s holds no pid", pid_file);
        return -1;
    }
    *pid = (pid_t)number;
    return 0;
}

/* Signals what the descriptor stands for, and closes that. Returns 0, or -1 with a sentence in err.
 */
static int fpm_signal(int fd, pid_t pid, int number, char *err, size_t err_size)
{
    long rc = syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
    int error = errno;
    close(fd);
    if (rc != 0) {
        snprintf(err, err_size, "process %d cannot be signalled: %s", (int)pid, strerror(error));
        return -1;
    }
    return 0;
}

/* --- the master ------------------------------------------------------------------------------- */

/* Why the process is not the master that a pid file of this owner may name; NULL if it may. Debian
 * has the file in a directory of www-data's: only root may name whom it likes. */
static const char *fpm_master_refusal(pid_t pid, uid_t owner)
{
    struct fpm_process process;
    if (fpm_process_read(pid, &process) != 0) {
        return "is not there";
    }
    if (!fpm_process_is_fpm(&process)) {
        return "is no php-fpm; it was not signalled";
    }
    if (owner != 0 && owner != process.owner) {
        return "is not of the user that the file belongs to; it was not signalled";
    }
    return NULL;
}

int fpm_signal_reload(const char *pid_file, char *err, size_t err_size)
{
    pid_t pid;
    uid_t owner;
    if (fpm_read_pid(pid_file, &pid, &owner, err, err_size) != 0) {
        return -1;
    }
    /* First the descriptor, then the look at what it is: it cannot become another one between. */
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    const char *refusal = fd < 0 ? "is not there" : fpm_master_refusal(pid, owner);
    if (refusal != NULL) {
        snprintf(err, err_size, "%s: process %d %s", pid_file, (int)pid, refusal);
        close(fd);
        return -1;
    }
    return fpm_signal(fd, pid, SIGUSR2, err, err_size);
}

/* --- a worker --------------------------------------------------------------------------------- */

int fpm_process_read(pid_t pid, struct fpm_process *out)
{
    char path[64];
    char text[1024];
    int parent;
    unsigned long long started;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (fpm_read(path, text, sizeof(text), &out->owner) <= 0) {
        return -1;
    }
    /* The name is in parentheses, and may have some in it. */
    const char *name = strchr(text, '(');
    const char *rest = strrchr(text, ')');
    if (name == NULL || rest == NULL ||
        sscanf(rest + 1,
               " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &parent, &started) != 2) {
        return -1;
    }
    snprintf(out->name, sizeof(out->name), "%.*s", (int)(rest - name - 1), name + 1);
    out->parent = (pid_t)parent;
    out->started = started;
    return 0;
}

int fpm_process_is_fpm(const struct fpm_process *process)
{
    return strncmp(process->name, "php-fpm", 7) == 0;
}

pid_t fpm_listener(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
}

/* The master that a pid file names. Returns its pid, or 0 with a sentence in err. */
static pid_t fpm_named_master(const char *pid_file, char *err, size_t err_size)
{
    pid_t pid;
    uid_t owner;
    if (fpm_read_pid(pid_file, &pid, &owner, err, err_size) != 0) {
        return 0;
    }
    const char *refusal = fpm_master_refusal(pid, owner);
    if (refusal != NULL) {
        snprintf(err, err_size, "%s: process %d %s", pid_file, (int)pid, refusal);
        return 0;
    }
    return pid;
}

/* The master of the php-fpm at an address. Returns its pid, or 0 with a sentence in err. */
static pid_t fpm_master_at(const struct address *address, const char *pid_file, char *err,
                           size_t err_size)
{
    pid_t pid = 0;
    if (!address_is_unix(address)) {
        if (pid_file[0] == '\0') {
            snprintf(err, err_size,
                     "%s: whose workers these are is not known; upstream.fpm_pid would say it",
                     address->text);
            return 0;
        }
        return fpm_named_master(pid_file, err, err_size);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address->sa, address->len) == 0) {
        pid = fpm_listener(fd);
    }
    if (pid == 0) {
        snprintf(err, err_size, "%s: who listens there is not known: %s", address->text,
                 strerror(errno));
    }
    close(fd);
    return pid;
}

/* Why a process must not be ended; NULL if it may. */
static const char *fpm_worker_refusal(pid_t pid, uint64_t started, pid_t master)
{
    struct fpm_process process;
    struct fpm_process parent;
    if (fpm_process_read(pid, &process) != 0 || process.started != started) {
        return "is gone";
    }
    if (!fpm_process_is_fpm(&process) || process.parent != master ||
        fpm_process_read(master, &parent) != 0 || !fpm_process_is_fpm(&parent)) {
        return "is no worker of the php-fpm that listens there; it was not signalled";
    }
    return NULL;
}

int fpm_end_worker(const struct address *address, const char *pid_file, pid_t pid, uint64_t started,
                   char *err, size_t err_size)
{
    pid_t master = fpm_master_at(address, pid_file, err, err_size);
    if (master == 0) {
        return -1;
    }
    /* As above: what is looked at behind this, if it is the same when it is signalled, it is. */
    int fd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    const char *refusal = fd < 0 ? "is gone" : fpm_worker_refusal(pid, started, master);
    if (refusal != NULL) {
        snprintf(err, err_size, "process %d %s", (int)pid, refusal);
        close(fd);
        return -1;
    }
    return fpm_signal(fd, pid, SIGTERM, err, err_size);
}
