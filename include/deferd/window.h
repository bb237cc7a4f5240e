/*
 * The last minutes: what happened in each interval of five seconds, with histograms fine enough for
 * percentiles. A ring of fixed size. Pure: no I/O, no clock, no allocation.
 */
#ifndef DEFERD_WINDOW_H
#define DEFERD_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#define WINDOW_SLOTS   60
#define WINDOW_SLOT_NS 5000000000u

/* Four buckets for each power of two microseconds, up to about five hours: what is said of a
 * percentile is at most a quarter off. */
#define WINDOW_BUCKETS 136

enum window_time {
    WINDOW_QUEUE,
    WINDOW_RESPONSE,
    WINDOW_DEFERRED,
    WINDOW_TIMES,
};

struct window_slot {
    uint64_t number;   /* time / WINDOW_SLOT_NS, plus 1: zeroed, it is of no time */
    uint32_t requests; /* that ended */
    uint32_t failed;   /* of them */
    uint32_t waiting;  /* most requests in the queue that were seen */
    uint32_t busy;     /* most workers held that were seen */
    uint32_t times[WINDOW_TIMES][WINDOW_BUCKETS];
};

struct window {
    struct window_slot slots[WINDOW_SLOTS];
};

/* The slot of this time, in nanoseconds, which must not go back; emptied if it is a new one. */
struct window_slot *window_now(struct window *window, uint64_t now);

/* The slot that was the current one back slots before now's; NULL if nothing happened in it, or it
 * is too long ago. */
const struct window_slot *window_back(const struct window *window, uint64_t now, unsigned back);

/* Counts a duration in nanoseconds. */
void window_add(struct window_slot *slot, enum window_time which, uint64_t ns);

/* Durations of one kind, collected from several slots. Zeroed, it has none. */
struct window_sum {
    uint64_t buckets[WINDOW_BUCKETS];
    uint64_t count;
};

void window_collect(struct window_sum *sum, const struct window_slot *slot, enum window_time which);

/* The duration in milliseconds that this share of them, from 0 to 1, is not above; 0 if there are
 * none. */
double window_percentile(const struct window_sum *sum, double share);

#endif
