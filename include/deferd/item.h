/*
 * One item of an access log's format, such as %s or %{HTTP_HOST}e, and how it is filled in.
 */
#ifndef DEFERD_ITEM_H
#define DEFERD_ITEM_H

#include "deferd/outcome.h"

#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct item;
struct request;

#define ITEM_NAME_MAX 64

/* A line that is being written. */
struct item_line {
    const struct request *request;
    enum outcome outcome;
    uint64_t now; /* uv_hrtime() */
    struct timespec wall;
    char *out;
    size_t at;
    size_t size;
    size_t room;    /* for what peers sent, */
    size_t limit;   /* for one of those texts, */
    unsigned peers; /* and how many of them are to come */
};

/* Where an item's value comes from. */
enum item_source {
    ITEM_OWN,    /* deferd: it is short */
    ITEM_PEER,   /* method, URI or names of tasks, which the request keeps */
    ITEM_HEADER, /* the response's header block, which is gone by the time of the line */
    ITEM_PARAM,  /* the params, which may be */
};

struct item_kind {
    const char *name; /* the letter, or the NAME of %{NAME}x */
    enum item_source source;
    void (*put)(struct item_line *line, struct item *item);
    const char *param; /* the param that it shows, if it is always the same */
};

struct item {
    const struct item_kind *kind;
    char name[ITEM_NAME_MAX]; /* what stood in braces; a literal's text */
    int quoted;               /* it stands between double quotes */
    unsigned note;            /* its place in the request's note, from 1; 0 if it has none */
    double unit;              /* of durations, in nanoseconds */
    time_t second;            /* what text shows, of times */
    char text[64];
};

/* Makes it an item of this letter; what stood in braces is in item->name. Returns 0, or -1 with a
 * sentence in err. */
int item_set(struct item *item, char letter, char *err, size_t err_size);

/* Makes it what is in item->name. */
void item_set_literal(struct item *item);

/* Adds its value to the line. */
void item_put(struct item *item, struct item_line *line);

/* Adds its value, which goes, to the request's note. Returns 0 or UV_ENOMEM. */
int item_note_header(const struct item *item, struct request *request, const uint8_t *data,
                     size_t len);
int item_note_param(const struct item *item, struct request *request);

#endif
