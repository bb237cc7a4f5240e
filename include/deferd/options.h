/*
 * deferd's command line.
 */
#ifndef DEFERD_OPTIONS_H
#define DEFERD_OPTIONS_H

#include "deferd/log.h"
#include "deferd/pool.h"

struct options {
    struct pool_options pool;
    unsigned max_workers;   /* of upstreams that do not say; 0 if not given */
    uint64_t queue_timeout; /* of classes that do not say; milliseconds */
    enum log_level log_level;
};

enum options_result {
    OPTIONS_RUN,   /* start */
    OPTIONS_DONE,  /* --help or --version was answered */
    OPTIONS_WRONG, /* said on standard error what is wrong and what is allowed */
};

enum options_result options_parse(struct options *options, int argc, char **argv);

#endif
