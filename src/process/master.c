/*
 * Happy path: bind the sockets, start a worker, tell whoever waits that all is ready, and sleep. A
 * reload starts a second worker; once that is ready the first one is told to drain.
 * Failure modes: a configuration or a worker that is not in order changes nothing, and whoever
 * asked gets the reason; a worker that dies is replaced, later and later if it keeps dying, and the
 * sockets stay open meanwhile; a new binary that cannot be started leaves this one running.
 */
#include "deferd/master.h"

#include "deferd/channel.h"
#include "deferd/daemon.h"
#include "deferd/log.h"
#include "deferd/privileges.h"
#include "deferd/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <utlist.h>
#include <uv.h>

/* How long a worker may take to say that it is ready. */
#define MASTER_START_MS 30000

/* A worker that lived shorter counts as one that keeps dying. */
#define MASTER_STABLE_MS 10000

#define MASTER_DELAY_FIRST_MS 100
#define MASTER_DELAY_LAST_MS  10000

/* The environment variable by which one binary tells the next what it takes over. */
#define MASTER_STATE "DEFERD_STATE"

static const int master_signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};

#define MASTER_SIGNALS (sizeof(master_signals) / sizeof(master_signals[0]))

struct master;

struct child {
    struct master *master; /* borrowed */
    struct child *prev, *next;
    pid_t pid;
    struct channel *channel; /* NULL once it is closed */
    uint64_t started;        /* uv_now() */
    char why[512];           /* what it said when it failed */
};

struct master {
    uv_loop_t loop;
    uv_signal_t signals[MASTER_SIGNALS];
    uv_prepare_t flush;
    uv_timer_t start;    /* bounds the wait for the candidate */
    uv_timer_t respawn;  /* the delay before the next worker */
    uv_timer_t watchdog; /* systemd's */
    struct options *options;
    struct config config; /* what is in effect */
    struct config coming; /* what the candidate is started with, if it is not the same */
    char **argv;          /* borrowed */
    char binary[PATH_MAX];
    struct sockets sockets;
    struct child *children;
    struct child *current;   /* the one that works; NULL while there is none */
    struct child *candidate; /* the one that is to be current when it is ready */
    struct child *asked;     /* who wants to know what becomes of the reload */
    unsigned deaths;         /* in a row */
    int upgrading;           /* the candidate is of a new binary, and this process is to be */
    int pid_fd;              /* of the pid file, locked; -1 without one */
    int ready;               /* there was a worker that was ready */
    int ending;
    int status; /* the exit status */
};

static void master_spawn_again(struct master *master);
static void master_reload(struct master *master, struct child *child, int upgrade);
static void master_end(struct master *master, uint64_t limit, const char *why);
static void master_become_new(struct master *master);
static void master_on_start_timeout(uv_timer_t *timer);

/* --- children --------------------------------------------------------------------------------- */

static void master_free_child(struct master *master, struct child *child)
{
    DL_DELETE(master->children, child);
    if (child->channel != NULL) {
        channel_close(child->channel);
    }
    if (master->asked == child) {
        master->asked = NULL;
    }
    free(child);
}

/* Whoever asked for a reload hears how it ended. why: NULL if it went well. */
static void master_reply(struct master *master, const char *why)
{
    if (master->asked != NULL && master->asked->channel != NULL) {
        if (why == NULL) {
            channel_send(master->asked->channel, "done");
        } else {
            channel_send(master->asked->channel, "failed %s", why);
        }
    }
    master->asked = NULL;
}

/* The candidate, or what was to be one, has come to nothing: all stays as it is. */
static void master_reload_failed(struct master *master, const char *why)
{
    log_line(LOG_ERROR, "%s failed, nothing has changed: %s",
             !master->ready      ? "the start"
             : master->upgrading ? "the upgrade"
                                 : "the reload",
             why);
    sockets_undo(&master->sockets);
    config_free(&master->coming);
    master->upgrading = 0;
    master->candidate = NULL;
    uv_timer_stop(&master->start);
    master_reply(master, why);
    daemon_ready(why);
    if (!master->ready) {
        master->ending = 1;
        master->status = EXIT_FAILURE;
    } else {
        sd_notify(0, "READY=1\nSTATUS=The last reload failed");
    }
}

static void master_drain_child(const struct master *master, struct child *child, uint64_t limit)
{
    (void)master;
    if (child->channel != NULL) {
        channel_send(child->channel, "drain %llu", (unsigned long long)limit);
    }
}

/* The candidate works now; the one before it ends when its requests have. */
static void master_take_over(struct master *master)
{
    struct child *old = master->current;
    int upgrading = master->upgrading;
    master->current = master->candidate;
    master->candidate = NULL;
    master->upgrading = 0;
    uv_timer_stop(&master->start);
    if (master->coming.pool_count > 0) {
        config_free(&master->config);
        master->config = master->coming;
        master->coming = (struct config){0};
    }
    sockets_commit(&master->sockets);
    if (old != NULL) {
        master_drain_child(master, old, master->config.global.shutdown_timeout);
    }
    log_line(LOG_NOTICE, "worker %d works now", (int)master->current->pid);
    master->ready = 1;
    master_reply(master, NULL);
    daemon_ready(NULL);
    sd_notify(0, "READY=1\nSTATUS=Ready");
    if (upgrading) {
        master_become_new(master);
    }
}
/* A line from a child. */
static void master_on_line(void *arg, char *line)
{
    struct child *child = arg;
    struct master *master = child->master;
    if (strcmp(line, "ready") == 0 && child == master->candidate) {
        master_take_over(master);
    } else if (strncmp(line, "failed ", 7) == 0) {
        snprintf(child->why, sizeof(child->why), "%s", line + 7);
    } else if (strcmp(line, "pong") == 0 && child == master->current) {
        sd_notify(0, "WATCHDOG=1");
    } else if (strcmp(line, "reload") == 0 || strcmp(line, "upgrade") == 0) {
        master_reload(master, child, line[0] == 'u');
    } else if (strcmp(line, "quit") == 0) {
        master_end(master, master->config.global.shutdown_timeout, "quit");
    }
}

static void master_on_channel_end(void *arg)
{
    struct child *child = arg;
    channel_close(child->channel);
    child->channel = NULL; /* its exit status says the rest */
}

static void master_child_ended(struct master *master, struct child *child, int status)
{
    char how[600];
    if (WIFSIGNALED(status)) {
        snprintf(how, sizeof(how), "worker %d was ended by signal %d", (int)child->pid,
                 WTERMSIG(status));
    } else {
        snprintf(how, sizeof(how), "worker %d ended with status %d%s%s", (int)child->pid,
                 WEXITSTATUS(status), child->why[0] != '\0' ? ": " : "", child->why);
    }
    int current = child == master->current;
    int candidate = child == master->candidate;
    int stable = uv_now(&master->loop) - child->started >= MASTER_STABLE_MS;
    log_line(current && !master->ending ? LOG_ALERT : LOG_NOTICE, "%s", how);
    master_free_child(master, child);
    if (candidate && !master->ending) {
        master_reload_failed(master, how);
    }
    if (current) {
        master->current = NULL;
        master->deaths = stable ? 0 : master->deaths + 1;
    }
    if (!master->ending && master->ready && master->current == NULL && master->candidate == NULL) {
        if (!current) {
            master->deaths++;
        }
        master_spawn_again(master);
    }
}

/* --- starting one ----------------------------------------------------------------------------- */

/* The configuration as a file that has no name: a worker that takes another one's place must not
 * depend on what stands in the file by then. */
static int master_config_fd(const struct config *config)
{
    int fd = memfd_create("deferd.conf", MFD_CLOEXEC);
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    FILE *file = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (file == NULL) {
        return -1;
    }
    config_print(config, file);
    int rc = fclose(file);
    lseek(fd, 0, SEEK_SET);
    return rc == 0 ? fd : -1;
}

/* In the child: puts the descriptors where the worker looks for them, and becomes it. */
static void master_exec(const struct master *master, const char *binary,
                        const struct config *config, int channel, int config_fd)
{
    /* argv[0] is as long as the longest title the worker gives itself. */
    static char *const argv[] = {"deferd: worker process is starting", "--worker", NULL};
    struct socket_spec specs[SOCKETS_MAX];
    int fds[SOCKETS_MAX + 2];
    int count = 0;
    sigset_t none;

    fds[count++] = channel;
    fds[count++] = config_fd;
    unsigned sockets = sockets_of_config(config, specs);
    for (unsigned i = 0; i < sockets; i++) {
        struct socket_entry *entry =
            sockets_find((struct sockets *)&master->sockets, &specs[i].address);
        fds[count++] = entry->listener.fd;
    }
    for (int i = 0; i < count; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, SOCKETS_CHANNEL + SOCKETS_MAX + 2);
    }
    for (int i = 0; i < count; i++) {
        dup2(fds[i], SOCKETS_CHANNEL + i);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(binary, argv);
    dprintf(SOCKETS_CHANNEL, "failed %s: %s\n", binary, strerror(errno));
    _exit(EXIT_FAILURE);
}

/* Starts a worker with this configuration. Returns 0, or -1 with a sentence in err. */
static int master_spawn(struct master *master, const char *binary, const struct config *config,
                        char *err, size_t err_size)
{
    int pair[2] = {-1, -1};
    struct child *child = calloc(1, sizeof(*child));
    int config_fd = master_config_fd(config);
    if (child == NULL || config_fd < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        snprintf(err, err_size, "cannot start a worker: %s", strerror(errno));
        close(config_fd);
        free(child);
        return -1;
    }
    log_flush();
    child->pid = fork();
    if (child->pid == 0) {
        master_exec(master, binary, config, pair[1], config_fd);
    }
    close(config_fd);
    close(pair[1]);
    const struct channel_events events = {master_on_line, master_on_channel_end, child};
    child->channel = child->pid > 0 ? channel_open(&master->loop, pair[0], &events) : NULL;
    if (child->channel == NULL) {
        snprintf(err, err_size, "cannot start a worker: %s", strerror(errno));
        close(pair[0]);
        free(child);
        return -1;
    }
    child->master = master;
    child->started = uv_now(&master->loop);
    DL_APPEND(master->children, child);
    master->candidate = child;
    uv_timer_start(&master->start, master_on_start_timeout, MASTER_START_MS, 0);
    return 0;
}

static void master_on_start_timeout(uv_timer_t *timer)
{
    const struct master *master = timer->data;
    if (master->candidate != NULL) {
        snprintf(master->candidate->why, sizeof(master->candidate->why),
                 "it was not ready within %d s", MASTER_START_MS / 1000);
        kill(master->candidate->pid, SIGKILL);
    }
}

static void master_on_respawn(uv_timer_t *timer)
{
    char err[256];
    struct master *master = timer->data;
    if (master->ending || master->candidate != NULL) {
        return;
    }
    if (master_spawn(master, "/proc/self/exe", &master->config, err, sizeof(err)) != 0) {
        log_line(LOG_ALERT, "%s", err);
        master->deaths++;
        master_spawn_again(master);
    }
}

/* At once after the first death, then later and later. */
static void master_spawn_again(struct master *master)
{
    uint64_t delay = 0;
    if (master->deaths > 1) {
        unsigned shift = master->deaths - 2 < 10 ? master->deaths - 2 : 10;
        delay = (uint64_t)MASTER_DELAY_FIRST_MS << shift;
        delay = delay < MASTER_DELAY_LAST_MS ? delay : MASTER_DELAY_LAST_MS;
        log_line(LOG_ALERT, "workers keep dying; the next one in %llu ms",
                 (unsigned long long)delay);
    }
    uv_timer_start(&master->respawn, master_on_respawn, delay, 0);
}

/* --- reloading -------------------------------------------------------------------------------- */

static int master_want_sockets(struct master *master, const struct config *config, char *err,
                               size_t err_size)
{
    struct socket_spec specs[SOCKETS_MAX];
    unsigned count = sockets_of_config(config, specs);
    sockets_begin(&master->sockets);
    for (unsigned i = 0; i < count; i++) {
        if (sockets_want(&master->sockets, &specs[i], err, err_size) != 0) {
            return -1;
        }
    }
    return 0;
}

/* child: who asked, or NULL. */
static void master_reload(struct master *master, struct child *child, int upgrade)
{
    char err[1024];
    const char *what = upgrade ? "upgrade" : "reload";
    if (master->ending || master->candidate != NULL) {
        log_line(LOG_WARNING, "%s: refused, for %s is under way", what,
                 master->ending ? "the end" : "another one");
        if (child != NULL && child->channel != NULL) {
            channel_send(child->channel, "failed another one is under way");
        }
        return;
    }
    log_line(LOG_NOTICE, "%s: begins", what);
    sd_notifyf(0, "RELOADING=1\nSTATUS=Reloading\nMONOTONIC_USEC=%llu",
               (unsigned long long)(uv_hrtime() / 1000));
    uv_timer_stop(&master->respawn);
    master->asked = child;
    master->upgrading = upgrade;
    if (options_load(master->options, &master->coming) != 0) {
        snprintf(err, sizeof(err), "%.*s", (int)master->coming.errors.len,
                 (const char *)master->coming.errors.data);
        master_reload_failed(master, err);
        return;
    }
    if (master_want_sockets(master, &master->coming, err, sizeof(err)) != 0 ||
        master_spawn(master, upgrade ? master->binary : "/proc/self/exe", &master->coming, err,
                     sizeof(err)) != 0) {
        master_reload_failed(master, err);
    }
}

/* --- ending ----------------------------------------------------------------------------------- */

static void master_kill_all(struct master *master)
{
    const struct child *child = NULL;
    DL_FOREACH(master->children, child)
    {
        kill(child->pid, SIGKILL);
    }
}

static void master_end(struct master *master, uint64_t limit, const char *why)
{
    struct child *child = NULL;
    if (master->ending) {
        log_line(LOG_NOTICE, "%s: ending at once", why);
        master->status = EXIT_FAILURE;
        master_kill_all(master);
        return;
    }
    log_line(LOG_NOTICE, "%s: ending", why);
    sd_notify(0, "STOPPING=1\nSTATUS=Ending");
    master->ending = 1;
    uv_timer_stop(&master->respawn);
    DL_FOREACH(master->children, child)
    {
        master_drain_child(master, child, limit);
    }
}

/* --- signals ---------------------------------------------------------------------------------- */

static void master_on_child_signal(struct master *master)
{
    struct child *child = NULL;
    struct child *next = NULL;
    DL_FOREACH_SAFE(master->children, child, next)
    {
        int status;
        if (waitpid(child->pid, &status, WNOHANG) == child->pid) {
            master_child_ended(master, child, status);
        }
    }
}

static void master_reopen_logs(struct master *master)
{
    struct child *child = NULL;
    log_reopen();
    DL_FOREACH(master->children, child)
    {
        if (child->channel != NULL) {
            channel_send(child->channel, "reopen");
        }
    }
}

static void master_on_signal(uv_signal_t *handle, int number)
{
    char why[32];
    struct master *master = handle->data;
    const struct global_options *global = &master->config.global;
    snprintf(why, sizeof(why), "signal %d", number);
    switch (number) {
    case SIGCHLD:
        master_on_child_signal(master);
        break;
    case SIGHUP:
        master_reload(master, NULL, 0);
        break;
    case SIGUSR2:
        master_reload(master, NULL, 1);
        break;
    case SIGUSR1:
        master_reopen_logs(master);
        break;
    case SIGQUIT:
        master_end(master, global->shutdown_timeout, why);
        break;
    default:
        master_end(master, global->terminate_timeout, why);
        break;
    }
    if (master->ending && master->children == NULL) {
        uv_stop(&master->loop);
    }
}

/* --- a new binary takes this process over ----------------------------------------------------- */

static void master_keep_open(int fd)
{
    fcntl(fd, F_SETFD, 0);
}

/* What the new binary must know, in the environment, a line for each descriptor. */
static void master_write_state(struct master *master)
{
    char text[128 + ADDRESS_TEXT_MAX];
    struct buf state = {0};
    const struct child *child = NULL;
    for (unsigned i = 0; i < master->sockets.count; i++) {
        const struct socket_entry *entry = &master->sockets.entries[i];
        snprintf(text, sizeof(text), "socket %d %llu %llu %s\n", entry->listener.fd,
                 (unsigned long long)entry->listener.dev, (unsigned long long)entry->listener.ino,
                 entry->asked.text);
        buf_append(&state, text, strlen(text));
        master_keep_open(entry->listener.fd);
    }
    DL_FOREACH(master->children, child)
    {
        int fd = child->channel != NULL ? channel_fd(child->channel) : -1;
        snprintf(text, sizeof(text), "child %d %d %d\n", (int)child->pid, fd,
                 child == master->current);
        buf_append(&state, text, strlen(text));
        master_keep_open(fd);
    }
    if (master->pid_fd >= 0) {
        snprintf(text, sizeof(text), "pid %d\n", master->pid_fd);
        buf_append(&state, text, strlen(text));
        master_keep_open(master->pid_fd);
    }
    buf_append(&state, "", 1);
    setenv(MASTER_STATE, (const char *)state.data, 1);
    buf_free(&state);
}

static void master_become_new(struct master *master)
{
    log_line(LOG_NOTICE, "upgrade: the master goes on as %s", master->binary);
    log_flush();
    master_write_state(master);
    execv(master->binary, master->argv);
    log_line(LOG_ERROR, "upgrade: %s: %s; the master stays the old one", master->binary,
             strerror(errno));
    unsetenv(MASTER_STATE);
}

static void master_adopt(struct master *master, pid_t pid, int fd, int current)
{
    struct child *child = calloc(1, sizeof(*child));
    const struct channel_events events = {master_on_line, master_on_channel_end, child};
    if (child == NULL) {
        return;
    }
    child->master = master;
    child->pid = pid;
    child->started = uv_now(&master->loop);
    child->channel = fd >= 0 ? channel_open(&master->loop, fd, &events) : NULL;
    DL_APPEND(master->children, child);
    if (current) {
        master->current = child;
        master->ready = 1;
    }
}

static void master_read_state_line(struct master *master, const char *line)
{
    struct socket_entry entry = {0};
    unsigned long long dev;
    unsigned long long ino;
    int a;
    int b;
    int c;
    char err[256];
    char asked[ADDRESS_TEXT_MAX];
    if (sscanf(line, "socket %d %llu %llu %255s", &a, &dev, &ino, asked) == 4 &&
        master->sockets.count < SOCKETS_MAX &&
        address_parse(&entry.asked, asked, err, sizeof(err)) == 0) {
        entry.listener.fd = a;
        entry.listener.dev = (dev_t)dev;
        entry.listener.ino = (ino_t)ino;
        address_of_socket(&entry.listener.address, a);
        fcntl(a, F_SETFD, FD_CLOEXEC);
        master->sockets.entries[master->sockets.count++] = entry;
    } else if (sscanf(line, "child %d %d %d", &a, &b, &c) == 3) {
        fcntl(b, F_SETFD, FD_CLOEXEC);
        master_adopt(master, a, b, c);
    } else if (sscanf(line, "pid %d", &a) == 1) {
        fcntl(a, F_SETFD, FD_CLOEXEC);
        master->pid_fd = a;
    }
}

/* Takes over from the binary that was this process before. */
static void master_read_state(struct master *master, const char *state)
{
    char *text = strdup(state);
    char *save = NULL;
    for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        master_read_state_line(master, line);
    }
    free(text);
    unsetenv(MASTER_STATE);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void master_on_prepare(uv_prepare_t *prepare)
{
    struct master *master = prepare->data;
    if (master->ending && master->children == NULL) {
        uv_stop(&master->loop);
    }
    log_flush();
}

static void master_on_watchdog(uv_timer_t *timer)
{
    const struct master *master = timer->data;
    if (master->current != NULL && master->current->channel != NULL) {
        channel_send(master->current->channel, "ping"); /* the pong is what systemd hears of */
    } else {
        sd_notify(0, "WATCHDOG=1"); /* without a worker, this process is what works */
    }
}

static int master_open_loop(struct master *master)
{
    int rc = uv_loop_init(&master->loop);
    uint64_t watchdog_us;
    uv_timer_t *timers[] = {&master->start, &master->respawn, &master->watchdog};
    for (size_t i = 0; rc == 0 && i < sizeof(timers) / sizeof(timers[0]); i++) {
        timers[i]->data = master;
        rc = uv_timer_init(&master->loop, timers[i]);
    }
    for (size_t i = 0; rc == 0 && i < MASTER_SIGNALS; i++) {
        master->signals[i].data = master;
        rc = uv_signal_init(&master->loop, &master->signals[i]);
        if (rc == 0) {
            rc = uv_signal_start(&master->signals[i], master_on_signal, master_signals[i]);
        }
    }
    if (rc == 0) {
        master->flush.data = master;
        uv_prepare_init(&master->loop, &master->flush);
        uv_prepare_start(&master->flush, master_on_prepare);
    }
    if (rc == 0 && sd_watchdog_enabled(0, &watchdog_us) > 0) {
        uv_timer_start(&master->watchdog, master_on_watchdog, 0, watchdog_us / 3000);
    }
    return rc;
}

/* Everything that must be in order before the first worker. Returns 0, or -1 with a sentence in
 * err. */
static int master_prepare(struct master *master, char *err, size_t err_size)
{
    const struct global_options *global = &master->config.global;
    const char *state = getenv(MASTER_STATE);
    uid_t uid;
    gid_t gid;
    if (state == NULL && global->daemonize && daemon_start(err, err_size) != 0) {
        return -1;
    }
    if (privileges_find(global->user, global->group, &uid, &gid, err, err_size) != 0) {
        return -1;
    }
    int rc = global->error_log[0] != '\0' ? log_open_file(global->error_log, uid, gid) : 0;
    if (rc != 0) {
        snprintf(err, err_size, "error_log = %s: %s", global->error_log, strerror(-rc));
        return -1;
    }
    rc = master_open_loop(master);
    if (rc != 0) {
        snprintf(err, err_size, "cannot start: %s", uv_strerror(rc));
        return -1;
    }
    if (state != NULL) {
        master_read_state(master, state);
    } else {
        sockets_take_systemd(&master->sockets);
    }
    if (global->pid[0] != '\0') {
        master->pid_fd = daemon_lock_pid(global->pid, master->pid_fd, err, err_size);
        if (master->pid_fd < 0) {
            return -1;
        }
    }
    if (master_want_sockets(master, &master->config, err, err_size) != 0) {
        sockets_undo(&master->sockets);
        return -1;
    }
    return master->current != NULL
               ? 0
               : master_spawn(master, "/proc/self/exe", &master->config, err, err_size);
}

static void master_close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void master_close(struct master *master)
{
    if (master->pid_fd >= 0) {
        unlink(master->config.global.pid);
    }
    sockets_close(&master->sockets);
    uv_walk(&master->loop, master_close_handle, NULL);
    uv_run(&master->loop, UV_RUN_DEFAULT);
    uv_loop_close(&master->loop);
    config_free(&master->config);
    config_free(&master->coming);
}

int master_run(struct options *options, char **argv)
{
    static struct master master;
    char err[512];
    master.options = options;
    master.config = options->config; /* owned from here */
    options->config = (struct config){0};
    master.argv = argv;
    master.pid_fd = -1;
    ssize_t n = readlink("/proc/self/exe", master.binary, sizeof(master.binary) - 1);
    if (n < 0 || master_prepare(&master, err, sizeof(err)) != 0) {
        log_line(LOG_ALERT, "%s", n < 0 ? "/proc is not there" : err);
        log_flush();
        daemon_ready(err);
        return EXIT_FAILURE;
    }
    log_line(LOG_NOTICE, "master %d: %s", (int)getpid(), options->file);
    snprintf(err, sizeof(err), "deferd: master process (%s)", options->file);
    uv_set_process_title(err);
    uv_run(&master.loop, UV_RUN_DEFAULT);
    int status = master.status;
    master_close(&master);
    log_line(LOG_NOTICE, "master ended");
    log_flush();
    return status;
}
