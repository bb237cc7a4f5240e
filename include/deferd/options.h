/*
 * deferd's command line.
 */
#ifndef DEFERD_OPTIONS_H
#define DEFERD_OPTIONS_H

#include "deferd/config.h"

#define OPTIONS_OVERRIDES_MAX 256

struct options {
    struct config config;
    char file[256];  /* the configuration's, absolute; empty if there are flags instead */
    char source[32]; /* where that is to be read from this once, complete; empty: from file */
    const char *overrides[OPTIONS_OVERRIDES_MAX]; /* -o's arguments; they count after the file */
    unsigned override_count;
    int worker; /* started by a master */
};

enum options_result {
    OPTIONS_RUN,   /* start */
    OPTIONS_DONE,  /* -h, -v, -t or -T was answered */
    OPTIONS_WRONG, /* said on standard error what is wrong and what is allowed */
};

/* Reads file and overrides once more, into a configuration of its own. Returns 0, or -1 with what
 * is wrong in out->errors. */
int options_load(const struct options *options, struct config *out);

enum options_result options_parse(struct options *options, int argc, char **argv);

#endif
