/*
 * Cuts a byte stream into lines of bounded length. Pure but for the memory that holds a line which
 * arrives in parts; a line that arrives whole is not copied.
 */
#ifndef DEFERD_LINES_H
#define DEFERD_LINES_H

#include <stddef.h>
#include <stdint.h>

enum lines_kind {
    LINES_MORE, /* all input is consumed */
    LINES_LINE, /* a line, without its LF */
    LINES_LONG, /* a line longer than the limit: its beginning; the rest of it is skipped */
};

struct lines_event {
    enum lines_kind kind;
    const char *data; /* valid until the next call; not terminated */
    size_t len;
};

/* Zeroed, it waits for the first byte of a line. */
struct lines {
    char *held; /* owned; NULL unless a line is incomplete */
    size_t len;
    size_t cap;
    int skipping; /* within the rest of a line that was too long */
};

/* Consumes input up to the next event. max is the longest line with its LF. Returns the bytes
 * consumed. Without memory for the held part, the line is treated as too long. */
size_t lines_next(struct lines *lines, const uint8_t *data, size_t len, size_t max,
                  struct lines_event *ev);

/* The incomplete last line, at the stream's end: kind is LINES_LINE, or LINES_MORE if there is
 * none. */
void lines_last(struct lines *lines, struct lines_event *ev);

void lines_free(struct lines *lines);

#endif
