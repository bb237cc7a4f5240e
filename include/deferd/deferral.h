/*
 * What deferd knows of one deferred phase: its tasks, what became of each, and how it ended. Fed
 * with the application's output behind the marker. No I/O, no clock.
 */
#ifndef DEFERD_DEFERRAL_H
#define DEFERD_DEFERRAL_H

#include "deferd/lines.h"
#include "deferd/outcome.h"

#include <stddef.h>
#include <stdint.h>

/* Tasks kept by name, and the longest name, in bytes: an application that registers more is still
 * counted, but the further tasks have no names. */
#define DEFERRAL_TASKS_MAX 512
#define DEFERRAL_NAME_MAX  128

/* The longest text of a task's progress, the longest error, and how much of both one phase keeps;
 * what is beyond is not kept. */
#define DEFERRAL_TEXT_MAX   256
#define DEFERRAL_ERROR_MAX  512
#define DEFERRAL_DETAIL_MAX 16384

enum task_state {
    TASK_WAITING,
    TASK_RUNNING,
    TASK_DONE,
    TASK_FAILED,
    TASK_SKIPPED,
};

struct task {
    enum task_state state;
    float ratio;      /* of its progress, 0 to 1; below 0 if it told none */
    uint64_t started; /* events.now of its start, 0 before */
    double ms;        /* how long it took, as it said; 0 before its end */
    char *text;       /* owned; of its progress, or why it was skipped; NULL if there is none */
    char *error;      /* owned; NULL if there is none */
    char name[];      /* terminated; cut at DEFERRAL_NAME_MAX */
};

struct deferral {
    struct lines lines;
    struct task **tasks; /* owned, of length named */
    size_t named;
    size_t total; /* tasks announced, those without a name too */
    size_t done;
    size_t failed;
    size_t skipped;
    size_t nameless; /* tasks without a name that ended */
    size_t stray;    /* lines that are no report */
    size_t detail;   /* bytes of texts and errors that are kept */
    long long pid;   /* the worker's, 0 if unknown */
    int reported;    /* any report came */
    int any_fail;    /* a fail came, also for a task that was never announced */
    int any_stopped; /* a task was skipped because the phase was to stop */
    int ended;       /* the last report was end */
};

/* Called for each line that is no report (its first bytes, at most 256) and for each failure of a
 * task (name and error). Both are bytes a peer wrote. */
struct deferral_events {
    void (*stray)(void *arg, const char *line, size_t len);
    void (*failed)(void *arg, const char *task, const char *error);
    void *arg;
    uint64_t now; /* milliseconds; when this input came */
};

/* Output of the application behind the marker, in pieces of any size. */
void deferral_feed(struct deferral *deferral, const uint8_t *data, size_t len,
                   const struct deferral_events *events);

/* The output's end: what came of a line without its LF is looked at too. */
void deferral_end(struct deferral *deferral, const struct deferral_events *events);

/* How the phase ended; end_request: with the application's END_REQUEST, not just with the end of
 * its connection. */
enum outcome deferral_outcome(const struct deferral *deferral, int end_request);

/* Writes the names of all tasks, separated by ", ", into out, terminated; ends in "..." if they do
 * not fit; size is at least 5. Returns how long that is. */
size_t deferral_names(const struct deferral *deferral, char *out, size_t size);

/* The same of the tasks that are not done, failed or skipped. Returns how many such tasks there
 * are. */
size_t deferral_unfinished(const struct deferral *deferral, char *out, size_t size);

void deferral_free(struct deferral *deferral);

#endif
