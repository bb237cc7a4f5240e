/*
 * A request's head: the records that go upstream before its body, from BEGIN_REQUEST to the empty
 * PARAMS, and what deferd itself reads out of the params. Pure but for its memory.
 */
#ifndef DEFERD_HEAD_H
#define DEFERD_HEAD_H

#include "deferd/buf.h"
#include "deferd/params.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes within a buffer. */
struct slice {
    const uint8_t *data; /* borrowed from the buffer */
    size_t len;
};

#define HEAD_LENGTH_NONE (-1)
#define HEAD_LENGTH_ODD  (-2)

/* Zeroed, it is empty. */
struct head {
    struct buf records;  /* after head_shed only what method and uri point at */
    struct slice method; /* in records, as are uri and class_name; the last of a name counts */
    struct slice uri;
    struct slice class_name; /* DEFERD_CLASS */
    struct slice script;     /* SCRIPT_NAME, and QUERY_STRING: for deferd's own pages */
    struct slice query;
    const char *stop;         /* borrowed until head_end; what DEFERD_STOP is to be, or NULL;
                                 head_end makes it NULL if there is no room for it */
    long long content_length; /* HEAD_LENGTH_NONE, or HEAD_LENGTH_ODD if it is no number */
    uint8_t is_head;          /* HEAD */
    uint8_t is_safe;          /* GET, HEAD, OPTIONS: without side effects (RFC 9110, 9.2.1) */
    uint8_t done;             /* head_end succeeded */
    uint8_t shed;             /* head_shed was called */
};

/* Content of PARAMS records. Returns 0; UV_E2BIG if it is more than max bytes in all; UV_ENOMEM. */
int head_add(struct head *head, const uint8_t *data, size_t len, size_t max);

/* The longest path that goes as DEFERD_STOP. */
#define HEAD_STOP_MAX 127

/* The params are complete; DEFERD_STOP goes behind them, if it is wanted and fits into the last of
 * their records, and DEFERD_TOKEN in a record of its own. Returns 0; UV_EINVAL if they are
 * malformed; UV_E2BIG if one of them is too long for any record; UV_ENOMEM. */
int head_end(struct head *head, const char *token);

/* Sets or clears KEEP_CONN, which is not set at first. */
void head_keep_conn(struct head *head, int keep);

/* Frees all but method and uri, the latter cut at HEAD_URI_KEPT. */
void head_shed(struct head *head);

#define HEAD_URI_KEPT 1024

/* Where a walk through the params stands. Zeroed, it stands before the first. */
struct head_walk {
    size_t at;   /* in records */
    size_t left; /* in the current one */
};

/* The next param, between head_end and head_shed; DEFERD_TOKEN is the last. Returns 0 if there is
 * none. */
int head_next_param(const struct head *head, struct head_walk *walk, struct param *out);

void head_free(struct head *head);

#endif
