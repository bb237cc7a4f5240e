/*
 * A deferred phase as operators see it: a copy of what is known of it at one moment.
 */
#ifndef DEFERD_PHASE_H
#define DEFERD_PHASE_H

#include "deferd/deferral.h"
#include "deferd/outcome.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct request;

struct phase_task {
    enum task_state state;
    double ms;    /* how long it took, or has taken so far; below 0 if it has not started */
    double ratio; /* below 0 if it told none */
    const char *name;
    const char *text; /* NULL if there is none, as error */
    const char *error;
};

/* One piece of memory, strings included. */
struct phase {
    size_t size; /* its bytes */
    uint64_t id;
    long long process; /* the worker of deferd that has it */
    const char *pool;
    const char *class;
    const char *upstream;
    const char *method; /* terminated, as all of these; but bytes beyond a NUL may follow */
    const char *uri;
    size_t method_len;
    size_t uri_len;
    long long pid; /* 0 if unknown */
    int status;    /* HTTP status of the response */
    long long content_length;
    double response_ms; /* from the request's last param until the phase began, or until now */
    double started;     /* Unix time, seconds */
    double age_ms;      /* from there until now, or until its end */
    int live;
    int stopping;
    int held;             /* its response's end waits for a place */
    enum outcome outcome; /* if it is not live */
    size_t total;         /* tasks announced, of which task_count have names */
    size_t done, failed, skipped, stray;
    size_t task_count;
    struct phase_task tasks[];
};

/* Is a request in its deferred phase for long enough to speak of it? Plain requests whose worker is
 * about to say that it is free are in one too, for a moment. */
int phase_is_shown(const struct request *request);

/* outcome: how it ended; live: it did not, or has not even begun, then its age is 0. Returns NULL
 * without memory; else it is the caller's to free(). */
struct phase *phase_copy(const struct request *request, int live, enum outcome outcome);

/* What phase_json has made in full, perhaps in another process. Returns NULL if it is no such
 * object, or without memory; else it is the caller's to free(). */
struct phase *phase_parse(const json_t *json);

/* So many milliseconds have passed: one that is live grows older, and the task that runs. */
void phase_grow(struct phase *phase, double ms);

/* It is live, and what has it is gone: it ends now. */
void phase_lose(struct phase *phase);

/* When it ended, or what is known of it was written down: Unix time, seconds. */
double phase_end(const struct phase *phase);

/* "running", "stopping", or the outcome's name. */
const char *phase_state(const struct phase *phase);

/* "waiting", "running", "done", "failed" or "skipped". */
const char *phase_task_state(enum task_state state);

/* The object that docs/control.md describes; full: with what only show has. Returns NULL without
 * memory. */
json_t *phase_json(const struct phase *phase, int full);

/* How many of its tasks have ended. */
size_t phase_ended_tasks(const struct phase *phase);

/* A JSON string of bytes that a peer wrote; what is no UTF-8 is escaped as in the log. */
json_t *phase_text(const void *data, size_t len);

#endif
