/*
 * The process: options, signals, the loop. Everything else is the pool's.
 */
#include "deferd/log.h"
#include "deferd/options.h"
#include "deferd/pool.h"
#include "deferd/server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

/* Descriptors for everything but clients and workers. */
#define PROCESS_FILES 32

struct process {
    uv_loop_t loop;
    uv_signal_t terminate[2]; /* TERM, INT */
    uv_prepare_t flush;       /* writes the log before the loop waits */
    struct options options;
    struct pool pool;
};

static void process_on_signal(uv_signal_t *signal, int number)
{
    struct process *process = signal->data;
    struct pool *pool = &process->pool;
    if (pool->draining) {
        log_line(LOG_NOTICE, "second signal %d: ending at once; %u worker slots were busy", number,
                 pool->busy);
        log_flush();
        _exit(EXIT_FAILURE);
    }
    log_line(LOG_NOTICE,
             "signal %d: no new connections; %u worker slots are busy, and are waited for", number,
             pool->busy);
    pool_drain(pool);
}

static void process_on_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
    log_flush();
}

/* Descriptors bound how many clients and workers there can be: takes all that is allowed. Returns
 * how many clients fit, when each worker slot needs one too, and each client that waits with a body
 * a second one. */
static uint64_t process_raise_files(unsigned max_workers)
{
    struct rlimit files;
    uint64_t reserved = PROCESS_FILES + max_workers;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return 512;
    }
    if (files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_NOFILE, &files);
    }
    return files.rlim_cur > 2 * reserved ? (files.rlim_cur - reserved) * 2 / 3 : files.rlim_cur / 4;
}

static int process_watch_signals(struct process *process)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        uv_signal_t *handle = &process->terminate[i];
        handle->data = process;
        int rc = uv_signal_init(&process->loop, handle);
        if (rc == 0) {
            rc = uv_signal_start(handle, process_on_signal, numbers[i]);
        }
        if (rc != 0) {
            return rc;
        }
        uv_unref((uv_handle_t *)handle); /* signals alone are no reason to live */
    }
    return 0;
}

static int process_start(struct process *process)
{
    char err[512];
    int rc = uv_loop_init(&process->loop);
    if (rc == 0) {
        rc = process_watch_signals(process);
    }
    if (rc == 0) {
        uv_prepare_init(&process->loop, &process->flush);
        uv_prepare_start(&process->flush, process_on_prepare);
        uv_unref((uv_handle_t *)&process->flush);
        rc = pool_open(&process->pool, &process->loop, &process->options.pool);
    }
    if (rc != 0) {
        log_line(LOG_ALERT, "cannot start: %s", uv_strerror(rc));
        return -1;
    }
    process->pool.max_conns = process_raise_files(process->pool.workers);
    process->pool.server = server_open(&process->pool, err, sizeof(err));
    if (process->pool.server == NULL) {
        log_line(LOG_ALERT, "%s", err);
        return -1;
    }
    return 0;
}

static void process_close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Closes what only the process itself still has open. */
static void process_end(struct process *process)
{
    /* The handles below take the signals' handlers with them. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    uv_walk(&process->loop, process_close_handle, NULL);
    uv_run(&process->loop, UV_RUN_DEFAULT);
    uv_loop_close(&process->loop);
    pool_free(&process->pool);
}

/* A socket must never get the number of a standard stream: the log would be written into it. */
static int process_fill_standard_streams(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0) {
        return -1;
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    static struct process process;
    if (process_fill_standard_streams() != 0) {
        return EXIT_FAILURE;
    }
    enum options_result result = options_parse(&process.options, argc, argv);
    if (result != OPTIONS_RUN) {
        return result == OPTIONS_DONE ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    log_open(STDERR_FILENO, process.options.log_level);
    if (process_start(&process) != 0) {
        return EXIT_FAILURE;
    }
    log_line(LOG_NOTICE, "ready: pid %d listening on %s, %u upstream(s), %u workers", (int)getpid(),
             server_address(process.pool.server), process.options.pool.upstream_count,
             process.pool.workers);
    uv_run(&process.loop, UV_RUN_DEFAULT);
    process_end(&process);
    log_line(LOG_NOTICE, "ended");
    log_flush();
    return EXIT_SUCCESS;
}
