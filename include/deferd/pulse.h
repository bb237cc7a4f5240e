/*
 * Whether the master's workers are alive: each is asked in turn, and one that hangs is killed.
 */
#ifndef DEFERD_PULSE_H
#define DEFERD_PULSE_H

#include "deferd/child.h"

#include <stdint.h>
#include <uv.h>

struct pulse {
    uv_timer_t timer;
    struct child *const *children;  /* borrowed: the head of their list */
    struct child *const *current;   /* borrowed: the one that works, or NULL */
    struct child *const *candidate; /* borrowed: not asked, for it may take longer to start */
    const uint64_t *limit;          /* borrowed: hang_timeout; 0: for ever */
    uint64_t period;                /* until the timer's next turn */
    uint64_t watchdog;              /* systemd wants to hear as often; 0: never */
};

/* Begins; all that is borrowed is set. Returns 0 or UV_E…. */
int pulse_open(struct pulse *pulse, uv_loop_t *loop);

/* A child is alive. */
void pulse_answered(const struct pulse *pulse, struct child *child);

/* A child was started, and is to be ready soon. */
void pulse_expect_ready(struct child *child);
void pulse_is_ready(struct child *child);

/* A child is to have ended within so many milliseconds; 0: whenever. */
void pulse_expect_end(struct child *child, uint64_t limit);

#endif
