/*
 * A line of the deferred phase: one JSON object, as the end-of-response protocol (docs/protocol.md)
 * defines it. Pure.
 */
#ifndef DEFERD_REPORT_H
#define DEFERD_REPORT_H

#include <jansson.h>
#include <stddef.h>

/* The longest report line in bytes, its LF included. */
#define REPORT_LINE_MAX 8192

enum report_event {
    REPORT_BEGIN,
    REPORT_START,
    REPORT_PROGRESS,
    REPORT_DONE,
    REPORT_FAIL,
    REPORT_SKIP,
    REPORT_ADD,
    REPORT_END,
};

struct report {
    enum report_event event;
    json_t *root;        /* owned; the strings below belong to it */
    const json_t *tasks; /* begin, add: array of strings; never NULL there */
    long long pid;       /* begin: the worker's, 0 if it did not say or is none */
    long long task;      /* start, progress, done, fail, skip: index from 0 */
    double ms;           /* done, fail: wall clock milliseconds, 0 if absent */
    double ratio;        /* progress: 0 to 1 */
    const char *text;    /* progress: text; fail: error; skip: why; "" if absent */
};

/* Returns 0 and fills *out, which the caller frees with report_free; or -1 if the line is not a
 * report: no JSON object, no known event, or a key it needs is missing or of another type. */
int report_parse(const char *line, size_t len, struct report *out);

void report_free(struct report *report);

#endif
