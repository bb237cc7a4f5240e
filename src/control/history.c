#include "deferd/history.h"

#include <stdlib.h>

static void history_drop(struct history *history)
{
    struct phase *oldest = history->phases[history->first];
    history->bytes -= oldest->size;
    history->first = (history->first + 1) % HISTORY_COUNT;
    history->count--;
    free(oldest);
}

void history_add(struct history *history, struct phase *phase)
{
    while (history->count > 0 &&
           (history->count == HISTORY_COUNT || history->bytes + phase->size > HISTORY_BYTES)) {
        history_drop(history);
    }
    history->phases[(history->first + history->count) % HISTORY_COUNT] = phase;
    history->count++;
    history->added++;
    history->bytes += phase->size;
}

static struct phase **history_place(struct history *history, unsigned i)
{
    return &history->phases[(history->first + i) % HISTORY_COUNT];
}

void history_insert(struct history *history, struct phase *phase)
{
    double end = phase_end(phase);
    int full = history->count == HISTORY_COUNT || history->bytes + phase->size > HISTORY_BYTES;
    if (history_find(history, phase->id) != NULL ||
        (full && history->count > 0 && end < phase_end(history_at(history, 0)))) {
        free(phase);
        return;
    }
    history_add(history, phase);
    for (unsigned i = history->count - 1; i > 0 && phase_end(history_at(history, i - 1)) > end;
         i--) {
        *history_place(history, i) = *history_place(history, i - 1);
        *history_place(history, i - 1) = phase;
    }
}

const struct phase *history_at(const struct history *history, unsigned i)
{
    return history->phases[(history->first + i) % HISTORY_COUNT];
}

const struct phase *history_find(const struct history *history, uint64_t id)
{
    for (unsigned i = 0; i < history->count; i++) {
        if (history_at(history, i)->id == id) {
            return history_at(history, i);
        }
    }
    return NULL;
}

void history_free(struct history *history)
{
    while (history->count > 0) {
        history_drop(history);
    }
}
