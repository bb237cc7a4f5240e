/*
 * Happy path: open the proxy, take or bind the sockets, drop privileges, say ready, run, drain,
 * end. Failure modes: whatever keeps it from being ready is told to the master, or logged, and ends
 * it with status 1; a drain that takes too long is cut, and the log says what; the master's death
 * drains it.
 */
#include "deferd/worker.h"

#include "deferd/channel.h"
#include "deferd/control.h"
#include "deferd/errorlog.h"
#include "deferd/fpm.h"
#include "deferd/handoff.h"
#include "deferd/http.h"
#include "deferd/log.h"
#include "deferd/logs.h"
#include "deferd/loop.h"
#include "deferd/numbers.h"
#include "deferd/privileges.h"
#include "deferd/proxy.h"
#include "deferd/server.h"
#include "deferd/sockets.h"
#include "deferd/status.h"
#include "deferd/stop.h"
#include "deferd/teller.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

/* Descriptors for everything but clients and workers. */
#define WORKER_FILES 128

static const int worker_signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1};

#define WORKER_SIGNALS (sizeof(worker_signals) / sizeof(worker_signals[0]))

struct worker {
    uv_loop_t loop;
    uv_signal_t signals[WORKER_SIGNALS];
    uv_prepare_t flush; /* writes the log before the loop waits */
    uv_timer_t cut;     /* bounds a drain */
    struct options *options;
    struct proxy proxy;
    struct control control;
    struct status status;
    struct http *http;       /* metrics.listen; NULL without it */
    struct logs logs;        /* of requests */
    struct handoff handoff;  /* under a master */
    struct teller teller;    /* while it drains, there */
    struct channel *channel; /* to the master; NULL without one */
    int signalled;           /* a signal has begun the drain, or came during it */
};

/* --- the end ---------------------------------------------------------------------------------- */

/* Ends at once, whatever goes on. */
static void worker_exit(struct worker *worker, int status)
{
    logs_close(&worker->logs);
    log_close();
    _exit(status);
}

static void worker_on_cut(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    log_line(LOG_WARNING, "the drain took too long; %u worker slots are busy, and are cut",
             proxy_busy(&worker->proxy));
    proxy_log_cut(&worker->proxy);
    teller_close(&worker->teller);
    worker_exit(worker, EXIT_SUCCESS);
}

static int worker_on_tell(void *arg, int fd)
{
    const struct worker *worker = arg;
    return handoff_send(&worker->handoff, HANDOFF_PHASES, fd);
}

/* Another worker works, or will: who asks that one sees this one's phases too. */
static void worker_tell(struct worker *worker)
{
    const struct teller_events events = {worker_on_tell, worker};
    handoff_stop(&worker->handoff);      /* or this one would take its own stream */
    peers_leave(&worker->control.peers); /* they tell the other one themselves */
    teller_start(&worker->teller, &worker->control, &events);
}

/* limit: milliseconds, 0 for none. */
static void worker_drain(struct worker *worker, const char *why, uint64_t limit)
{
    if (!worker->proxy.draining) {
        log_line(LOG_NOTICE, "%s: no new connections; %u worker slots are busy, and are waited for",
                 why, proxy_busy(&worker->proxy));
        uv_set_process_title("deferd: worker process is ending");
        control_drain(&worker->control);
        handoff_stop(&worker->handoff);
        proxy_drain(&worker->proxy);
        if (worker->http != NULL) {
            http_stop(worker->http);
        }
    }
    if (limit > 0) {
        uv_timer_start(&worker->cut, worker_on_cut, limit, 0);
        uv_unref((uv_handle_t *)&worker->cut);
    }
    if (worker->channel != NULL) {
        channel_unref(worker->channel); /* the master knows the rest by our exit status */
    } else {
        proxy_resume(&worker->proxy); /* nobody is left who could */
    }
}

static void worker_on_signal(uv_signal_t *handle, int number)
{
    char why[32];
    struct worker *worker = handle->data;
    const struct global_options *global = &worker->options->config.global;
    if (number == SIGUSR1) {
        logs_reopen(&worker->logs);
        return;
    }
    if (worker->signalled) {
        log_line(LOG_NOTICE, "second signal %d: ending at once; %u worker slots were busy", number,
                 proxy_busy(&worker->proxy));
        worker_exit(worker, EXIT_FAILURE);
    }
    worker->signalled = 1;
    if (worker->channel != NULL && !worker->proxy.draining) {
        channel_send(worker->channel, "leaving"); /* so that another one takes this one's place */
        worker_tell(worker);
    }
    snprintf(why, sizeof(why), "signal %d", number);
    worker_drain(worker, why,
                 number == SIGQUIT ? global->shutdown_timeout : global->terminate_timeout);
}

static int worker_on_hand_over(void *arg, const struct pool *pool, int fd)
{
    const struct worker *worker = arg;
    return handoff_send(&worker->handoff, pool->options->name, fd);
}

/* The master tells what another worker was told. */
static void worker_set_paused(struct worker *worker, const char *name, int paused)
{
    struct pool *pool = proxy_pool(&worker->proxy, name);
    if (pool != NULL && paused) {
        pool_pause(pool);
    } else if (pool != NULL) {
        pool_resume(pool);
    }
}

static void worker_on_line(void *arg, char *line)
{
    struct worker *worker = arg;
    if (strcmp(line, "tell") == 0) {
        worker_tell(worker);
    } else if (strncmp(line, "retire ", 7) == 0) {
        worker->proxy.events.hand_over = worker_on_hand_over;
        worker_drain(worker, "another worker has taken over", strtoull(line + 7, NULL, 10));
    } else if (strncmp(line, "drain ", 6) == 0) {
        worker->proxy.events.hand_over = NULL; /* nobody is left to have them, */
        teller_last(&worker->teller);
        worker_drain(worker, "the master says", strtoull(line + 6, NULL, 10));
        proxy_resume(&worker->proxy); /* or to resume a pool */
    } else if (strncmp(line, "pause ", 6) == 0 || strncmp(line, "resume ", 7) == 0) {
        worker_set_paused(worker, strchr(line, ' ') + 1, line[0] == 'p');
    } else if (strcmp(line, "reopen") == 0) {
        logs_reopen(&worker->logs);
    } else if (strncmp(line, "share ", 6) == 0) {
        worker->proxy.sharing = (int)strtol(line + 6, NULL, 10);
    } else if (strcmp(line, "ping") == 0) {
        channel_send(worker->channel, "pong");
    } else if (strcmp(line, "done") == 0) {
        control_master_answered(&worker->control, NULL);
    } else if (strncmp(line, "failed ", 7) == 0) {
        control_master_answered(&worker->control, line + 7);
    }
}

/* --- what the proxy tells --------------------------------------------------------------------- */

static void worker_on_response_began(void *arg, struct request *request, const uint8_t *head,
                                     size_t len)
{
    struct worker *worker = arg;
    logs_response_began(&worker->logs, request, head, len);
}

static void worker_on_phase_began(void *arg, struct request *request)
{
    struct worker *worker = arg;
    logs_phase_began(&worker->logs, request);
}

static void worker_on_request_ended(void *arg, const struct request *request, enum outcome outcome)
{
    struct worker *worker = arg;
    logs_request_ended(&worker->logs, request, outcome);
    control_request_ended(&worker->control, request, outcome);
    teller_request_ended(&worker->teller, request);
    status_request_ended(&worker->status, request, outcome);
}

static struct page *worker_on_page(void *arg, const struct request *request)
{
    struct worker *worker = arg;
    return status_page(&worker->status, request);
}

/* What the proxy tells goes to all who want to know. */
static void worker_want_events(struct worker *worker)
{
    worker->proxy.events = (struct proxy_events){
        .response_began = worker_on_response_began,
        .phase_began = worker_on_phase_began,
        .request_ended = worker_on_request_ended,
        .page = worker_on_page,
        .arg = worker,
    };
}

/* Without a master: what this process can do itself. */
static int worker_ask_itself(struct worker *worker, const char *what, char *err, size_t err_size)
{
    const struct config *config = &worker->options->config;
    if (strcmp(what, "quit") == 0) {
        control_master_answered(&worker->control, NULL);
        worker_drain(worker, "quit", config->global.shutdown_timeout);
        return 0;
    }
    if (strncmp(what, "fpm ", 4) == 0) {
        char why[256];
        const struct pool_options *pool = config_find_pool(config, what + 4);
        int rc = fpm_signal_reload(pool->fpm_pid, why, sizeof(why));
        control_master_answered(&worker->control, rc == 0 ? NULL : why);
        return 0;
    }
    if (strncmp(what, "end ", 4) == 0) {
        snprintf(
            err, err_size,
            "the worker is another user's; only a master that is root may signal it, and there "
            "is no master, for there is no configuration file");
        return -1;
    }
    snprintf(err, err_size, "%.60s: there is no master, for there is no configuration file", what);
    return -1;
}

static void worker_on_paused(void *arg, const struct pool *pool)
{
    const struct worker *worker = arg;
    if (worker->channel != NULL) {
        channel_send(worker->channel, "%s %s", pool->paused ? "pause" : "resume",
                     pool->options->name);
    }
}

static int worker_on_ask(void *arg, const char *what, char *err, size_t err_size)
{
    struct worker *worker = arg;
    if (worker->channel == NULL) {
        return worker_ask_itself(worker, what, err, err_size);
    }
    channel_send(worker->channel, "%s", what);
    return 0;
}

static void worker_on_master_gone(void *arg)
{
    struct worker *worker = arg;
    channel_close(worker->channel);
    worker->channel = NULL;
    teller_last(&worker->teller);
    if (!worker->proxy.draining) {
        log_line(LOG_ALERT, "the master is gone");
        worker_drain(worker, "without a master", worker->options->config.global.shutdown_timeout);
    } else {
        proxy_resume(&worker->proxy);
    }
}

/* --- the beginning ---------------------------------------------------------------------------- */

static void worker_on_prepare(uv_prepare_t *prepare)
{
    struct worker *worker = prepare->data;
    logs_flush(&worker->logs);
}

/* Descriptors that are not for clients: each worker slot needs one for its connection, and one for
 * its worker's pidfd. */
static uint64_t worker_reserved_files(uint64_t workers)
{
    return WORKER_FILES + 2 * workers;
}

uint64_t worker_files_for(uint64_t workers, uint64_t clients)
{
    uint64_t reserved = worker_reserved_files(workers);
    uint64_t files = reserved + (clients * 3 + 1) / 2;
    return files > 2 * reserved ? files : 2 * reserved + 1;
}

/* Descriptors bound how many clients and workers there can be: takes as many as wanted, with 0 all
 * that are allowed. Returns how many clients fit, when each one that waits with a body needs a
 * second one. */
static uint64_t worker_raise_files(unsigned wanted, unsigned max_workers)
{
    struct rlimit files;
    uint64_t reserved = worker_reserved_files(max_workers);
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

/* Signals alone are no reason to live. */
static int worker_watch_signals(struct worker *worker, int under_master)
{
    int rc = 0;
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; rc == 0 && i < WORKER_SIGNALS; i++) {
        uv_signal_t *handle = &worker->signals[i];
        handle->data = worker;
        uv_signal_init(&worker->loop, handle);
        if (!under_master || worker_signals[i] != SIGINT) { /* the master has had it ignored */
            rc = uv_signal_start(handle, worker_on_signal, worker_signals[i]);
        }
        uv_unref((uv_handle_t *)handle);
    }
    return rc;
}

static int worker_open_channel(struct worker *worker)
{
    const struct channel_events events = {worker_on_line, worker_on_master_gone, worker};
    worker->channel = channel_open(&worker->loop, SOCKETS_CHANNEL, &events);
    return worker->channel != NULL ? 0 : UV_ENOMEM;
}

/* Socket i of those that the configuration wants: the master's, or a new one; fd -1 if it does not
 * want it. */
static int worker_listener(const struct socket_spec *spec, unsigned i, int under_master,
                           struct listener *out, char *err, size_t err_size)
{
    *out = (struct listener){.fd = -1};
    if (spec->address.len == 0) {
        return 0;
    }
    if (!under_master) {
        return sockets_make(out, spec, err, err_size);
    }
    out->fd = SOCKETS_FIRST_FD + (int)i;
    if (address_of_socket(&out->address, out->fd) != 0) {
        snprintf(err, err_size, "the master passed no socket for %.200s", spec->address.text);
        return -1;
    }
    return 0;
}

/* What the master has given it but for the sockets. */
static int worker_open_master(struct worker *worker)
{
    int rc = worker_open_channel(worker);
    if (rc == 0) {
        worker->proxy.sharing = 1; /* it is not alone, for all it knows; the master will say */
        worker->proxy.numbers = numbers_open(SOCKETS_NUMBERS);
        rc = worker->proxy.numbers != NULL ? 0 : uv_translate_sys_error(errno);
        close(SOCKETS_NUMBERS);
    }
    return rc;
}

static int worker_open_loop(struct worker *worker, int under_master)
{
    int rc = uv_loop_init(&worker->loop);
    if (rc == 0) {
        rc = worker_watch_signals(worker, under_master);
    }
    if (rc == 0 && under_master) {
        rc = worker_open_master(worker);
    }
    if (rc == 0) {
        worker->flush.data = worker;
        uv_prepare_init(&worker->loop, &worker->flush);
        uv_prepare_start(&worker->flush, worker_on_prepare);
        uv_unref((uv_handle_t *)&worker->flush);
        uv_timer_init(&worker->loop, &worker->cut);
        worker->cut.data = worker;
    }
    return rc;
}

/* Opens all logs, while it may: whoever it becomes owns them, and can open them again. */
static int worker_open_logs(struct worker *worker, char *err, size_t err_size)
{
    const struct config *config = &worker->options->config;
    uid_t uid;
    gid_t gid;
    if (privileges_find(config->global.user, config->global.group, &uid, &gid, err, err_size) !=
            0 ||
        errorlog_open(&config->global, uid, gid, err, err_size) != 0 ||
        logs_open(&worker->logs, &worker->loop, config->pools, config->pool_count, uid, gid, err,
                  err_size) != 0) {
        return -1;
    }
    worker->logs.proxy = &worker->proxy;
    return 0;
}

/* Whoever wants to stop something should not be the first to learn that it cannot be. */
static void worker_check_stop_dir(const struct global_options *global)
{
    if (global->stop_dir[0] != '\0' && access(global->stop_dir, W_OK | X_OK) != 0) {
        log_line(LOG_WARNING, "stop_dir = %s: %s: phases cannot be asked to stop", global->stop_dir,
                 strerror(errno));
    }
}

/* What needs root comes first, then root goes. listeners: SOCKETS_LIST_MAX. Returns 0, or -1 with a
 * sentence in err. */
static int worker_start(struct worker *worker, int under_master, struct listener *listeners,
                        char *err, size_t err_size)
{
    const struct config *config = &worker->options->config;
    struct socket_spec specs[SOCKETS_LIST_MAX];
    unsigned count = sockets_of_config(config, specs);
    unsigned workers = 0;
    int rc = worker_open_loop(worker, under_master);
    if (rc == 0 && worker_open_logs(worker, err, err_size) != 0) {
        return -1; /* after the channel is there, so that the master hears it */
    }
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        if (worker_listener(&specs[i], i, under_master, &listeners[i], err, err_size) != 0) {
            return -1;
        }
    }
    for (unsigned i = 0; i < config->pool_count; i++) {
        workers += pool_options_workers(config->pools[i]);
    }
    if (rc == 0) {
        worker->proxy.max_conns = worker_raise_files(config->global.rlimit_files, workers);
        privileges_warn(config->global.user, config->global.group);
        if (privileges_drop(config->global.user, config->global.group, err, err_size) != 0) {
            return -1;
        }
        worker_check_stop_dir(&config->global);
        stop_sweep(config->global.stop_dir);
        worker_want_events(worker);
        worker->proxy.stop_dir = config->global.stop_dir;
        worker->proxy.know_workers = config->global.control[0] != '\0';
        rc = proxy_open(&worker->proxy, &worker->loop, config->pools, config->pool_count);
    }
    if (rc == 0) {
        rc = status_open(&worker->status, &worker->proxy, &worker->control.peers);
    }
    if (rc != 0) {
        snprintf(err, err_size, "cannot start: %s", uv_strerror(rc));
        return -1;
    }
    return 0;
}

/* Listens on the sockets that sockets_of_config names. */
static int worker_listen(struct worker *worker, const struct listener *listeners, char *err,
                         size_t err_size)
{
    static const unsigned rights[] = {CONTROL_READ | CONTROL_CHANGE, CONTROL_READ};
    const struct control_events events = {worker_on_ask, worker_on_paused, worker};
    unsigned pools = worker->options->config.pool_count;
    for (unsigned i = 0; i < pools; i++) {
        if (proxy_listen(&worker->proxy, i, &listeners[i], err, err_size) != 0) {
            return -1;
        }
    }
    if (worker->channel != NULL) {
        int rc = handoff_open(&worker->handoff, &worker->proxy, &worker->control.peers,
                              SOCKETS_HANDOFF_READ, SOCKETS_HANDOFF_WRITE);
        if (rc != 0) {
            snprintf(err, err_size, "cannot start: %s", uv_strerror(rc));
            return -1;
        }
    }
    control_open(&worker->control, &worker->proxy, &events);
    listeners += pools;
    for (unsigned i = 0; i < CONTROL_SOCKETS; i++) {
        const struct listener *listener = &listeners[SOCKETS_CONTROL + i];
        if (listener->fd >= 0 &&
            control_listen(&worker->control, i, listener, rights[i], err, err_size) != 0) {
            return -1;
        }
    }
    if (listeners[SOCKETS_METRICS].fd < 0) {
        return 0;
    }
    worker->http =
        http_open(&worker->loop, &worker->status, &listeners[SOCKETS_METRICS], err, err_size);
    return worker->http != NULL ? 0 : -1;
}

static void worker_say_ready(const struct worker *worker)
{
    const struct proxy *proxy = &worker->proxy;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        const struct pool *pool = &proxy->pools[i];
        log_line(LOG_NOTICE, "ready: pid %d, [%s] listening on %s, %u upstream(s), %u workers",
                 (int)getpid(), pool->options->name, server_address(pool->server),
                 pool->options->upstream_count, pool->workers);
    }
    if (worker->http != NULL) {
        log_line(LOG_NOTICE, "metrics at http://%s/metrics", http_address(worker->http));
    }
    log_flush();
    if (worker->channel != NULL) {
        channel_send(worker->channel, "ready");
    }
}

/* Closes what only the process itself still has open. */
static void worker_end(struct worker *worker)
{
    /* The handles below take the signals' handlers with them. */
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    teller_close(&worker->teller);
    control_close(&worker->control);
    logs_close(&worker->logs);
    if (worker->http != NULL) {
        http_close(worker->http);
    }
    loop_close(&worker->loop);
    teller_free(&worker->teller);
    control_free(&worker->control);
    status_free(&worker->status);
    proxy_free(&worker->proxy);
    logs_free(&worker->logs);
    config_free(&worker->options->config);
}

int worker_run(struct options *options, int under_master)
{
    static struct worker worker;
    struct listener listeners[SOCKETS_LIST_MAX];
    char err[512];
    worker.options = options;
    if (under_master) {
        close(SOCKETS_CONFIG);
        uv_set_process_title("deferd: worker process");
    }
    if (worker_start(&worker, under_master, listeners, err, sizeof(err)) != 0 ||
        worker_listen(&worker, listeners, err, sizeof(err)) != 0) {
        log_line(LOG_ALERT, "%s", err);
        if (worker.channel != NULL) {
            channel_send(worker.channel, "failed %s", err);
        }
        log_close();
        return EXIT_FAILURE;
    }
    worker_say_ready(&worker);
    uv_run(&worker.loop, UV_RUN_DEFAULT);
    worker_end(&worker);
    log_line(LOG_NOTICE, "ended");
    log_close();
    return EXIT_SUCCESS;
}
