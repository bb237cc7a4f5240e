/*
 * Stopping a deferred phase from outside: a file that the application looks for between callbacks,
 * or a signal to the worker.
 */
#ifndef DEFERD_STOP_H
#define DEFERD_STOP_H

#include "deferd/outcome.h"

#include <stddef.h>

struct request;

/* The log says, with the request's number and the worker's pid, when the signal was sent. */
#define STOP_FORCED_LINE "request %llu: its worker, process %d, was told to end"

enum stop_state {
    STOP_NONE,
    STOP_ASKED,  /* the file is there */
    STOP_FORCED, /* the worker was signalled */
};

/* Removes the stop files in a directory whose process is gone. For a process that begins. */
void stop_sweep(const char *directory);

/* Chooses the name of the request's stop file, and writes its path to out; an empty one if there is
 * no directory for it. Returns 0, or -1 without random bytes. */
int stop_name(struct request *request, char *out, size_t size);

/* The begin report came: from here on the worker can be told from others with the same pid. */
void stop_know_worker(struct request *request);

/* Asks the phase to skip what has not started. Returns 0, or -1 with a sentence in err. */
int stop_ask(struct request *request, char *err, size_t err_size);

/* Ends its worker, callback and all, with SIGTERM, if that process is a php-fpm worker of the
 * request's upstream. Returns 0, or -1 with a sentence in err. If this process may not do that, ask
 * is what the master is to be asked for, otherwise empty. */
int stop_force(struct request *request, char *ask, size_t ask_size, char *err, size_t err_size);

/* The master has not done so. */
void stop_not_forced(struct request *request);

/* What the outcome of its phase is, seen that it may have been stopped. */
enum outcome stop_outcome(const struct request *request, enum outcome outcome);

/* The request is over: removes its file. */
void stop_end(struct request *request);

#endif
