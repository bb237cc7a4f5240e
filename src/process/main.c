/*
 * The process: options, signals, the loop. Everything else is the pool's.
 */
#include "deferd/log.h"
#include "deferd/options.h"
#include "deferd/proxy.h"
#include "deferd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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
    struct proxy proxy;
};

static void process_on_signal(uv_signal_t *signal, int number)
{
    struct process *process = signal->data;
    struct proxy *proxy = &process->proxy;
    if (proxy->draining) {
        log_line(LOG_NOTICE, "second signal %d: ending at once; %u worker slots were busy", number,
                 proxy_busy(proxy));
        log_flush();
        _exit(EXIT_FAILURE);
    }
    log_line(LOG_NOTICE,
             "signal %d: no new connections; %u worker slots are busy, and are waited for", number,
             proxy_busy(proxy));
    proxy_drain(proxy);
}

static void process_on_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
    log_flush();
}

/* Descriptors bound how many clients and workers there can be: takes as many as wanted, with 0 all
 * that are allowed. Returns how many clients fit, when each worker slot needs one too, and each
 * client that waits with a body a second one. */
static uint64_t process_raise_files(unsigned wanted, unsigned max_workers)
{
    struct rlimit files;
    uint64_t reserved = PROCESS_FILES + max_workers;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return 512;
    }
    files.rlim_cur = wanted > 0 ? wanted : files.rlim_max;
    if (files.rlim_cur > files.rlim_max) {
        files.rlim_max = files.rlim_cur; /* root may */
    }
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
        log_line(LOG_WARNING, "rlimit_files = %u: %s", wanted, strerror(errno));
    }
    getrlimit(RLIMIT_NOFILE, &files);
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
    const struct config *config = &process->options.config;
    int rc = uv_loop_init(&process->loop);
    if (rc == 0) {
        rc = process_watch_signals(process);
    }
    if (rc == 0) {
        uv_prepare_init(&process->loop, &process->flush);
        uv_prepare_start(&process->flush, process_on_prepare);
        uv_unref((uv_handle_t *)&process->flush);
        rc = proxy_open(&process->proxy, &process->loop, config->pools, config->pool_count);
    }
    if (rc != 0) {
        log_line(LOG_ALERT, "cannot start: %s", uv_strerror(rc));
        return -1;
    }
    process->proxy.max_conns =
        process_raise_files(config->global.rlimit_files, proxy_workers(&process->proxy));
    if (proxy_listen(&process->proxy, err, sizeof(err)) != 0) {
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
    proxy_free(&process->proxy);
    config_free(&process->options.config);
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

static void process_say_ready(const struct process *process)
{
    const struct proxy *proxy = &process->proxy;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        const struct pool *pool = &proxy->pools[i];
        log_line(LOG_NOTICE, "ready: pid %d, [%s] listening on %s, %u upstream(s), %u workers",
                 (int)getpid(), pool->options->name, server_address(pool->server),
                 pool->options->upstream_count, pool->workers);
    }
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
    log_open(STDERR_FILENO, process.options.config.global.log_level);
    if (process_start(&process) != 0) {
        return EXIT_FAILURE;
    }
    process_say_ready(&process);
    uv_run(&process.loop, UV_RUN_DEFAULT);
    process_end(&process);
    log_line(LOG_NOTICE, "ended");
    log_flush();
    return EXIT_SUCCESS;
}
