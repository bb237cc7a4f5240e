/*
 * deferd --check: what does not fit between deferd's configuration and php-fpm's.
 */
#ifndef DEFERD_CHECK_H
#define DEFERD_CHECK_H

#include "deferd/config.h"

/* Prints what it finds on standard output, one finding a line. root: the folder of php-fpm's
 * configuration, FPMCONF_ROOT. Returns the process's exit status: 1 if anything is wrong. */
int check_run(const struct config *config, const char *root);

#endif
