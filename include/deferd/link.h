/*
 * deferctl's connection to the control socket: a line out, a line back.
 */
#ifndef DEFERD_LINK_H
#define DEFERD_LINK_H

#include <jansson.h>
#include <signal.h>
#include <stddef.h>

/* deferctl's exit codes. */
enum link_status {
    LINK_OK = 0,
    LINK_FAILED = 1, /* the command did */
    LINK_USAGE = 2,  /* wrong words */
    LINK_ABSENT = 3, /* deferd cannot be reached, or has no control socket */
    LINK_DENIED = 4, /* no permission */
};

struct link {
    const char *path; /* borrowed */
    int fd;           /* -1 while it is not connected */
    char err[512];    /* what was wrong the last time */
    /* Borrowed, and set by a handler of signals: waits for no answer any more. NULL without one. */
    const volatile sig_atomic_t *ended;
};

/* Sends a command and waits for its answer, however long; connects first if need be, and then waits
 * for a sign of life, not long. *result: the caller's to json_decref, NULL unless LINK_OK is
 * returned. */
enum link_status link_call(struct link *link, const char *command, json_t **result);

void link_close(struct link *link);

#endif
