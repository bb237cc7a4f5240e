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
    history->bytes += phase->size;
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
