/*
 * Happy path: once a second each worker is asked, and answers; what the one that works answers is
 * what systemd's watchdog hears of.
 * Failure modes: a worker that is not ready in time, does not answer for hang_timeout, or has not
 * ended long after it should have cut by itself what runs, is killed; what it worked on is lost,
 * and the master replaces it. Time is counted in turns of the timer: after the machine or the
 * master itself was stopped, a worker has not been silent for all of that.
 */
#include "deferd/pulse.h"

#include "deferd/log.h"

#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#define PULSE_MS       1000
#define PULSE_FIRST_MS 10

/* How long a worker may take to say that it is ready. */
#define PULSE_START_MS 30000

/* How long it may take to end after its time is up: it cuts by itself what runs. */
#define PULSE_GRACE_MS 3000

/* How often at least a worker was asked before it is killed. */
#define PULSE_TURNS 4

static void pulse_kill(struct child *child)
{
    log_line(LOG_ALERT, "worker %d hangs: %s; it is killed", (int)child->pid, child->why);
    child->hung = 1;
    kill(child->pid, SIGKILL);
}

static void pulse_ask(const struct pulse *pulse, struct child *child)
{
    uint64_t limit = *pulse->limit;
    if (!child->asked) {
        child->asked = 1;
        child->silent = 0;
        child_tell(child, "ping");
        return;
    }
    child->silent += pulse->period;
    if (limit > 0 && child->silent >= limit) {
        snprintf(child->why, sizeof(child->why), "it has given no sign of life for %llu ms",
                 (unsigned long long)child->silent);
        pulse_kill(child);
    }
}

static void pulse_count_down(const struct pulse *pulse, struct child *child)
{
    if (child->left == 0) {
        return;
    }
    child->left = child->left > pulse->period ? child->left - pulse->period : 0;
    if (child->left == 0) {
        if (child == *pulse->candidate) {
            snprintf(child->why, sizeof(child->why), "it was not ready within %d s",
                     PULSE_START_MS / 1000);
        } else {
            snprintf(child->why, sizeof(child->why), "it has not ended in time");
        }
        pulse_kill(child);
    }
}

static uint64_t pulse_period(const struct pulse *pulse)
{
    uint64_t limit = *pulse->limit;
    uint64_t period = PULSE_MS;
    if (limit > 0 && limit / PULSE_TURNS < period) {
        period = limit / PULSE_TURNS;
    }
    if (pulse->watchdog > 0 && pulse->watchdog / 3 < period) {
        period = pulse->watchdog / 3;
    }
    return period > 0 ? period : 1;
}

static void pulse_on_turn(uv_timer_t *timer)
{
    struct pulse *pulse = timer->data;
    for (struct child *child = *pulse->children; child != NULL; child = child->next) {
        if (!child->hung) {
            pulse_count_down(pulse, child);
        }
        if (!child->hung && child != *pulse->candidate) {
            pulse_ask(pulse, child);
        }
    }
    if (*pulse->current == NULL) {
        sd_notify(0, "WATCHDOG=1"); /* without a worker, the master is what works */
    }
    pulse->period = pulse_period(pulse);
    uv_timer_start(timer, pulse_on_turn, pulse->period, 0);
}

int pulse_open(struct pulse *pulse, uv_loop_t *loop)
{
    uint64_t watchdog_us;
    pulse->timer.data = pulse;
    pulse->watchdog = sd_watchdog_enabled(0, &watchdog_us) > 0 ? watchdog_us / 1000 : 0;
    pulse->period = PULSE_FIRST_MS;
    int rc = uv_timer_init(loop, &pulse->timer);
    return rc != 0 ? rc : uv_timer_start(&pulse->timer, pulse_on_turn, pulse->period, 0);
}

void pulse_answered(const struct pulse *pulse, struct child *child)
{
    child->asked = 0;
    child->silent = 0;
    if (child == *pulse->current) {
        sd_notify(0, "WATCHDOG=1");
    }
}

void pulse_expect_ready(struct child *child)
{
    child->left = PULSE_START_MS;
}

void pulse_is_ready(struct child *child)
{
    child->left = 0;
}

void pulse_expect_end(struct child *child, uint64_t limit)
{
    child->left = limit > 0 ? limit + PULSE_GRACE_MS : 0;
}
