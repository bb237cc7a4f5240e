#include "deferd/window.h"

#include <string.h>

static struct window_slot *window_place(struct window *window, uint64_t number)
{
    return &window->slots[number % WINDOW_SLOTS];
}

struct window_slot *window_now(struct window *window, uint64_t now)
{
    uint64_t number = now / WINDOW_SLOT_NS + 1;
    struct window_slot *slot = window_place(window, number);
    if (slot->number != number) {
        memset(slot, 0, sizeof(*slot));
        slot->number = number;
    }
    return slot;
}

const struct window_slot *window_back(const struct window *window, uint64_t now, unsigned back)
{
    uint64_t number = now / WINDOW_SLOT_NS + 1;
    if (back >= WINDOW_SLOTS || back >= number) {
        return NULL;
    }
    const struct window_slot *slot = window_place((struct window *)window, number - back);
    return slot->number == number - back ? slot : NULL;
}

/* 0 to 3 have a bucket each; from there on the two bits behind the highest one choose between four
 * buckets for each power of two. */
static unsigned window_bucket(uint64_t us)
{
    if (us < 4) {
        return (unsigned)us;
    }
    unsigned power = 63 - (unsigned)__builtin_clzll(us);
    unsigned bucket = 4 * (power - 1) + (unsigned)(us >> (power - 2) & 3);
    return bucket < WINDOW_BUCKETS ? bucket : WINDOW_BUCKETS - 1;
}

/* The smallest number of microseconds in a bucket. */
static uint64_t window_lower(unsigned bucket)
{
    if (bucket < 4) {
        return bucket;
    }
    unsigned power = bucket / 4 + 1;
    return (4 + (uint64_t)bucket % 4) << (power - 2);
}

void window_add(struct window_slot *slot, enum window_time which, uint64_t ns)
{
    slot->times[which][window_bucket(ns / 1000)]++;
}

void window_collect(struct window_sum *sum, const struct window_slot *slot, enum window_time which)
{
    if (slot == NULL) {
        return;
    }
    for (unsigned i = 0; i < WINDOW_BUCKETS; i++) {
        sum->buckets[i] += slot->times[which][i];
        sum->count += slot->times[which][i];
    }
}

double window_percentile(const struct window_sum *sum, double share)
{
    double wanted = share * (double)sum->count;
    double below = 0;
    if (sum->count == 0) {
        return 0;
    }
    for (unsigned i = 0; i < WINDOW_BUCKETS; i++) {
        double here = (double)sum->buckets[i];
        if (here > 0 && below + here >= wanted) {
            /* As if those in the bucket were spread evenly over it. */
            double lower = (double)window_lower(i);
            double upper = (double)window_lower(i + 1);
            return (lower + (upper - lower) * (wanted - below) / here) / 1000;
        }
        below += here;
    }
    return (double)window_lower(WINDOW_BUCKETS) / 1000;
}
