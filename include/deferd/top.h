/*
 * deferctl top: what runs, live.
 */
#ifndef DEFERD_TOP_H
#define DEFERD_TOP_H

#include "deferd/link.h"

struct top_options {
    int json;     /* a line of JSON each time, instead of a screen */
    long count;   /* how often, 0: until it is ended */
    int delay_ms; /* in between */
};

/* Its words, the first of which is its name: -n COUNT and -d SECONDS. Sets all but json. Returns 0,
 * or -1 if they are wrong. */
int top_parse(struct top_options *options, int count, char **words);

/* In a terminal it runs until q, end of input or a signal; the terminal is then as before. */
enum link_status top_run(struct link *link, const struct top_options *options);

#endif
