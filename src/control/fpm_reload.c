/*
 * Happy path: pause, wait until nothing runs, close the idle connections, have the master signal
 * php-fpm, wait until its pid file is a new one and each upstream answers a barrier, resume.
 * Failure modes: php-fpm cannot be signalled, or does not come back in time: the pools are resumed,
 * and the client is told. A client that goes changes nothing.
 */
#include "deferd/fpm_reload.h"

#include "deferd/command.h"
#include "deferd/control.h"
#include "deferd/fpm.h"
#include "deferd/log.h"
#include "deferd/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long php-fpm may take to come back: its own graceful end is over by then, for it was idle. */
#define FPM_RELOAD_MS 30000

#define FPM_RELOAD_POOLS_MAX 64

enum fpm_reload_state {
    FPM_RELOAD_DRAINING,
    FPM_RELOAD_ASKING,    /* the master is to signal it */
    FPM_RELOAD_STARTING,  /* its pid file is still the old one */
    FPM_RELOAD_ANSWERING, /* the upstreams have not answered */
};

struct fpm_reload {
    enum fpm_reload_state state;
    struct control_client *client; /* borrowed; NULL when it is gone */
    struct pool *pools[FPM_RELOAD_POOLS_MAX];
    unsigned char stays[FPM_RELOAD_POOLS_MAX]; /* paused, for somebody else has paused it */
    unsigned count;
    unsigned current; /* the pool whose php-fpm is being signalled */
    int reload;       /* not just a drain */
    struct fpm_instance before;
    uint64_t deadline; /* uv_now() */
};

/* Those that keep no connections were asked for the answer alone, however this ended. */
static void fpm_reload_forget_answers(struct pool *pool)
{
    if (pool_keeps(pool)) {
        return;
    }
    pool_shut_idle(pool);
    for (unsigned i = 0; i < pool->options->upstream_count; i++) {
        pool->upstreams[i].barrier = UPSTREAM_BARRIER_NO;
    }
}

static void fpm_reload_end(struct control *control, const char *why)
{
    struct fpm_reload *op = control->fpm;
    control->fpm = NULL;
    if (op->reload) {
        for (unsigned i = 0; i < op->count; i++) {
            fpm_reload_forget_answers(op->pools[i]);
            if (!op->stays[i]) {
                pool_resume(op->pools[i]);
            }
        }
        log_line(why == NULL ? LOG_NOTICE : LOG_ERROR, "fpm-reload: %s",
                 why == NULL ? "php-fpm answers; requests go on" : why);
    }
    if (op->client != NULL) {
        control_answer(op->client, why == NULL ? json_object() : NULL, why != NULL ? why : "");
    }
    free(op);
}

/* --- the beginning ---------------------------------------------------------------------------- */

static int fpm_reload_same(const struct pool *a, const struct pool *b)
{
    return strcmp(a->options->fpm_pid, b->options->fpm_pid) == 0;
}

static void fpm_reload_choose(struct fpm_reload *op, const struct proxy *proxy,
                              const struct pool *pool)
{
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        struct pool *other = &proxy->pools[i];
        int chosen = !op->reload    ? other == pool
                     : pool == NULL ? other->options->fpm_pid[0] != '\0'
                                    : other == pool || fpm_reload_same(other, pool);
        if (chosen && op->count < FPM_RELOAD_POOLS_MAX) {
            op->pools[op->count++] = other;
        }
    }
}

int fpm_reload_begin(struct control *control, struct control_client *client, struct pool *pool,
                     int reload, char *err, size_t err_size)
{
    if (control->fpm != NULL) {
        snprintf(err, err_size, "a drain or fpm-reload is under way already");
        return -1;
    }
    if (reload && pool != NULL && pool->options->fpm_pid[0] == '\0') {
        snprintf(err, err_size, "pool %s has no upstream.fpm_pid", pool->options->name);
        return -1;
    }
    struct fpm_reload *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    op->client = client;
    op->reload = reload;
    fpm_reload_choose(op, control->proxy, pool);
    if (op->count == 0) {
        snprintf(err, err_size, "no pool has upstream.fpm_pid");
        free(op);
        return -1;
    }
    for (unsigned i = 0; i < op->count; i++) {
        op->stays[i] = op->pools[i]->paused != 0;
        pool_pause(op->pools[i]);
    }
    control->fpm = op;
    if (reload) {
        log_line(LOG_NOTICE, "fpm-reload: requests wait until what runs has ended");
    } else {
        log_line(LOG_NOTICE, "[%s] is drained: requests wait", pool->options->name);
    }
    control_wait(control);
    return 0;
}

/* --- on the way ------------------------------------------------------------------------------- */

/* The next php-fpm that was not signalled yet: two pools may have the same. */
static void fpm_reload_next(struct fpm_reload *op)
{
    int done;
    do {
        op->current++;
        done = 0;
        for (unsigned i = 0; op->current < op->count && i < op->current; i++) {
            done |= fpm_reload_same(op->pools[op->current], op->pools[i]);
        }
    } while (done);
}

static void fpm_reload_ask(struct control *control)
{
    char what[64];
    char err[512];
    struct fpm_reload *op = control->fpm;
    const struct pool_options *options = op->pools[op->current]->options;
    if (control->asked) {
        return; /* with another command; later */
    }
    if (fpm_instance_of(options->fpm_pid, &op->before) != 0) {
        snprintf(err, sizeof(err), "%s cannot be seen: is php-fpm running?", options->fpm_pid);
        fpm_reload_end(control, err);
        return;
    }
    snprintf(what, sizeof(what), "fpm %s", options->name);
    op->state = FPM_RELOAD_STARTING;
    op->deadline = uv_now(control->loop) + FPM_RELOAD_MS;
    if (control_ask(control, NULL, what, err, sizeof(err)) != 0) {
        fpm_reload_end(control, err);
    }
}

void fpm_reload_signalled(struct control *control, const char *why)
{
    const struct fpm_reload *op = control->fpm;
    if (op != NULL && op->state == FPM_RELOAD_STARTING && why != NULL) {
        fpm_reload_end(control, why);
    }
}

/* Has every upstream answered? What one answered before the reload counts no more. */
static int fpm_reload_answered(const struct fpm_reload *op, int forget)
{
    int answered = 1;
    for (unsigned i = 0; i < op->count; i++) {
        struct pool *pool = op->pools[i];
        for (unsigned j = 0; j < pool->options->upstream_count; j++) {
            struct upstream *upstream = &pool->upstreams[j];
            if (forget) {
                upstream->barrier = UPSTREAM_BARRIER_UNKNOWN;
                upstream->backoff = 0;
            }
            upstream_ask(upstream);
            answered &= upstream->barrier == UPSTREAM_BARRIER_YES ||
                        upstream->barrier == UPSTREAM_BARRIER_NO;
        }
    }
    return answered;
}

static void fpm_reload_drained(struct control *control)
{
    struct fpm_reload *op = control->fpm;
    for (unsigned i = 0; i < op->count; i++) {
        if (!command_pool_is_idle(control, op->pools[i])) {
            return;
        }
    }
    if (!op->reload) {
        fpm_reload_end(control, NULL);
        return;
    }
    if (!peers_are_idle(&control->peers, NULL)) {
        return; /* a pool that a reload has taken away may have had the same php-fpm */
    }
    for (unsigned i = 0; i < op->count; i++) {
        pool_shut_idle(op->pools[i]); /* php-fpm waits for them (fact 5) */
    }
    op->state = FPM_RELOAD_ASKING;
}

static void fpm_reload_started(struct control *control)
{
    struct fpm_reload *op = control->fpm;
    struct fpm_instance now;
    if (control->asked || fpm_instance_of(op->pools[op->current]->options->fpm_pid, &now) != 0 ||
        fpm_same_instance(&now, &op->before)) {
        return;
    }
    fpm_reload_next(op);
    if (op->current < op->count) {
        op->state = FPM_RELOAD_ASKING;
        return;
    }
    op->state = FPM_RELOAD_ANSWERING;
    fpm_reload_answered(op, 1);
}

int fpm_reload_poll(struct control *control)
{
    struct fpm_reload *op = control->fpm;
    if (op == NULL) {
        return 0;
    }
    if (op->state >= FPM_RELOAD_STARTING && uv_now(control->loop) >= op->deadline) {
        fpm_reload_end(control, "php-fpm has not come back within 30 s; requests go on");
        return 0;
    }
    switch (op->state) {
    case FPM_RELOAD_DRAINING:
        fpm_reload_drained(control);
        break;
    case FPM_RELOAD_ASKING:
        fpm_reload_ask(control);
        break;
    case FPM_RELOAD_STARTING:
        fpm_reload_started(control);
        break;
    case FPM_RELOAD_ANSWERING:
        if (fpm_reload_answered(op, 0)) {
            fpm_reload_end(control, NULL);
        }
        break;
    }
    return control->fpm != NULL;
}

void fpm_reload_leave_paused(struct control *control, const struct pool *pool)
{
    struct fpm_reload *op = control->fpm;
    for (unsigned i = 0; op != NULL && i < op->count; i++) {
        op->stays[i] |= op->pools[i] == pool;
    }
}

void fpm_reload_forget(struct control *control, const struct control_client *client)
{
    if (control->fpm == NULL || control->fpm->client != client) {
        return;
    }
    control->fpm->client = NULL;
    if (!control->fpm->reload) {
        free(control->fpm); /* nobody wants to know; the pool stays paused */
        control->fpm = NULL;
    }
}

void fpm_reload_cancel(struct control *control, const char *why)
{
    if (control->fpm != NULL) {
        fpm_reload_end(control, why);
    }
}
