/*
 * deferd's command line.
 */
#ifndef DEFERD_OPTIONS_H
#define DEFERD_OPTIONS_H

#include "deferd/config.h"

struct options {
    struct config config;
    char file[256]; /* the configuration's; empty if there are flags instead */
};

enum options_result {
    OPTIONS_RUN,   /* start */
    OPTIONS_DONE,  /* -h, -v, -t or -T was answered */
    OPTIONS_WRONG, /* said on standard error what is wrong and what is allowed */
};

enum options_result options_parse(struct options *options, int argc, char **argv);

#endif
