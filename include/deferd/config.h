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

/* The longest value of a directive, with its end. */
#define CONFIG_VALUE_MAX 3072

#define CONFIG_DEFAULT_FILE "/etc/deferd/deferd.conf"

struct global_options {
    char error_log[256]; /* a path, syslog, stderr, or empty: stderr */
    enum log_level log_level;
    enum log_format log_format;
    int syslog_facility; /* syslog's number */
    char syslog_ident[32];
    char syslog_socket[108];
    unsigned rlimit_files;      /* 0: as many as are allowed */
    uint64_t shutdown_timeout;  /* milliseconds, 0: as long as it takes; after QUIT and reload, */
    uint64_t terminate_timeout; /* and after TERM and INT */
    uint64_t hang_timeout;      /* milliseconds a worker may give no sign of life, 0: any time */
    char pid[256];              /* a path, or empty */
    struct address metrics_listen; /* its len is 0 if there is none */
    int daemonize;
    char user[64]; /* names; empty: stays who it is */
    char group[64];
    char control[108]; /* paths of the control sockets, or empty */
    mode_t control_mode;
    char control_group[64];
    char readonly[108];
    mode_t readonly_mode;
    char readonly_group[64];
    char stop_dir[81]; /* a path, or empty: deferred phases cannot be asked to stop */
};

struct config {
    struct global_options global;
    struct pool_options *pools[CONFIG_POOLS_MAX]; /* owned */
    unsigned pool_count;
    int from_file;        /* config_load was called */
    int handed_on;        /* what it reads comes from another process of deferd's */
    unsigned error_count; /* all, errors holds the first ones */
    struct buf errors;    /* what is wrong: lines, each with its LF */
};

/* Sets everything to its default; there is no pool yet. */
void config_init(struct config *config);

/* Reads a file. What is wrong in it goes to config->errors. */
void config_load(struct config *config, const char *path);

/* One directive, from wherever: section "global" or a pool's name. where is what an error line
 * begins with, such as a flag. */
void config_set(struct config *config, const char *where, const char *section, const char *name,
                const char *value);

/* The pool of this name, or NULL. */
const struct pool_options *config_find_pool(const struct config *config, const char *name);

/* The pool of this name is paused, or not any more; nothing happens if there is none. */
void config_set_paused(struct config *config, const char *name, int paused);

/* Those of its pools are paused that are in this one. */
void config_keep_paused(struct config *config, const struct config *from);

/* A section begins: a pool is there even if no directive of it is. */
void config_section(struct config *config, const char *where, const char *name);

/* Collects a line about what is wrong. */
__attribute__((format(printf, 2, 3))) void config_error(struct config *config, const char *format,
                                                        ...);

/* After all is set: looks for what is missing or does not fit together, and fills in what depends
 * on other directives. Returns 0 if there are no errors at all, else -1. */
int config_finish(struct config *config, const char *where);

/* Writes the effective configuration as a file that config_load understands; hand_on: with all that
 * another process of deferd's is to know of it, such as what hosts' names stand for. */
void config_print(const struct config *config, int hand_on, FILE *out);

void config_free(struct config *config);

#endif
