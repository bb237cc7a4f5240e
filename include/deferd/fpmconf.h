/*
 * php-fpm's configuration, as far as it matters to what stands before it.
 */
#ifndef DEFERD_FPMCONF_H
#define DEFERD_FPMCONF_H

#include "deferd/address.h"

#include <stdint.h>

/* Where Debian has it: ROOT/8.2/fpm. */
#define FPMCONF_ROOT "/etc/php"

#define FPMCONF_TEXT_MAX 4096

/* PHP's settings. */
enum fpmconf_ini {
    FPMCONF_OUTPUT_BUFFERING,
    FPMCONF_OUTPUT_HANDLER,
    FPMCONF_ZLIB,
    FPMCONF_AUTO_PREPEND,
    FPMCONF_OPEN_BASEDIR,
    FPMCONF_DISABLED,      /* disable_functions in php.ini, for all pools */
    FPMCONF_DISABLED_POOL, /* those that the pool adds */
    FPMCONF_INIS,
};

struct fpmconf_setting {
    char value[FPMCONF_TEXT_MAX]; /* empty if it is not set */
    char file[256];               /* where it is set */
    int admin;                    /* by php_admin_value, which php_value does not override */
};

/* One pool. All durations are milliseconds. */
struct fpmconf {
    char file[256];      /* the pool's */
    char main[256];      /* php-fpm.conf */
    unsigned version[2]; /* PHP's by the folder's name: 8, 2; 0 if that does not tell */
    char pool[64];
    char listen[ADDRESS_TEXT_MAX];
    char user[64];
    char group[64];
    char pm[16];
    unsigned max_children;
    int backlog;                /* -1: as large as the kernel takes */
    uint64_t terminate_timeout; /* 0: none */
    uint64_t control_timeout;
    struct fpmconf_setting ini[FPMCONF_INIS];
};

/* Reads the pool in this file that listens on address, with the php-fpm.conf and php.ini that
 * belong to it. Returns 0, or -1 if there is none. */
int fpmconf_read(struct fpmconf *out, const char *file, const struct address *address);

/* The same for whichever file below root it is in. */
int fpmconf_find(struct fpmconf *out, const char *root, const struct address *address);

/* 1 for On, Yes, True and numbers but 0. */
int fpmconf_is_on(const char *value);

#endif
