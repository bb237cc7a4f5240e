#include "deferd/lines.h"

#include <stdlib.h>
#include <string.h>

static int lines_hold(struct lines *lines, const uint8_t *data, size_t len)
{
    if (lines->len + len > lines->cap) {
        size_t cap = lines->cap > 0 ? lines->cap : 256;
        while (cap < lines->len + len) {
            cap *= 2;
        }
        char *held = realloc(lines->held, cap);
        if (held == NULL) {
            return -1;
        }
        lines->held = held;
        lines->cap = cap;
    }
    memcpy(lines->held + lines->len, data, len);
    lines->len += len;
    return 0;
}

/* A line was given out from held: forget it. The memory stays until the next call, for the caller
 * still reads it. */
static void lines_begin(struct lines *lines)
{
    if (lines->held != NULL && lines->len == 0) {
        lines_free(lines);
    }
}

size_t lines_next(struct lines *lines, const uint8_t *data, size_t len, size_t max,
                  struct lines_event *ev)
{
    lines_begin(lines);
    *ev = (struct lines_event){.kind = LINES_MORE};
    if (len == 0) {
        return 0;
    }
    const uint8_t *lf = memchr(data, '\n', len);
    size_t used = lf != NULL ? (size_t)(lf - data) + 1 : len;
    size_t part = lf != NULL ? used - 1 : len;

    if (lines->skipping) {
        lines->skipping = lf == NULL;
        return used;
    }
    size_t total = lines->len + part + 1;
    int held = lines->len > 0;
    if (total <= max && lf != NULL && !held) {
        *ev = (struct lines_event){LINES_LINE, (const char *)data, part};
        return used;
    }
    if (total <= max && lines_hold(lines, data, part) == 0) {
        if (lf != NULL) {
            *ev = (struct lines_event){LINES_LINE, lines->held, lines->len};
            lines->len = 0;
        }
        return used;
    }
    /* Too long: give out its beginning, as much of it as there is room for. */
    lines->skipping = lf == NULL;
    ev->kind = LINES_LONG;
    if (held && total > max) {
        lines_hold(lines, data, max - 1 - lines->len);
    }
    ev->data = held ? lines->held : (const char *)data;
    ev->len = held ? lines->len : part;
    lines->len = 0;
    return used;
}

void lines_last(struct lines *lines, struct lines_event *ev)
{
    *ev = (struct lines_event){.kind = LINES_MORE};
    if (lines->len > 0) {
        *ev = (struct lines_event){LINES_LINE, lines->held, lines->len};
        lines->len = 0;
    }
}

void lines_free(struct lines *lines)
{
    free(lines->held);
    *lines = (struct lines){.skipping = lines->skipping};
}
