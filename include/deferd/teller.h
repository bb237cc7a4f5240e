/*
 * In a worker that drains: tells the worker that works of its deferred phases, as they change, and
 * of those that ended, so that operators see them; and does what that one asks of it (see peer.h).
 */
#ifndef DEFERD_TELLER_H
#define DEFERD_TELLER_H

#include "deferd/buf.h"
#include "deferd/control.h"
#include "deferd/lines.h"

#include <stdint.h>
#include <uv.h>

struct teller_events {
    /* Hands one end of a stream to the worker that works, or to the next that will. The descriptor
     * stays the caller's. Returns 0 or UV_E…: not now. */
    int (*hand_over)(void *arg, int fd);
    void *arg;
};

/* Zeroed, it has not begun. */
struct teller {
    struct control *control; /* borrowed: whose proxy and history; NULL before the beginning */
    struct teller_events events;
    uv_timer_t timer; /* the next round */
    uv_pipe_t pipe;   /* to the worker that works */
    int open;         /* the pipe is */
    int closing;      /* or is closing */
    int last;         /* when that worker is gone, there will be no other */
    int greeted;
    struct lines lines; /* what it asks */
    struct buf out;     /* lines that the socket did not take, from out_at on */
    size_t out_at;
    char *busy;          /* owned; what was said last of the pools */
    uint64_t round;      /* in each a phase is told at most once, however often it changes */
    uint64_t next_ended; /* of the history, as history.added counts */
    struct buf gone;     /* ids of phases that were told as live and have ended */
    char input[1024];
};

/* Begins. Nothing of it keeps the loop. */
void teller_start(struct teller *teller, struct control *control,
                  const struct teller_events *events);

/* A request ended; called for each, behind control_request_ended. */
void teller_request_ended(struct teller *teller, const struct request *request);

/* The worker that works ends too. */
void teller_last(struct teller *teller);

/* Says what is left to say, for which it waits a moment, and ends; the loop has to run once more
 * before the memory goes. */
void teller_close(struct teller *teller);

/* After that. */
void teller_free(struct teller *teller);

#endif
