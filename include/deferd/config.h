/*
 * The configuration: [global] and the pools, from a file, overrides and flags.
 */
#ifndef DEFERD_CONFIG_H
#define DEFERD_CONFIG_H

#include "deferd/buf.h"
#include "deferd/log.h"
#include "deferd/pool.h"

#include <stdio.h>

#define CONFIG_POOLS_MAX 64

#define CONFIG_DEFAULT_FILE "/etc/deferd/deferd.conf"

struct global_options {
    char error_log[256]; /* a path, or empty: standard error */
    enum log_level log_level;
    unsigned rlimit_files;      /* 0: as many as are allowed */
    uint64_t shutdown_timeout;  /* milliseconds, 0: as long as it takes; after QUIT and reload, */
    uint64_t terminate_timeout; /* and after TERM and INT */
    char pid[256];              /* a path, or empty */
    struct address metrics_listen; /* its len is 0 if there is none */
    int daemonize;
    char user[64]; /* names; empty: stays who it is */
    char group[64];
};

struct config {
    struct global_options global;
    struct pool_options *pools[CONFIG_POOLS_MAX]; /* owned */
    unsigned pool_count;
    struct buf errors; /* what is wrong: lines, each with its LF */
};

/* Sets everything to its default; there is no pool yet. */
void config_init(struct config *config);

/* Reads a file. What is wrong in it goes to config->errors. */
void config_load(struct config *config, const char *path);

/* One directive, from wherever: section "global" or a pool's name. where is what an error line
 * begins with, such as a flag. */
void config_set(struct config *config, const char *where, const char *section, const char *name,
                const char *value);

/* After all is set: looks for what is missing or does not fit together, and fills in what depends
 * on other directives. Returns 0 if there are no errors at all, else -1. */
int config_finish(struct config *config, const char *where);

/* Writes the effective configuration as a file that config_load understands. */
void config_print(const struct config *config, FILE *out);

void config_free(struct config *config);

#endif
