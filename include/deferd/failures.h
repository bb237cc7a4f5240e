/*
 * The last requests of a pool that somebody should look at. A ring of fixed size; all texts in it
 * are bytes that peers wrote, cut.
 */
#ifndef DEFERD_FAILURES_H
#define DEFERD_FAILURES_H

#include "deferd/outcome.h"

#include <stddef.h>
#include <stdint.h>

#define FAILURES_KEPT 20

struct request;

struct failure {
    uint64_t id;       /* the request's */
    uint64_t time;     /* Unix time in milliseconds */
    const char *class; /* borrowed from the configuration; NULL if it had none yet */
    enum outcome outcome;
    int status; /* HTTP, 0 for none */
    double response_ms;
    double deferred_ms;
    char method[16]; /* not terminated, as uri: they may hold any byte */
    char uri[256];
    size_t method_len;
    size_t uri_len;
    char task[160]; /* the first that failed or is unfinished, terminated; empty without one */
};

struct failures {
    struct failure ring[FAILURES_KEPT];
    uint64_t count; /* in all; the last one is at (count - 1) % FAILURES_KEPT */
};

void failures_add(struct failures *failures, const struct request *request, enum outcome outcome);

/* The one that is back places before the last, 0 being the last; NULL if there is none. */
const struct failure *failures_back(const struct failures *failures, unsigned back);

#endif
