/*
 * Happy path: the request's params name a file that is not there; when it is to stop, it is made;
 * the application sees it between two callbacks and skips the rest. The file goes with the phase;
 * what a worker that was killed leaves there, the next one to start removes.
 * By force: a signal through the pidfd that was taken when the worker told its pid; if the worker
 * is another user's, the master is asked for it. Failure modes: no directory is configured, or the
 * file cannot be made; the worker's pid is not known, belongs to no php-fpm worker of this
 * upstream, or may not be signalled: then nothing happens, and the caller gets a sentence.
 */
#include "deferd/stop.h"

#include "deferd/address.h"
#include "deferd/conn.h"
#include "deferd/fpm.h"
#include "deferd/head.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/proxy.h"
#include "deferd/request.h"
#include "deferd/token.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STOP_KEY_LEN 16

/* The process's own pid, in front of its files' names: so that whoever finds one that was left over
 * knows whether it may go. */
static pid_t stop_pid(void)
{
    static pid_t pid;
    if (pid == 0) {
        pid = getpid(); /* a system call, and there is a name for each request */
    }
    return pid;
}

static void stop_path(const struct request *request, char *out, size_t size)
{
    snprintf(out, size, "%s/%d-%llu-%s", request->pool->proxy->stop_dir, (int)stop_pid(),
             (unsigned long long)request->id, request->stop_key);
}

/* --- what was left over ----------------------------------------------------------------------- */

/* The pid in the name of a stop file, 0 if it is not the name of one: PID-ID-KEY. */
static pid_t stop_owner(const char *name)
{
    int pid = 0;
    int at = 0;
    if (sscanf(name, "%9d-%*20[0-9]-%n", &pid, &at) != 1 || at == 0 || name[0] < '1' ||
        name[0] > '9' || strspn(name + at, "0123456789abcdef") != STOP_KEY_LEN ||
        name[at + STOP_KEY_LEN] != '\0') {
        return 0;
    }
    return pid;
}

/* Nobody is left who would remove it: this process has only begun, and has made none yet. */
static int stop_is_left_over(int directory, const char *name)
{
    struct stat st;
    pid_t pid = stop_owner(name);
    return pid > 0 && (pid == stop_pid() || (kill(pid, 0) != 0 && errno == ESRCH)) &&
           fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

void stop_sweep(const char *directory)
{
    const struct dirent *entry;
    unsigned count = 0;
    DIR *dir = directory[0] != '\0' ? opendir(directory) : NULL;
    if (dir == NULL) {
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        count += stop_is_left_over(dirfd(dir), entry->d_name) &&
                 unlinkat(dirfd(dir), entry->d_name, 0) == 0;
    }
    closedir(dir);
    if (count > 0) {
        log_line(LOG_NOTICE, "stop_dir = %s: %u stop file(s) of workers that were killed removed",
                 directory, count);
    }
}

/* --- asking ----------------------------------------------------------------------------------- */

int stop_name(struct request *request, char *out, size_t size)
{
    char token[TOKEN_LEN + 1];
    const char *directory = request->pool->proxy->stop_dir;
    out[0] = '\0';
    if (directory == NULL || directory[0] == '\0') {
        return 0;
    }
    if (token_make(token) != 0) {
        return -1;
    }
    snprintf(request->stop_key, sizeof(request->stop_key), "%.*s", STOP_KEY_LEN, token);
    stop_path(request, out, size);
    return 0;
}

void stop_know_worker(struct request *request)
{
    pid_t pid = (pid_t)request->deferral.pid;
    if (!request->pool->proxy->know_workers || pid <= 1 || request->pidfd != 0) {
        return;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    request->pidfd = fd > 0 ? fd : 0;
}

int stop_ask(struct request *request, char *err, size_t err_size)
{
    char path[HEAD_STOP_MAX + 1];
    if (request->stop_key[0] == '\0') {
        snprintf(err, err_size,
                 "stop_dir is not configured, or had no room in the request's params: the phase "
                 "cannot be asked to stop");
        return -1;
    }
    if (request->stop != STOP_NONE) {
        return 0;
    }
    stop_path(request, path, sizeof(path));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
        return -1;
    }
    close(fd);
    request->stop = STOP_ASKED;
    log_line(LOG_NOTICE, "request %llu: its deferred phase is to stop",
             (unsigned long long)request->id);
    return 0;
}

/* --- by force --------------------------------------------------------------------------------- */

/* The process that listens at the other end of a unix socket, 0 if that is not known. */
static pid_t stop_peer(const struct conn *conn)
{
    int fd;
    return uv_fileno(&conn->stream.io.handle, &fd) == 0 ? fpm_listener(fd) : 0;
}

static int stop_is_loopback(const struct address *address)
{
    if (address->sa.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address->sa;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&address->sa)->sin6_addr);
}

/* From here on the worker may be gone at any time, and that is what was wanted. */
static void stop_begin_force(struct request *request)
{
    if (request->stop != STOP_FORCED) {
        request->stop_before = request->stop;
    }
    request->stop = STOP_FORCED;
}

/* Why this process must not be signalled; NULL if it may. Asked after the pidfd was taken: what it
 * stands for is alive now, and so is what /proc shows. */
static const char *stop_refusal(const struct request *request, pid_t pid,
                                struct fpm_process *process)
{
    const struct address *address = &request->upstream->options->address;
    if (fpm_process_read(pid, process) != 0) {
        return "is gone";
    }
    if (!fpm_process_is_fpm(process)) {
        return "is no php-fpm worker";
    }
    if (address_is_unix(address)) {
        return stop_peer(request->conn) == process->parent
                   ? NULL
                   : "is no worker of the php-fpm that listens there";
    }
    return stop_is_loopback(address) ? NULL : "may run on another machine";
}

int stop_force(struct request *request, char *ask, size_t ask_size, char *err, size_t err_size)
{
    struct fpm_process process;
    pid_t pid = (pid_t)request->deferral.pid;
    if (pid <= 1 || request->pidfd == 0 || request->conn == NULL) {
        snprintf(err, err_size, "the worker has not told its pid, or is gone");
        return -1;
    }
    const char *refusal = stop_refusal(request, pid, &process);
    if (refusal != NULL) {
        snprintf(err, err_size, "process %d %s; it was not signalled", (int)pid, refusal);
        return -1;
    }
    ask[0] = '\0';
    if (syscall(SYS_pidfd_send_signal, request->pidfd, SIGTERM, NULL, 0) == 0) {
        log_line(LOG_NOTICE, STOP_FORCED_LINE, (unsigned long long)request->id, (int)pid);
        stop_begin_force(request);
        return 0;
    }
    if (errno != EPERM) {
        snprintf(err, err_size, "process %d cannot be signalled: %s", (int)pid, strerror(errno));
        return -1;
    }
    /* It was alive after the look at it, so that is what the pid stands for. */
    snprintf(ask, ask_size, "end %s %d %llu %llu", request->pool->options->name, (int)pid,
             (unsigned long long)process.started, (unsigned long long)request->id);
    stop_begin_force(request);
    return 0;
}

void stop_not_forced(struct request *request)
{
    if (request->stop == STOP_FORCED) {
        request->stop = request->stop_before;
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

enum outcome stop_outcome(const struct request *request, enum outcome outcome)
{
    int skipped = request->stop == STOP_ASKED && request->deferral.any_stopped;
    int ended = request->stop == STOP_FORCED && outcome == OUTCOME_LOST;
    return skipped || ended ? OUTCOME_STOPPED : outcome;
}

void stop_end(struct request *request)
{
    char path[HEAD_STOP_MAX + 1];
    if (request->stop == STOP_ASKED || request->stop_before == STOP_ASKED) {
        stop_path(request, path, sizeof(path));
        unlink(path);
    }
    if (request->pidfd != 0) {
        close(request->pidfd);
        request->pidfd = 0;
    }
}
