/*
 * The deferred phases that ended last.
 */
#ifndef DEFERD_HISTORY_H
#define DEFERD_HISTORY_H

#include "deferd/phase.h"

#include <stddef.h>
#include <stdint.h>

/* How many are kept, and how many bytes they may take up in all. */
#define HISTORY_COUNT 1000
#define HISTORY_BYTES (4U << 20)

/* Zeroed, it is empty. */
struct history {
    struct phase *phases[HISTORY_COUNT]; /* a ring, owned */
    unsigned first;                      /* the oldest */
    unsigned count;
    size_t bytes;
    uint64_t added; /* ever */
};

/* Takes the phase over; the oldest make room. */
void history_add(struct history *history, struct phase *phase);

/* The same for one that ended in another process: it goes to its place by the time of its end,
 * unless it is there already, or is older than all and there is no room. */
void history_insert(struct history *history, struct phase *phase);

/* The i-th, the oldest first. */
const struct phase *history_at(const struct history *history, unsigned i);

/* NULL if it is not, or no more, there. */
const struct phase *history_find(const struct history *history, uint64_t id);

void history_free(struct history *history);

#endif
