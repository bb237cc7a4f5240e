/*
 * Happy path: bind the sockets, start a worker, tell whoever waits that all is ready, and sleep. A
 * reload starts a second worker; once that is ready the first one is told to drain.
 * Failure modes: a configuration or a worker that is not in order changes nothing, and whoever
 * asked gets the reason; a worker that dies, or hangs and is killed (pulse), is replaced, later and
 * later if it keeps dying, and the sockets stay open meanwhile; a new binary that cannot be started
 * leaves this one running.
 */
#include "deferd/master.h"

#include "deferd/channel.h"
#include "deferd/child.h"
#include "deferd/daemon.h"
#include "deferd/errand.h"
#include "deferd/errorlog.h"
#include "deferd/handoff.h"
#include "deferd/handover.h"
#include "deferd/log.h"
#include "deferd/loop.h"
#include "deferd/numbers.h"
#include "deferd/privileges.h"
#include "deferd/pulse.h"
#include "deferd/sockets.h"
#include "deferd/upgrade.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <utlist.h>
#include <uv.h>

/* A worker that lived shorter counts as one that keeps dying. */
#define MASTER_STABLE_MS 10000

/* How soon to try again to write what a slow reader of the log did not take. */
#define MASTER_RELOG_MS 50

#define MASTER_DELAY_FIRST_MS 100
#define MASTER_DELAY_LAST_MS  10000

static const int master_signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};

#define MASTER_SIGNALS (sizeof(master_signals) / sizeof(master_signals[0]))

struct master {
    uv_loop_t loop;
    uv_signal_t signals[MASTER_SIGNALS];
    uv_prepare_t flush;
    uv_timer_t respawn; /* the delay before the next worker */
    uv_timer_t next;    /* begins what again says */
    uv_timer_t become;  /* executes the new binary */
    uv_timer_t relog;   /* while some of the log could not be written */
    struct pulse pulse;
    struct options *options;
    struct config config;  /* what is in effect */
    struct config coming;  /* what the candidate is started with, if it is not the same */
    char *argv0;           /* borrowed; what the process was called as */
    char binary[PATH_MAX]; /* what an upgrade starts */
    struct sockets sockets;
    struct child *children;
    struct child *current;   /* the one that works; NULL while there is none */
    struct child *candidate; /* the one that is to be current when it is ready */
    struct child *asked;     /* who wants to know what becomes of the reload */
    unsigned deaths;         /* in a row */
    int reloading;           /* the candidate has another configuration */
    int upgrading;           /* or is of a new binary, and this process is to be */
    int again;               /* a signal came meanwhile that asks for another one */
    int pid_fd;              /* of the pid file, locked; -1 without one */
    char pid_path[256];
    int ready; /* there was a worker that was ready */
    int ending;
    int status; /* the exit status */
};

static void master_spawn_again(struct master *master);
static void master_reload(struct master *master, struct child *child, int upgrade);
static void master_end(struct master *master, uint64_t limit, const char *why);
static void master_on_become(uv_timer_t *timer);
static void master_block_signals(int how);

/* --- children --------------------------------------------------------------------------------- */

static void master_forget_child(struct master *master, struct child *child)
{
    DL_DELETE(master->children, child);
    if (master->asked == child) {
        master->asked = NULL;
    }
    child_free(child);
}

/* Whoever asked for a reload hears how it ended. why: NULL if it went well. */
static void master_reply(struct master *master, const char *why)
{
    if (master->asked != NULL && why == NULL) {
        child_tell(master->asked, "done");
    } else if (master->asked != NULL) {
        child_tell(master->asked, "failed %s", why);
    }
    master->asked = NULL;
}

static void master_on_next(uv_timer_t *timer)
{
    struct master *master = timer->data;
    int again = master->again;
    master->again = 0;
    if (again != 0 && !master->ending) {
        master_reload(master, NULL, again == SIGUSR2);
    }
}

/* A reload is over, in whatever way. */
static void master_settle(struct master *master)
{
    master->candidate = NULL;
    master->reloading = 0;
    master->upgrading = 0;
    if (master->again != 0) {
        uv_timer_start(&master->next, master_on_next, 0, 0);
    }
}

/* The candidate, or what was to be one, has come to nothing: all stays as it is. */
static void master_reload_failed(struct master *master, const char *why)
{
    sockets_undo(&master->sockets);
    log_line(LOG_ERROR, "%s failed, nothing has changed: %s",
             !master->ready      ? "the start"
             : master->upgrading ? "the upgrade"
                                 : "the reload",
             why);
    config_free(&master->coming);
    master_settle(master);
    master_reply(master, why);
    daemon_ready(why);
    if (!master->ready) {
        master->ending = 1;
        master->status = EXIT_FAILURE;
    } else {
        sd_notify(0, "READY=1\nSTATUS=The last reload failed");
    }
    if (master->current == NULL && !master->ending) {
        master_spawn_again(master); /* the reload had come between a death and the next worker */
    }
}

/* Connections that the current worker keeps are php-fpm workers it keeps; under load those are all
 * of them, for good, and a worker that drains would never get one for its last requests. So it
 * keeps none as long as there are others; how many, tells it whether it has heard of all. */
static void master_say_share(const struct master *master)
{
    const struct child *child = NULL;
    unsigned draining = 0;
    DL_FOREACH(master->children, child)
    {
        draining += child != master->current && child != master->candidate;
    }
    if (master->current != NULL) {
        child_tell(master->current, "share %u", draining);
    }
}

/* The candidate works now; the one before it ends when its requests have. */
static void master_take_over(struct master *master)
{
    struct child *old = master->current;
    int upgrading = master->upgrading;
    master->current = master->candidate;
    pulse_is_ready(master->current);
    if (master->reloading) {
        errorlog_follow(&master->coming.global);
        config_free(&master->config);
        master->config = master->coming;
        master->coming = (struct config){0};
    }
    sockets_commit(&master->sockets);
    master_settle(master);
    log_line(LOG_NOTICE, "worker %d works now", (int)master->current->pid);
    master->ready = 1;
    master_say_share(master);
    if (old != NULL) {
        child_tell(old, "tell"); /* before the answer: who has that finds its phases */
    }
    master_reply(master, NULL); /* before it is told to drain: it has the answer to hand on */
    if (old != NULL) {
        uint64_t limit = master->config.global.shutdown_timeout;
        child_tell(old, "retire %llu", (unsigned long long)limit);
        pulse_expect_end(old, limit);
    }
    daemon_ready(NULL);
    sd_notify(0, "READY=1\nSTATUS=Ready");
    if (upgrading) {
        /* Signals from here on are for the new one. What this one has already caught it works
         * through first, in the turn of the loop before that timer. */
        master_block_signals(SIG_BLOCK);
        uv_timer_start(&master->become, master_on_become, 1, 0);
    }
}

/* A worker was told to pause a pool, or to let it go on: its successors are to know, and the others
 * that have requests of it. */
static void master_remember_pause(struct master *master, const struct child *from, const char *line)
{
    const struct child *child = NULL;
    const char *name = strchr(line, ' ') + 1;
    config_set_paused(&master->config, name, line[0] == 'p');
    config_set_paused(&master->coming, name, line[0] == 'p');
    DL_FOREACH(master->children, child)
    {
        if (child != from && !master->ending) {
            child_tell(child, "%s", line);
        }
    }
}

/* A line from a child. */
static void master_on_line(struct child *child, char *line)
{
    struct master *master = child->owner;
    if (strcmp(line, "ready") == 0 && child == master->candidate && !master->ending) {
        master_take_over(master);
    } else if (strncmp(line, "failed ", 7) == 0) {
        snprintf(child->why, sizeof(child->why), "%s", line + 7);
    } else if (strcmp(line, "pong") == 0) {
        pulse_answered(&master->pulse, child);
    } else if (strcmp(line, "leaving") == 0 && child == master->current && !master->ending) {
        log_line(LOG_NOTICE, "worker %d was told to end by somebody else; it is replaced",
                 (int)child->pid);
        master->current = NULL;
        if (master->candidate == NULL) {
            master_spawn_again(master);
        }
    } else if (strcmp(line, "reload") == 0 || strcmp(line, "upgrade") == 0) {
        master_reload(master, child, line[0] == 'u');
    } else if (strncmp(line, "pause ", 6) == 0 || strncmp(line, "resume ", 7) == 0) {
        master_remember_pause(master, child, line);
    } else if (strcmp(line, "quit") == 0) {
        child_tell(child, "done");
        master_end(master, master->config.global.shutdown_timeout, "quit");
    } else {
        errand_run(&master->config, child, line);
    }
}

static void master_child_ended(struct master *master, struct child *child, int status)
{
    char how[600];
    child_describe_end(child, status, how, sizeof(how));
    int current = child == master->current;
    int candidate = child == master->candidate;
    int stable = uv_now(&master->loop) - child->started >= MASTER_STABLE_MS;
    log_line(current && !master->ending ? LOG_ALERT : LOG_NOTICE, "%s", how);
    if (child->hung && master->ending) {
        master->status = EXIT_FAILURE;
    }
    master_forget_child(master, child);
    if (stable && !candidate) {
        master->deaths = 0; /* one that drained, too: it did not keep dying */
    } else if (current || candidate) {
        master->deaths++;
    }
    if (current) {
        master->current = NULL;
    }
    if (master->ending) {
        return;
    }
    master_say_share(master);
    if (candidate && (master->reloading || !master->ready)) {
        master_reload_failed(master, how);
    } else if (candidate) {
        master_settle(master);
        master_spawn_again(master);
    } else if (current && master->candidate == NULL) {
        master_spawn_again(master);
    }
}

/* --- starting one ----------------------------------------------------------------------------- */

/* Starts a candidate with this configuration. Returns 0, or -1 with a sentence in err. */
static int master_spawn(struct master *master, const char *binary, const struct config *config,
                        char *err, size_t err_size)
{
    struct child *child =
        child_spawn(&master->loop, binary, config, &master->sockets, master_on_line, err, err_size);
    if (child == NULL) {
        return -1;
    }
    child->owner = master;
    DL_APPEND(master->children, child);
    master->candidate = child;
    pulse_expect_ready(child);
    return 0;
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

/* child: who asked, or NULL. */
static void master_reload(struct master *master, struct child *child, int upgrade)
{
    char err[1024];
    const char *what = upgrade ? "upgrade" : "reload";
    int busy = master->candidate != NULL || uv_is_active((uv_handle_t *)&master->become);
    if (master->ending || (busy && child != NULL)) {
        const char *why = master->ending ? "deferd is ending" : "another one is under way";
        log_line(LOG_WARNING, "%s: refused: %s", what, why);
        if (child != NULL) {
            child_tell(child, "failed %s", why);
        }
        return;
    }
    if (busy) {
        master->again = upgrade ? SIGUSR2 : SIGHUP; /* who sends a signal cannot be refused */
        return;
    }
    log_line(LOG_NOTICE, "%s: begins", what);
    sd_notifyf(0, "RELOADING=1\nSTATUS=Reloading\nMONOTONIC_USEC=%llu",
               (unsigned long long)(uv_hrtime() / 1000));
    uv_timer_stop(&master->respawn);
    master->asked = child;
    master->reloading = 1;
    master->upgrading = upgrade;
    if (options_load(master->options, &master->coming) != 0) {
        snprintf(err, sizeof(err), "%.*s", (int)master->coming.errors.len,
                 (const char *)master->coming.errors.data);
        master_reload_failed(master, err);
        return;
    }
    config_keep_paused(&master->coming, &master->config);
    if (sockets_want_all(&master->sockets, &master->coming, err, sizeof(err)) != 0 ||
        master_spawn(master, upgrade ? master->binary : "/proc/self/exe", &master->coming, err,
                     sizeof(err)) != 0) {
        master_reload_failed(master, err);
    }
}

/* --- ending ----------------------------------------------------------------------------------- */

/* limit: milliseconds, 0 for none. */
static void master_end(struct master *master, uint64_t limit, const char *why)
{
    struct child *child = NULL;
    if (master->ending) {
        log_line(LOG_NOTICE, "%s: ending at once", why);
        master->status = EXIT_FAILURE;
        child_kill_all(master->children);
        return;
    }
    log_line(LOG_NOTICE, "%s: ending", why);
    sd_notify(0, "STOPPING=1\nSTATUS=Ending");
    master->ending = 1;
    master->candidate = NULL; /* one that was to be ends like the others */
    uv_timer_stop(&master->respawn);
    sockets_close(&master->sockets); /* nobody would ever take who connects now */
    DL_FOREACH(master->children, child)
    {
        child_tell(child, "drain %llu", (unsigned long long)limit);
        pulse_expect_end(child, limit);
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

static void master_on_signal(uv_signal_t *handle, int number)
{
    char why[32];
    struct master *master = handle->data;
    const struct child *child = NULL;
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
        errorlog_reopen(&master->config);
        DL_FOREACH(master->children, child)
        {
            child_tell(child, "reopen");
        }
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

/* A signal between exec and the new binary's handlers would end the process. */
static void master_block_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < MASTER_SIGNALS; i++) {
        sigaddset(&set, master_signals[i]);
    }
    sigprocmask(how, &set, NULL);
}

static void master_on_become(uv_timer_t *timer)
{
    static struct handover handover;
    struct master *master = timer->data;
    const struct child *child = NULL;
    if (!master->ending) {
        if (master->again != 0) {
            kill(getpid(), master->again); /* as it is blocked, the new one gets it */
            master->again = 0;
        }
        handover = (struct handover){.sockets = &master->sockets, .pid_fd = master->pid_fd};
        snprintf(handover.pid_path, sizeof(handover.pid_path), "%s", master->pid_path);
        DL_FOREACH(master->children, child)
        {
            handover_add(&handover, child, child == master->current);
        }
        upgrade_execute(master->binary, master->argv0, master->options, &master->config, &handover);
    }
    master_block_signals(SIG_UNBLOCK);
}

/* Takes over from the binary that was this process before. */
static void master_read_handover(struct master *master)
{
    static struct handover handover;
    handover.sockets = &master->sockets;
    handover_read(&handover);
    master->pid_fd = handover.pid_fd;
    if (handover.pid_fd >= 0) {
        memcpy(master->pid_path, handover.pid_path, sizeof(master->pid_path));
    }
    for (unsigned i = 0; i < handover.child_count; i++) {
        struct child *child = child_adopt(&master->loop, handover.children[i].pid,
                                          handover.children[i].fd, master_on_line);
        if (child == NULL) {
            continue;
        }
        child->owner = master;
        child->left = handover.children[i].left;
        DL_APPEND(master->children, child);
        if (handover.children[i].current) {
            master->current = child;
            master->ready = 1;
        }
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

/* To wake the loop is all it is for: the log is written before the loop waits again. */
static void master_on_relog(uv_timer_t *timer)
{
    (void)timer;
}

static void master_on_prepare(uv_prepare_t *prepare)
{
    struct master *master = prepare->data;
    if (master->ending && master->children == NULL) {
        uv_stop(&master->loop);
    }
    if (log_flush() > 0) {
        uv_timer_start(&master->relog, master_on_relog, MASTER_RELOG_MS, 0);
    }
}

static int master_open_loop(struct master *master)
{
    int rc = uv_loop_init(&master->loop);
    master->loop.data = master; /* it is open */
    uv_timer_t *timers[] = {&master->respawn, &master->next, &master->become, &master->relog};
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
    master->pulse = (struct pulse){.children = &master->children,
                                   .current = &master->current,
                                   .candidate = &master->candidate,
                                   .limit = &master->config.global.hang_timeout};
    return rc != 0 ? rc : pulse_open(&master->pulse, &master->loop);
}

/* What there is before the first worker: background, log, loop. */
static int master_prepare_process(struct master *master, char *err, size_t err_size)
{
    const struct global_options *global = &master->config.global;
    uid_t uid;
    gid_t gid;
    if (!handover_is_there() && global->daemonize && daemon_start(err, err_size) != 0) {
        return -1;
    }
    if (privileges_find(global->user, global->group, &uid, &gid, err, err_size) != 0) {
        return -1;
    }
    if (errorlog_open(global, uid, gid, err, err_size) != 0) {
        return -1;
    }
    int rc = master_open_loop(master);
    if (rc != 0) {
        snprintf(err, err_size, "cannot start: %s", uv_strerror(rc));
        return -1;
    }
    return 0;
}

/* Everything that must be in order before the first worker, and that one. Returns 0, or -1 with a
 * sentence in err. */
static int master_prepare(struct master *master, char *err, size_t err_size)
{
    const struct global_options *global = &master->config.global;
    if (master_prepare_process(master, err, err_size) != 0) {
        return -1;
    }
    if (handover_is_there()) {
        master_read_handover(master);
    } else {
        sockets_take_systemd(&master->sockets);
    }
    if (master->sockets.numbers == 0) {
        master->sockets.numbers = numbers_make();
    }
    if ((master->sockets.handoff[0] == 0 && handoff_make(master->sockets.handoff) != 0) ||
        master->sockets.numbers < 0) {
        snprintf(err, err_size, "cannot start: %s", strerror(errno));
        return -1;
    }
    if (master->pid_fd < 0) { /* or the one that the file said before is the one that counts */
        snprintf(master->pid_path, sizeof(master->pid_path), "%s", global->pid);
    }
    if (master->pid_path[0] != '\0') {
        master->pid_fd = daemon_lock_pid(master->pid_path, master->pid_fd, err, err_size);
        if (master->pid_fd < 0) {
            return -1;
        }
    }
    if (sockets_want_all(&master->sockets, &master->config, err, err_size) != 0) {
        return -1;
    }
    if (master->current != NULL) {
        sockets_commit(&master->sockets);
        master_block_signals(SIG_UNBLOCK);
        master_on_child_signal(master); /* who ended while nobody could hear it */
        return 0;
    }
    return master_spawn(master, "/proc/self/exe", &master->config, err, err_size);
}

static void master_close(struct master *master)
{
    if (master->pid_fd >= 0) {
        daemon_remove_pid(master->pid_path, master->pid_fd);
    }
    sockets_close(&master->sockets);
    if (master->loop.data != NULL) {
        loop_close(&master->loop);
    }
    config_free(&master->config);
    config_free(&master->coming);
}

int master_run(struct options *options, char **argv)
{
    static struct master master;
    char err[512] = "the path of this program is not to be found";
    master.options = options;
    master.config = options->config; /* owned from here */
    options->config = (struct config){0};
    master.argv0 = argv[0];
    master.pid_fd = -1;
    signal(SIGPIPE, SIG_IGN); /* a worker may die while it is written to */
    if (upgrade_find_binary(argv[0], master.binary, sizeof(master.binary)) != 0 ||
        master_prepare(&master, err, sizeof(err)) != 0) {
        log_line(LOG_ALERT, "%s", err);
        log_close();
        daemon_ready(err);
        master_close(&master);
        return EXIT_FAILURE;
    }
    log_line(LOG_NOTICE, "master %d: %s", (int)getpid(), options->file);
    snprintf(err, sizeof(err), "deferd: master process (%s)", options->file);
    uv_set_process_title(err);
    uv_run(&master.loop, UV_RUN_DEFAULT);
    int status = master.status;
    master_close(&master);
    log_line(LOG_NOTICE, "master ended");
    log_close();
    return status;
}
