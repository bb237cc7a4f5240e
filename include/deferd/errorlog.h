/*
 * The error log as the configuration has it.
 */
#ifndef DEFERD_ERRORLOG_H
#define DEFERD_ERRORLOG_H

#include "deferd/config.h"

#include <stddef.h>
#include <sys/types.h>

/* Goes on as global says; a new file gets this owner (-1: as it is). Returns 0, or -1 with a
 * sentence in err, then the log is where it was. */
int errorlog_open(const struct global_options *global, uid_t uid, gid_t gid, char *err,
                  size_t err_size);

/* The log follows the configuration that works now; if it cannot, it says so, and stays. */
void errorlog_follow(const struct global_options *global);

/* Opens its file again, and makes those of the requests' logs that were moved away: the workers may
 * not be able to. */
void errorlog_reopen(const struct config *config);

#endif
